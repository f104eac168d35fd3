"""Fits the surrogate: the scales of its parts, the weight of pairs and the bend of the link by evidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri

from codesign.search.dp.kernels import first_order, summed, with_pairs
from codesign.search.dp.prior import Prior
from codesign.search.dp.surrogate import Link, Surrogate
from codesign.search.knowledge import Knowledge
from codesign.search.space import Choice

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Standard deviation of what neither the parts nor the pairs explain, as a share of a design's loss; both are tried.
MISFITS = (0.03, 0.1)
# Smallest standard error that is believed: 0.01 points.
LEAST_NOISE = 1e-4
# Weights of the pairs that are tried, relative to the product of the two first-order priors.
PAIR_WEIGHTS = (0.0, 1.0, 10.0, 100.0)
# Bends of the link that are tried, per unit of error; at 10 the slope has doubled at 10 points above the best error.
BENDS = (0.0, 3.0, 10.0, 30.0, -0.9)
# Rounds of the estimation of scales: from nothing, they move by less than a few per cent after ten; and from the
# estimate at another bend.
ROUNDS, FURTHER_ROUNDS = 12, 3
STUDIED = 300  # latest designs from which scales, bend and weight of the pairs are estimated; the posterior has all
# A design that keeps less than this share of the best accuracy is only known to be bad, not how bad: accuracy ends at
# chance. It counts as bad as the others say, and at least as bad as this; its standard error is 5 points.
CENSORED_SHARE, CENSORED_NOISE = 0.5, 0.05
IMPUTATIONS = 2  # rounds of estimating how bad these are


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scales:
    """Variances of the parts of the prior: of each decision, of each guess, of the constant."""

    own: Floats
    guesses: Floats
    base: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Of the second-order part, and of what is left unexplained as a share of a design's loss."""

    pairs: float
    misfit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """Measured designs: the sum behind each error, and the variance of that sum by the noise of a training."""

    known: Ints
    latent: Floats
    variances: Floats

    def noise(self, misfit: float) -> Floats:
        """Variance of each sum by noise and misfit."""
        return self.variances + (misfit * self.latent) ** 2


def surrogate_of(prior: Prior, knowledge: Knowledge) -> Surrogate:
    """The surrogate of all that has been measured."""
    known = knowledge.known
    return fit(
        prior,
        [k.choice for k in known],
        np.array([1.0 - k.measured.accuracy for k in known]),
        np.array([k.measured.standard_error for k in known]),
    )


def fit(prior: Prior, choices: Sequence[Choice], errors: Floats, standard_errors: Floats) -> Surrogate:
    """Posterior given measured errors; the scales of all parts and the link are estimated from them.

    Raises no error on few data: with one point, the prior alone says that everything costs as much as everything else.
    """
    known = np.asarray(choices, dtype=np.int64)
    noise = np.maximum(standard_errors, LEAST_NOISE)
    origin = float(errors.min())
    worst = 1.0 - CENSORED_SHARE * (1.0 - origin)
    seen = errors < worst
    studied = np.flatnonzero(seen)[-STUDIED:]
    best: tuple[Link, _Scales, _Weights] | None = None
    highest, scales = -math.inf, None
    for bend in BENDS:
        link = Link(bend=bend, origin=origin)
        data = _observed(link, known[studied], errors[studied], noise[studied])
        scales = _scales(prior, data, MISFITS[0], scales)
        weights, evidence = _weights(prior, scales, data)
        evidence -= float(np.log(link.slope_at(data.latent)).sum())
        if evidence > highest:
            best, highest = (link, scales, weights), evidence
    assert best is not None
    link, scales, weights = best
    model = _posterior(prior, scales, weights, link, _observed(link, known[seen], errors[seen], noise[seen]))
    if seen.all():
        return model
    filled, noise = errors.copy(), np.where(seen, noise, CENSORED_NOISE)
    for _ in range(IMPUTATIONS):
        filled[~seen] = np.maximum(model.mean(known[~seen]), worst)
        data = _observed(link, known[-STUDIED:], filled[-STUDIED:], noise[-STUDIED:])
        scales = _scales(prior, data, weights.misfit, scales)
        weights, _ = _weights(prior, scales, data)
        model = _posterior(prior, scales, weights, link, _observed(link, known, filled, noise))
    return model


def _observed(link: Link, known: Ints, errors: Floats, noise: Floats) -> _Data:
    latent = link.latent_of(errors)
    return _Data(known=known, latent=latent, variances=(noise / link.slope_at(latent)) ** 2)


