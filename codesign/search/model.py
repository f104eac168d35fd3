"""What channel levels and formats do to the error: an additive model, fitted by ridge regression with a prior.

error(choice) = base + sum over groups h_g(level) + sum over layers u_l(option) + noise

Each h and u is zero at the densest entry. The prior of each is a smooth Gaussian process over its levels (by the share
of channels removed) or over the bits of each role, so that a measured entry also informs its neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from codesign.search.space import Choice, Space, widths

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Prior of one decision, whitened: effects of the entries = mean + root @ unknowns, the densest entry being 0."""

    mean: Floats
    root: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Gaussian posterior over the unknowns of all blocks and the base error (the last unknown)."""

    blocks: tuple[Block, ...]
    mean: Floats
    covariance_root: Floats
    noise: float

    def effects(self, unknowns: Floats) -> list[Floats]:
        """Effect of each entry of each decision for given unknowns."""
        found, start = [], 0
        for block in self.blocks:
            width = block.root.shape[1]
            found.append(block.mean + block.root @ unknowns[start : start + width])
            start += width
        return found

    def sample(self, rng: np.random.Generator) -> Floats:
        """Unknowns drawn from the posterior."""
        return self.mean + self.covariance_root @ rng.standard_normal(len(self.mean))

    def predict(self, choices: Sequence[Choice]) -> tuple[Floats, Floats]:
        """Mean and standard deviation (without noise) of the error of each choice."""
        rows, offset = design_matrix(self.blocks, choices)
        return offset + rows @ self.mean, np.linalg.norm(rows @ self.covariance_root, axis=1)


def design_matrix(blocks: Sequence[Block], choices: Sequence[Choice]) -> tuple[Floats, Floats]:
    """Rows of the regression and the part of the error that the prior means give."""
    picked = np.asarray(choices, dtype=np.int64).reshape(len(choices), len(blocks))
    columns = [block.root[picked[:, i]] for i, block in enumerate(blocks)]
    offset = sum((block.mean[picked[:, i]] for i, block in enumerate(blocks)), np.zeros(len(choices)))
    return np.hstack([*columns, np.ones((len(choices), 1))]), offset


def blocks_of(space: Space) -> tuple[Block, ...]:
    """Smooth priors: over the share of channels removed, and over the rounding step and range of each role's bits."""
    blocks = []
    for group in space.groups:
        removed = 1.0 - np.asarray(group.levels) / group.levels[0]
        blocks.append(_block(_smooth(removed)))
    for layer in space.layers:
        kernel = np.zeros((len(layer.formats),) * 2)
        table = np.asarray(widths(list(layer.formats.values())), dtype=float).reshape(len(layer.formats), -1, 2)
        for role in range(table.shape[1]):
            by_range, by_step = (_smooth(2.0 ** -table[:, role, part]) for part in (0, 1))
            kernel += by_range + by_step + by_range * by_step
        blocks.append(_block(kernel))
    return tuple(blocks)


def _smooth(position: Floats) -> Floats:
    """Covariance of a line plus a random walk over `position`, scaled to the unit interval."""
    span = float(np.ptp(position))
    unit = (position - position.min()) / span if span else np.zeros_like(position)
    return np.outer(unit, unit) + np.minimum.outer(unit, unit)


def _block(kernel: Floats) -> Block:
    """Whitened prior of a covariance, conditioned on the first entry having no effect."""
    anchored = kernel - kernel[:, :1] - kernel[:1, :] + kernel[0, 0]
    values, vectors = np.linalg.eigh(anchored)
    kept = values > 1e-6 * max(values[-1], 1e-300)
    return Block(mean=np.zeros(len(kernel)), root=vectors[:, kept] * np.sqrt(values[kept]))


def fit(
    blocks: Sequence[Block], choices: Sequence[Choice], errors: Floats, variances: Floats, *, rounds: int = 12
) -> Sensitivity:
    """Posterior of the effects; the scale of each block and the lack of fit are estimated from the data.

    errors, variances : measured error of each choice and its noise variance
    """
    rows, offset = design_matrix(blocks, choices)
    target = errors - offset
    widths_ = [block.root.shape[1] for block in blocks]
    edges = np.cumsum([0, *widths_])
    spread = max(float(np.var(target)), 1e-8)
    scales = np.full(len(blocks), spread / max(len(blocks), 1))
    base_precision = 1.0 / (float(np.mean(target)) ** 2 + spread + 1e-4)
    misfit = 0.1 * spread
    for _ in range(rounds):
        weight = 1.0 / (variances + misfit)
        precision = rows.T @ (rows * weight[:, None])
        precision[np.diag_indices_from(precision)] += np.append(np.repeat(1.0 / scales, widths_), base_precision)
        factor = cho_factor(precision, lower=True)
        mean = cho_solve(factor, rows.T @ (weight * target))
        root = solve_triangular(factor[0], np.eye(len(mean)), lower=True).T
        variance = np.einsum("ij,ij->i", root, root)
        power = np.array([mean[a:b] @ mean[a:b] + variance[a:b].sum() for a, b in itertools.pairwise(edges)])
        overall = power.sum() / max(edges[-1], 1)
        scales = (power + 4 * overall) / (np.asarray(widths_) + 4)
        left = target - rows @ mean
        shrink = np.einsum("ij,ij->i", rows @ root, rows @ root)
        misfit = max(float(np.mean(left**2 + shrink - variances)), 1e-10)
    return Sensitivity(blocks=tuple(blocks), mean=mean, covariance_root=root, noise=float(np.sqrt(misfit)))
