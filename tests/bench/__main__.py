"""`python -m tests.bench`: every benchmark, one after the other."""

from tests.bench import allocate, cost, filters, prune, quantize, search_methods, whatif

for module in (allocate, cost, filters, prune, quantize, search_methods, whatif):
    module.main()