def _weights(prior: Prior, scales: _Scales, data: _Data) -> tuple[_Weights, float]:
    """The weights with the highest evidence, and its logarithm."""
    kernels, guesses = _scaled(prior, scales)
    guessed = summed(guesses, data.known)
    constant = scales.base + guessed @ guessed.T
    first, squares = first_order(kernels, data.known, data.known)
    best, highest = _Weights(pairs=0.0, misfit=0.0), -math.inf
    for pairs, misfit in itertools.product(PAIR_WEIGHTS, MISFITS):
        covariance = constant + with_pairs(first, squares, pairs)
        covariance[np.diag_indices_from(covariance)] += data.noise(misfit)
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        half = solve_triangular(factor, data.latent, lower=True, check_finite=False)
        evidence = float(-0.5 * half @ half - np.log(np.diag(factor)).sum())
        if evidence > highest:
            best, highest = _Weights(pairs=pairs, misfit=misfit), evidence
    return best, highest


def _posterior(prior: Prior, scales: _Scales, weights: _Weights, link: Link, data: _Data) -> Surrogate:
    kernels, guesses = _scaled(prior, scales)
    guessed = summed(guesses, data.known)
    parts = with_pairs(*first_order(kernels, data.known, data.known), weights.pairs)
    covariance = scales.base + guessed @ guessed.T + parts
    covariance[np.diag_indices_from(covariance)] += data.noise(weights.misfit)
    factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    return Surrogate(
        kernels=kernels,
        guesses=guesses,
        base_variance=scales.base,
        pairs=weights.pairs,
        misfit=weights.misfit,
        known=data.known,
        factor=factor,
        weights=cho_solve(factor, data.latent),
        link=link,
    )


def _scaled(prior: Prior, scales: _Scales) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    kernels = tuple(scale * root @ root.T for scale, root in zip(scales.own, prior.own, strict=True))
    return kernels, tuple(columns * np.sqrt(scales.guesses) for columns in prior.guesses)


def _scales(prior: Prior, data: _Data, share: float, before: _Scales | None) -> _Scales:
    """Variance of each decision's own part and of each guess, by expectation maximisation of the first order.

    A decision's scale is drawn towards the mean of all by four unknowns' worth of evidence: early on, few are measured.
    Unknowns of less than a hundredth of a decision's largest variance are left out here.

    share : misfit that is taken for granted; more is estimated along
    before : an estimate to begin with
    """
    known, latent, variances = data.known, data.latent, data.noise(share)
    parts = [root[known[:, d]] for d, root in enumerate(_leading(prior.own))]
    columns = np.hstack([*parts, summed(prior.guesses, known), np.ones((len(known), 1))])
    sizes = np.array([part.shape[1] for part in parts] + [1] * prior.guesses[0].shape[1], dtype=np.int64)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    own = len(parts)
    spread = max(float(np.var(latent)), LEAST_NOISE**2)
    base = float(np.mean(latent)) ** 2 + spread + LEAST_NOISE
    scales = np.full(len(sizes), spread / max(len(sizes), 1))
    if before is not None:
        scales = np.concatenate([before.own, before.guesses])
    misfit = LEAST_NOISE**2
    for _ in range(ROUNDS if before is None else FURTHER_ROUNDS):
        weight = 1.0 / (variances + misfit)
        precision = columns.T @ (columns * weight[:, None])
        precision[np.diag_indices_from(precision)] += np.append(np.repeat(1.0 / scales, sizes), 1.0 / base)
        factor = cholesky(precision, lower=True, overwrite_a=True, check_finite=False)
        covariance = dpotri(factor, lower=True)[0]  # its lower half
        covariance += np.tril(covariance, -1).T
        mean = covariance @ (columns.T @ (weight * latent))
        power = np.add.reduceat(mean**2 + np.diag(covariance), edges[:-1])[: len(sizes)]
        power[sizes == 0] = 0.0
        overall = power[:own].sum() / max(edges[own], 1)
        scales = power / np.maximum(sizes, 1)
        scales[:own] = (power[:own] + 4 * overall) / (sizes[:own] + 4)
        scales = np.maximum(scales, 1e-3 * LEAST_NOISE**2)
        left = (latent - columns @ mean) ** 2 + np.einsum("ij,ij->i", columns @ covariance, columns)
        misfit = max(float(np.average(left - variances, weights=weight)), LEAST_NOISE**2)
    return _Scales(own=scales[:own], guesses=scales[own:], base=base)


def _leading(roots: Sequence[Floats]) -> list[Floats]:
    """The columns of each root that matter."""
    found = []
    for root in roots:
        power = (root**2).sum(axis=0)
        found.append(root[:, power > 1e-2 * power.max(initial=0.0)])
    return found
