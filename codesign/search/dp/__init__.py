"""The method `dp`: a surrogate of the error as a sum over decisions, and a dynamic program that solves it for the front.

prior.py, kernels.py -> fit.py -> surrogate.py: the error of any design, with its uncertainty
problem.py, coupling.py: what is asked, as tables -> solve.py: the exact front of sums
propose.py: designs of that front that are worth a training run; agreement.py: were they what was predicted?
hybrid.py: the method; notes.py: what a reader must know of it
"""
