"""Covariances of the latent sum between designs: first order, pairs, and the columns of what proxies say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def first_order(kernels: Sequence[Floats], rows: Ints, known: Ints) -> tuple[Floats, Floats]:
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


def with_pairs(first: Floats, squares: Floats, pairs: float) -> Floats:
    """First order plus the sum over pairs of products, by Newton's identity."""
    return first + 0.5 * pairs * (first * first - squares) if pairs else first


def summed(columns_of: Sequence[Floats], rows: Ints) -> Floats:
    """Sum over decisions of the columns of each row's entry, shape (rows, columns)."""
    return np.asarray(np.sum([columns[rows[:, d]] for d, columns in enumerate(columns_of)], axis=0))
