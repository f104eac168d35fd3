"""Least squares of what a layer read on what it reads now, with a ridge that is chosen by images that were held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import lapack

from codesign.prune.moments import Means, outer

RIDGES = (1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)  # of each channel's square
_ROUNDING = 1e-14  # of the squares: errors below it are rounding
_DEAD = 1e-24  # of the largest square: a channel below it is taken as zero
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """X = Z T by least squares.

    turn : T, [blocks, k, channels]
    ridge : share of each channel's square that was added to it
    condition : of the system with channels scaled to the same square, ridge included, as LAPACK estimates it in the 1-norm
    error, held_out : what is left of X's squares, as a share: where T was fitted, and with T from one half of the images
        on the other half
    """

    turn: torch.Tensor
    ridge: float
    condition: float
    error: float
    held_out: float


def solve(one: Means, other: Means, stays: torch.Tensor) -> Solution:
    """T from two halves of the observations.

    The ridge draws T towards what a plain cut does: towards the identity on the channels that stay. It is the smallest
    whose error on the half that was held out is within a thousandth of the best.

    stays : bool [blocks, channels], which channels of x are those of z
    """
    squares = one.plus(other).zz.diagonal(dim1=1, dim2=2)
    scale = squares.clamp_min(_DEAD * float(squares.max()) or 1.0).sqrt()
    cut = torch.stack([torch.eye(len(row), dtype=torch.float64)[row] for row in stays]) * scale.unsqueeze(2)
    halves = [_Half.of(half, scale, cut) for half in (one, other)]
    left = _held_out(*halves) + _held_out(*reversed(halves))
    total = float(one.xx.sum() + other.xx.sum()) or 1.0
    good = max(left.min() * 1.001, _ROUNDING * total)
    ridge = min(ridge for ridge, error in zip(RIDGES, left, strict=True) if error <= good)
    every = _Half.of(one.plus(other), scale, cut)
    factors, conditions = zip(*(_factor(zz, ridge) for zz in every.zz), strict=True)
    correction = torch.stack([torch.cholesky_solve(zu, factor) for zu, factor in zip(every.zu, factors, strict=True)])
    unexplained = every.uu + float((correction * (every.zz @ correction - 2 * every.zu)).sum())
    return Solution(
        turn=(cut + correction) / scale.unsqueeze(2),
        ridge=ridge,
        condition=max(conditions),
        error=max(unexplained / (total / 2), 0.0),
        held_out=max(float(left.min()) / total, 0.0),
    )


@dataclass(frozen=True, slots=True)
class _Half:
    """Mean products of scaled z with itself and with u, what a plain cut leaves of x, [blocks, k, k] and
    [blocks, k, channels]; and of u with itself, summed over channels."""

    zz: torch.Tensor
    zu: torch.Tensor
    uu: float

    @classmethod
    def of(cls, means: Means, scale: torch.Tensor, cut: torch.Tensor) -> _Half:
        zz, zx = means.zz / outer(scale, scale), means.zx / scale.unsqueeze(2)
        zu = zx - zz @ cut
        return cls(zz, zu, float(means.xx.sum() - (cut * (zx + zu)).sum()))


def _held_out(fitted: _Half, seen: _Half) -> np.ndarray:
    """Squares left on `seen` with T from `fitted`, for each ridge: by one decomposition for all of them."""
    total = np.full(len(RIDGES), seen.uu)
    for zz, zu, other_zz, other_zu in zip(fitted.zz, fitted.zu, seen.zz, seen.zu, strict=True):
        values, vectors = torch.linalg.eigh(zz)
        turned = vectors.T @ zu
        linear = (turned * (vectors.T @ other_zu)).sum(1)
        square = (vectors.T @ other_zz @ vectors) * (turned @ turned.T)
        for i, ridge in enumerate(RIDGES):
            shrunk = 1 / (values.clamp_min(0) + ridge)
            total[i] += float(shrunk @ square @ shrunk - 2 * linear @ shrunk)
    found: np.ndarray = np.maximum(total, 0.0)
    return found


def _factor(zz: torch.Tensor, ridge: float) -> tuple[torch.Tensor, float]:
    """Cholesky factor of a system with its ridge, and its condition."""
    system = zz + ridge * torch.eye(len(zz), dtype=zz.dtype)
    factor = torch.linalg.cholesky(system)
    reciprocal, _ = lapack.dpocon(factor.numpy(), float(system.abs().sum(0).max()), uplo="L")
    return factor, 1 / max(float(reciprocal), _TINY)
