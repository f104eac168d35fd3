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

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from codesign.search.dp.kernels import first_order, summed, with_pairs
from codesign.search.space import Choice

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
        guessed = (summed(self.guesses, rows) ** 2).sum(axis=1)
        prior = self.base_variance + guessed + with_pairs(first, squares, self.pairs)
        spread = np.sqrt(np.maximum(prior - self._explained(cross), 0.0))
        return np.asarray(spread * self.link.slope_at(cross @ self.weights))

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
        guessed = summed(self.guesses, self.known).T
        base = with_pairs(first, squares, self.pairs)
        variance_here = with_pairs(total, total_squares, self.pairs)
        moves, variances = [], []
        for d, (kernel, guess, at) in enumerate(zip(self.kernels, self.guesses, here, strict=True)):
            moved, own_here = kernel[:, self.known[:, d]], at_all[d]
            there = with_pairs(first - own[d] + moved, squares - own[d] ** 2 + moved**2, self.pairs)
            beyond = guess - guess[at]
            moves.append(there - base + beyond @ guessed)
            both, alone = kernel[:, at], np.diag(kernel)
            across = with_pairs(total - own_here + both, total_squares - own_here**2 + both**2, self.pairs)
            away = with_pairs(total - own_here + alone, total_squares - own_here**2 + alone**2, self.pairs)
            variances.append(away - 2.0 * across + variance_here + (beyond**2).sum(axis=1))
        return np.concatenate(moves), np.concatenate(variances)

    def _explained(self, cross: Floats) -> Floats:
        """Variance that the measurements take away, given covariances with them in rows."""
        half = solve_triangular(self.factor[0], cross.T, lower=True, check_finite=False)
        return np.asarray(np.einsum("ij,ij->j", half, half))

    def _covariance(self, rows: Ints, others: Ints) -> Floats:
        guessed = summed(self.guesses, rows) @ summed(self.guesses, others).T
        return self.base_variance + guessed + with_pairs(*first_order(self.kernels, rows, others), self.pairs)
