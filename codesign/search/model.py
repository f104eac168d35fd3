"""What channel levels and formats do to the error: a ridge regression with a smooth prior, and pairs where they show.

    error(choice) = base + sum_d h_d(choice_d) + sum_{d<e} h_de(choice_d, choice_e) + noise

Every h is zero at the densest entry. The prior of h_d is a Gaussian process over the share of channels removed, or over
the rounding step and the range of each role's bits, so that a measured entry informs its neighbours; a cheap proxy of
the damage, where there is one, is its mean up to a factor. The pairs have the product of the priors of their parts (the
second-order additive kernel of Duvenaud et al. 2011, arXiv 1112.4394). How large each part is, is estimated from the
data; the weight of the pairs is 0 where that explains the data best.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from codesign.design import DesignPoint, LayerFormats, Role
from codesign.search.space import Choice, Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Standard deviation of what no smooth additive model explains, as a share of a design's loss. Measured on the synthetic
# problems: 1, 3 and 10 % all do; 3 % is the best where layers interact, and costs nothing where they do not.
RELATIVE_MISFIT = 0.03
# Smallest standard error that is believed: 0.01 points.
LEAST_NOISE = 1e-4
# Weights of the pairs that are tried, relative to the product of the two first-order priors.
PAIR_WEIGHTS = (0.0, 1.0, 10.0, 100.0)
ROUNDS = 12  # of the estimation of scales; they move by less than a few per cent after ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Whitened first-order prior.

    own : per decision, shape (entries, unknowns): effect of each entry by unknowns of unit variance
    guesses : per decision, shape (entries, columns): what proxies say of each entry, a column each, with one unknown
        factor for all decisions
    """

    own: tuple[Floats, ...]
    guesses: tuple[Floats, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """Gaussian posterior of the error given measured choices.

    kernels : own covariance of each decision's entries, scaled
    guesses : columns of each decision, scaled
    pairs : weight of the second-order part
    """

    kernels: tuple[Floats, ...]
    guesses: tuple[Floats, ...]
    base_variance: float
    pairs: float
    known: Ints
    factor: tuple[Floats, bool]
    weights: Floats
    log_evidence: float

    def mean(self, choices: Sequence[Choice] | Ints) -> Floats:
        """Expected error of each choice."""
        rows = np.asarray(choices, dtype=np.int64).reshape(-1, len(self.kernels))
        parts = [self._covariance(rows[i : i + 1024], self.known) @ self.weights for i in range(0, len(rows), 1024)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def deviation(self, choices: Sequence[Choice] | Ints) -> Floats:
        """Standard deviation of the error of each choice, without the noise of a training."""
        rows = np.asarray(choices, dtype=np.int64).reshape(-1, len(self.kernels))
        cross = self._covariance(rows, self.known)
        first, squares = np.zeros((2, len(rows)))
        for d, kernel in enumerate(self.kernels):
            own = np.diag(kernel)[rows[:, d]]
            first, squares = first + own, squares + own**2
        guessed = (_total(self.guesses, rows) ** 2).sum(axis=1)
        prior = self.base_variance + guessed + _with_pairs(first, squares, self.pairs)
        explained = np.einsum("ij,ji->i", cross, cho_solve(self.factor, cross.T))
        return np.sqrt(np.maximum(prior - explained, 0.0))

    def deviation_of_change(self, choices: Sequence[Choice], reference: Choice) -> Floats:
        """Standard deviation of the difference between the error of each choice and that of `reference`."""
        rows = np.asarray([reference, *choices], dtype=np.int64)
        cross = self._covariance(rows, self.known)
        posterior = self._covariance(rows, rows) - cross @ cho_solve(self.factor, cross.T)
        variance = np.diag(posterior) - 2 * posterior[0] + posterior[0, 0]
        return np.sqrt(np.maximum(variance[1:], 0.0))

    def effects_at(self, choice: Choice) -> tuple[list[Floats], float]:
        """Change of the expected error when one decision of `choice` takes each of its entries, and the error there."""
        here = np.asarray(choice, dtype=np.int64)
        own = [kernel[at][self.known[:, d]] for d, (kernel, at) in enumerate(zip(self.kernels, here, strict=True))]
        first = np.sum(own, axis=0)
        squares = np.sum([row**2 for row in own], axis=0)
        base = float(_with_pairs(first, squares, self.pairs) @ self.weights)
        factors = _total(self.guesses, self.known).T @ self.weights
        effects = []
        for d, (kernel, guess, at) in enumerate(zip(self.kernels, self.guesses, here, strict=True)):
            moved = kernel[:, self.known[:, d]]
            there = _with_pairs(first - own[d] + moved, squares - own[d] ** 2 + moved**2, self.pairs) @ self.weights
            effects.append(there - base + (guess - guess[at]) @ factors)
        constant = self.base_variance * float(self.weights.sum()) + _total(self.guesses, here[None])[0] @ factors
        return effects, base + float(constant)

    def _covariance(self, rows: Ints, others: Ints) -> Floats:
        guessed = _total(self.guesses, rows) @ _total(self.guesses, others).T
        return self.base_variance + guessed + _with_pairs(*_first_order(self.kernels, rows, others), self.pairs)


def fit(prior: Prior, choices: Sequence[Choice], errors: Floats, standard_errors: Floats) -> Surrogate:
    """Posterior given measured errors; the scales of all parts are estimated from them.

    Raises no error on few data: with one point, the prior alone says that everything costs as much as everything else.
    """
    known = np.asarray(choices, dtype=np.int64)
    excess = np.maximum(errors - errors.min(), 0.0)
    variances = np.maximum(standard_errors, LEAST_NOISE) ** 2 + (RELATIVE_MISFIT * excess) ** 2
    own_scales, guess_scales, base_variance = _scales(prior, known, errors, variances)
    kernels = tuple(scale * root @ root.T for scale, root in zip(own_scales, prior.own, strict=True))
    guesses = tuple(columns * np.sqrt(guess_scales) for columns in prior.guesses)
    guessed = _total(guesses, known)
    best: Surrogate | None = None
    first, squares = _first_order(kernels, known, known)
    for pairs in PAIR_WEIGHTS:
        covariance = base_variance + guessed @ guessed.T + _with_pairs(first, squares, pairs)
        covariance[np.diag_indices_from(covariance)] += variances
        factor = cho_factor(covariance, lower=True)
        weights = cho_solve(factor, errors)
        evidence = float(-0.5 * errors @ weights - np.log(np.diag(factor[0])).sum())
        if best is None or evidence > best.log_evidence:
            best = Surrogate(
                kernels=kernels,
                guesses=guesses,
                base_variance=base_variance,
                pairs=pairs,
                known=known,
                factor=factor,
                weights=weights,
                log_evidence=evidence,
            )
    assert best is not None
    return best


def _first_order(kernels: Sequence[Floats], rows: Ints, known: Ints) -> tuple[Floats, Floats]:
    """Sum over decisions of the covariances of their own parts, and of the squares of these."""
    first, squares = np.zeros((2, len(rows), len(known)))
    for d, kernel in enumerate(kernels):
        own = kernel[rows[:, d]][:, known[:, d]]
        first += own
        squares += own * own
    return first, squares


def _with_pairs(first: Floats, squares: Floats, pairs: float) -> Floats:
    """First order plus the sum over pairs of products, by Newton's identity."""
    return first + 0.5 * pairs * (first * first - squares) if pairs else first


def _total(columns_of: Sequence[Floats], rows: Ints) -> Floats:
    return np.sum([columns[rows[:, d]] for d, columns in enumerate(columns_of)], axis=0)


def _scales(prior: Prior, known: Ints, errors: Floats, variances: Floats) -> tuple[Floats, Floats, float]:
    """Variance of each decision's own part and of each guess, by expectation maximisation of the first order.

    A decision's scale is drawn towards the mean of all by four unknowns' worth of evidence: early on, few are measured.
    """
    parts = [root[known[:, d]] for d, root in enumerate(prior.own)]
    columns = np.hstack([*parts, _total(prior.guesses, known), np.ones((len(known), 1))])
    sizes = np.array([part.shape[1] for part in parts] + [1] * prior.guesses[0].shape[1], dtype=np.int64)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    own = len(parts)
    spread = max(float(np.var(errors)), LEAST_NOISE**2)
    scales = np.full(len(sizes), spread / max(len(sizes), 1))
    base_variance = float(np.mean(errors)) ** 2 + spread + LEAST_NOISE
    misfit = LEAST_NOISE**2
    for _ in range(ROUNDS):
        weight = 1.0 / (variances + misfit)
        precision = columns.T @ (columns * weight[:, None])
        precision[np.diag_indices_from(precision)] += np.append(np.repeat(1.0 / scales, sizes), 1.0 / base_variance)
        factor = cho_factor(precision, lower=True)
        mean = cho_solve(factor, columns.T @ (weight * errors))
        root = solve_triangular(factor[0], np.eye(len(mean)), lower=True)  # root' root is the posterior covariance
        power = mean**2 + (root**2).sum(axis=0)
        power = np.array([power[a:b].sum() for a, b in itertools.pairwise(edges)])
        overall = power[:own].sum() / max(edges[own], 1)
        scales = power / np.maximum(sizes, 1)
        scales[:own] = (power[:own] + 4 * overall) / (sizes[:own] + 4)
        scales = np.maximum(scales, 1e-3 * LEAST_NOISE**2)
        left = (errors - columns @ mean) ** 2 + ((root @ columns.T) ** 2).sum(axis=0)
        misfit = max(float(np.average(left - variances, weights=weight)), LEAST_NOISE**2)
    return scales[:own], scales[own:], base_variance


def prior_of(space: Space, proxy: Callable[[DesignPoint], float] | None = None) -> Prior:
    """The first-order prior of a space.

    proxy : any cheap number that grows with the damage done to a design, such as the quantization error of its weights;
        only how it ranks and spaces single changes is used, and measurements correct it
    """
    removed = sorted({1.0 - level / g.levels[0] for g in space.groups for level in g.levels})
    by_level = _root(_smooth(np.array(removed))) if removed else np.zeros((0, 0))
    formats = list(dict.fromkeys(f for layer in space.layers for f in layer.formats.values()))
    by_format = _root(_format_kernel(formats))
    rows = [[removed.index(1.0 - level / g.levels[0]) for level in g.levels] for g in space.groups]
    options = [[formats.index(f) for f in layer.formats.values()] for layer in space.layers]
    tables = [by_level[r] - by_level[r[0]] for r in rows] + [by_format[r] - by_format[r[0]] for r in options]
    own = tuple(_root(table @ table.T) for table in tables)
    if proxy is None:
        return Prior(own=own, guesses=tuple(np.zeros((len(table), 0)) for table in tables))
    groups = len(space.groups)
    changes = _single_changes(space, proxy)
    guesses = [np.outer(change, [d < groups, d >= groups]) for d, change in enumerate(changes)]
    return Prior(own=own, guesses=tuple(guesses))


def _single_changes(space: Space, proxy: Callable[[DesignPoint], float]) -> list[Floats]:
    """What `proxy` says of each single change of the densest design, scaled to a largest change of 1."""
    dense = (0,) * len(space.sizes)
    base = proxy(space.point(dense))
    tables = [
        np.array([proxy(space.point((*dense[:d], entry, *dense[d + 1 :]))) - base for entry in range(size)])
        for d, size in enumerate(space.sizes)
    ]
    largest = max(float(np.abs(table).max()) for table in tables) or 1.0
    return [table / largest for table in tables]


def _format_kernel(formats: Sequence[LayerFormats]) -> Floats:
    """Smooth in the range (2^-E) and the rounding step (2^-M) of each role; roles that always move together count once.

    Formats of equal widths that differ otherwise (bias, reserved codes) have a small part of their own.
    """
    bits = [[(getattr(f, role).exponent_bits, getattr(f, role).mantissa_bits) for f in formats] for role in Role]
    kernel = np.zeros((len(formats),) * 2)
    for column in dict.fromkeys(tuple(column) for column in bits):
        by_range, by_step = (_smooth(2.0 ** -np.array([pair[part] for pair in column])) for part in (0, 1))
        kernel += by_range + by_step + by_range * by_step
    if len({tuple(row) for row in zip(*bits, strict=True)}) < len(formats):
        kernel += 0.05 * np.eye(len(formats))
    return kernel


def _smooth(position: Floats) -> Floats:
    """Covariance of a straight line plus a random walk over `position`, scaled to the unit interval."""
    span = float(np.ptp(position))
    unit = (position - position.min()) / span if span else np.zeros_like(position)
    return np.outer(unit, unit) + np.minimum.outer(unit, unit)


def _root(kernel: Floats) -> Floats:
    """A factor R with R R' = kernel up to directions of less than a thousandth of the largest variance."""
    if not kernel.size:
        return np.zeros((len(kernel), 0))
    values, vectors = np.linalg.eigh(kernel)
    kept = values > 1e-3 * max(float(values[-1]), 1e-300)
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))
