"""What channel levels and formats do to the error: a ridge regression with a smooth prior, pairs and a link where they show.

    latent(choice) = base + sum_d h_d(choice_d) + sum_{d<e} h_de(choice_d, choice_e)
    error(choice) = link(latent(choice)) + noise

Every h is zero at the densest entry. The prior of h_d is a Gaussian process over the share of channels removed, or over
the rounding step and the range of each role's bits, so that a measured entry informs its neighbours; a cheap proxy of
the damage, where there is one, is its mean up to a factor. The pairs have the product of the priors of their parts (the
second-order additive kernel of Duvenaud et al. 2011, arXiv 1112.4394). How large each part is, is estimated from the
data; the weight of the pairs is 0 where that explains the data best. The link is straight, or bends up or down: losses
that amplify or that saturate each other are a sum on another scale. Its bend is chosen by evidence, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri

from codesign.design import DesignPoint, LayerFormats, Role
from codesign.search.space import Choice, Space

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
    """Gaussian posterior of the latent sum given measured choices.

    kernels : own covariance of each decision's entries, scaled
    guesses : columns of each decision, scaled
    pairs : weight of the second-order part
    misfit : standard deviation of what is left unexplained, as a share of a design's loss
    """

    kernels: tuple[Floats, ...]
    guesses: tuple[Floats, ...]
    base_variance: float
    pairs: float
    misfit: float
    known: Ints
    factor: tuple[Floats, bool]
    weights: Floats
    link: Link

    def mean(self, choices: Sequence[Choice] | Ints) -> Floats:
        """Expected error of each choice."""
        rows = np.asarray(choices, dtype=np.int64).reshape(-1, len(self.kernels))
        parts = [self._covariance(rows[i : i + 1024], self.known) @ self.weights for i in range(0, len(rows), 1024)]
        return self.link.error_of(np.concatenate(parts)) if parts else np.zeros(0)

    def deviation(self, choices: Sequence[Choice] | Ints) -> Floats:
        """Standard deviation of the error of each choice, without the noise of a training."""
        rows = np.asarray(choices, dtype=np.int64).reshape(-1, len(self.kernels))
        cross = self._covariance(rows, self.known)
        own = [np.diag(kernel)[rows[:, d]] for d, kernel in enumerate(self.kernels)]
        first, squares = np.sum(own, axis=0), np.sum([part**2 for part in own], axis=0)
        guessed = (_total(self.guesses, rows) ** 2).sum(axis=1)
        prior = self.base_variance + guessed + _with_pairs(first, squares, self.pairs)
        return np.sqrt(np.maximum(prior - self._explained(cross), 0.0)) * self.link.slope_at(cross @ self.weights)

    def effects_at(self, choice: Choice) -> list[Floats]:
        """Expected change of the latent sum when one decision of `choice` takes each of its entries."""
        changes, _ = self._changes(choice)
        return np.split(changes @ self.weights, self._edges())

    def deviations_at(self, choice: Choice) -> list[Floats]:
        """Standard deviation of each such change."""
        changes, variances = self._changes(choice)
        deviations = np.sqrt(np.maximum(variances - self._explained(changes), 0.0))
        return np.split(deviations, self._edges())

    def _edges(self) -> Ints:
        return np.cumsum([len(kernel) for kernel in self.kernels])[:-1]

    def _changes(self, choice: Choice) -> tuple[Floats, Floats]:
        """Covariance of each single change of `choice` with what is measured, a row each, and its prior variance."""
        here = np.asarray(choice, dtype=np.int64)
        own = [kernel[at][self.known[:, d]] for d, (kernel, at) in enumerate(zip(self.kernels, here, strict=True))]
        first, squares = np.sum(own, axis=0), np.sum([row**2 for row in own], axis=0)
        at_all = [float(kernel[at, at]) for kernel, at in zip(self.kernels, here, strict=True)]
        total, total_squares = np.array(sum(at_all)), np.array(sum(v**2 for v in at_all))
        guessed = _total(self.guesses, self.known).T
        base = _with_pairs(first, squares, self.pairs)
        variance_here = _with_pairs(total, total_squares, self.pairs)
        moves, variances = [], []
        for d, (kernel, guess, at) in enumerate(zip(self.kernels, self.guesses, here, strict=True)):
            moved, own_here = kernel[:, self.known[:, d]], at_all[d]
            there = _with_pairs(first - own[d] + moved, squares - own[d] ** 2 + moved**2, self.pairs)
            beyond = guess - guess[at]
            moves.append(there - base + beyond @ guessed)
            both, alone = kernel[:, at], np.diag(kernel)
            across = _with_pairs(total - own_here + both, total_squares - own_here**2 + both**2, self.pairs)
            away = _with_pairs(total - own_here + alone, total_squares - own_here**2 + alone**2, self.pairs)
            variances.append(away - 2.0 * across + variance_here + (beyond**2).sum(axis=1))
        return np.concatenate(moves), np.concatenate(variances)

    def _explained(self, cross: Floats) -> Floats:
        """Variance that the measurements take away, given covariances with them in rows."""
        half = solve_triangular(self.factor[0], cross.T, lower=True, check_finite=False)
        return np.asarray(np.einsum("ij,ij->j", half, half))

    def _covariance(self, rows: Ints, others: Ints) -> Floats:
        guessed = _total(self.guesses, rows) @ _total(self.guesses, others).T
        return self.base_variance + guessed + _with_pairs(*_first_order(self.kernels, rows, others), self.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """error = origin + (exp(bend x latent) - 1) / bend; straight at 0, below 0 losses that saturate.

    origin : smallest measured error
    """

    bend: float
    origin: float

    def latent_of(self, errors: Floats) -> Floats:
        """The sum behind an error."""
        excess = errors - self.origin
        return np.log1p(self.bend * excess) / self.bend if self.bend else excess

    def error_of(self, latent: Floats) -> Floats:
        """The error that a sum stands for; at most about 1 + origin, whatever the sum."""
        if not self.bend:
            return self.origin + latent
        most = math.log1p(self.bend) / self.bend if self.bend > 0 else math.inf
        return self.origin + np.expm1(self.bend * np.minimum(latent, most)) / self.bend

    def slope_at(self, latent: Floats) -> Floats:
        """Derivative of the error by the sum."""
        return 1.0 + self.bend * (self.error_of(latent) - self.origin)


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
    guessed = _total(guesses, data.known)
    constant = scales.base + guessed @ guessed.T
    first, squares = _first_order(kernels, data.known, data.known)
    best, highest = _Weights(pairs=0.0, misfit=0.0), -math.inf
    for pairs, misfit in itertools.product(PAIR_WEIGHTS, MISFITS):
        covariance = constant + _with_pairs(first, squares, pairs)
        covariance[np.diag_indices_from(covariance)] += data.noise(misfit)
        factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        half = solve_triangular(factor, data.latent, lower=True, check_finite=False)
        evidence = float(-0.5 * half @ half - np.log(np.diag(factor)).sum())
        if evidence > highest:
            best, highest = _Weights(pairs=pairs, misfit=misfit), evidence
    return best, highest


def _posterior(prior: Prior, scales: _Scales, weights: _Weights, link: Link, data: _Data) -> Surrogate:
    kernels, guesses = _scaled(prior, scales)
    guessed = _total(guesses, data.known)
    parts = _with_pairs(*_first_order(kernels, data.known, data.known), weights.pairs)
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


def _first_order(kernels: Sequence[Floats], rows: Ints, known: Ints) -> tuple[Floats, Floats]:
    """Sum over decisions of the covariances of their own parts, and of the squares of these."""
    first, squares = np.zeros((2, len(rows), len(known)))
    for d, kernel in enumerate(kernels):
        _add_part(np.ascontiguousarray(kernel), rows[:, d], known[:, d], first, squares)
    return first, squares


@njit(cache=True)
def _add_part(kernel, rows, known, first, squares):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        at = rows[i]
        for j in range(len(known)):
            value = kernel[at, known[j]]
            first[i, j] += value
            squares[i, j] += value * value


def _with_pairs(first: Floats, squares: Floats, pairs: float) -> Floats:
    """First order plus the sum over pairs of products, by Newton's identity."""
    return first + 0.5 * pairs * (first * first - squares) if pairs else first


def _total(columns_of: Sequence[Floats], rows: Ints) -> Floats:
    return np.sum([columns[rows[:, d]] for d, columns in enumerate(columns_of)], axis=0)


def _scales(prior: Prior, data: _Data, share: float, before: _Scales | None) -> _Scales:
    """Variance of each decision's own part and of each guess, by expectation maximisation of the first order.

    A decision's scale is drawn towards the mean of all by four unknowns' worth of evidence: early on, few are measured.
    Unknowns of less than a hundredth of a decision's largest variance are left out here.

    share : misfit that is taken for granted; more is estimated along
    before : an estimate to begin with
    """
    known, latent, variances = data.known, data.latent, data.noise(share)
    parts = [root[known[:, d]] for d, root in enumerate(_leading(prior.own))]
    columns = np.hstack([*parts, _total(prior.guesses, known), np.ones((len(known), 1))])
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
