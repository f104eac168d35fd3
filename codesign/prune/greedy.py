"""Greedy choice of columns by what a linear function of all columns loses: a partial Cholesky factor with pivots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import blas

_SPANNED = 1e-10  # of a column's square: less than that left, it is a linear combination of those chosen
_PANEL = 64  # columns chosen before the matrices are brought up to date
_DEAD = 1e-24  # of the largest square: a column below it is taken as zero


class Block:
    """Second moments C and weights G of one reader, laid out in units of equally many columns.

    R is what is left of C given the units chosen so far. R, G R and R G R are stored as they were at the last flush; since
    then the choices are columns of a partial Cholesky factor L, so that R - L L' is what is left now. A step looks at the
    columns of one unit only; a flush works a panel of steps into the matrices by matrix products.

    left : [units, m, m] the diagonal blocks of R; gain : [units, m, m] those of R G R; lost : trace(G R)
    """

    def __init__(self, c: np.ndarray, g: np.ndarray, units: int) -> None:
        n = len(c)
        self._m = n // units
        self._place = np.arange(units)  # of each unit in the matrices; -1 for one that has left them
        self._open = np.ones(units, bool)
        self._r = np.array(c, order="F")
        self._gr = np.asfortranarray(g @ c)
        self._rgr = np.asfortranarray(c @ self._gr)
        self.lost = float(np.trace(self._gr))
        self._begin()

    def _begin(self) -> None:
        """Start an empty panel."""
        n, m = len(self._r), self._m
        self._used = 0
        self._l, self._gl, self._rgl = (np.empty((n, max(_PANEL // m, 1) * m), order="F") for _ in range(3))
        self.left, self.gain = self._diagonal(self._r), self._diagonal(self._rgr)

    @classmethod
    def of(
        cls, c: np.ndarray, g: np.ndarray, unit: np.ndarray, own: np.ndarray, given: np.ndarray, units: int
    ) -> Block:
        """From moments and weights [k, k] of all columns.

        unit : int [k], the unit of each column where `own` holds; given : bool [k], columns that stay in any case and
        take their part of the others with them. Further columns are left out
        """
        squares = c.diagonal()
        scale = np.sqrt(np.maximum(squares, _DEAD * squares.max() or 1.0))
        c, g = c / np.outer(scale, scale), g * np.outer(scale, scale)
        if given.any():
            inner, across = c[np.ix_(given, given)], c[np.ix_(given, own)]
            root = _inverse_root(inner)
            rest = c[np.ix_(own, own)] - (across.T @ root) @ (root.T @ across)
        else:
            rest = c[np.ix_(own, own)]
        g, unit = g[np.ix_(own, own)], unit[own]
        order = np.argsort(unit, kind="stable")
        counts = np.bincount(unit, minlength=units)
        m = int(counts.max())
        if (counts == m).all():
            return cls(rest[np.ix_(order, order)], g[np.ix_(order, order)], units)
        place = unit[order] * m + np.concatenate([np.arange(count) for count in counts])
        padded = np.eye(units * m)
        weights = np.zeros_like(padded)
        padded[np.ix_(place, place)] = rest[np.ix_(order, order)]
        weights[np.ix_(place, place)] = g[np.ix_(order, order)]
        return cls(padded, weights, units)

    def _diagonal(self, full: np.ndarray) -> np.ndarray:
        units = len(full) // self._m
        blocks = full.reshape(units, self._m, units, self._m)
        return blocks[np.arange(units), :, np.arange(units)].copy()

    def gains(self) -> np.ndarray:
        """What choosing each unit next would save: [units]; nothing, for one that is chosen."""
        found = np.zeros(len(self._place))
        found[self._open] = self._gains()[self._place[self._open]]
        return found

    def _gains(self) -> np.ndarray:
        if self._m == 1:
            along, values = self.gain[:, 0], self.left[:, 0]
        else:
            values, vectors = np.linalg.eigh(self.left)
            along = (vectors * (self.gain @ vectors)).sum(1)
        gains: np.ndarray = np.divide(along, values, out=np.zeros_like(along), where=values > _SPANNED).sum(1)
        return gains

    def take(self, unit: int) -> None:
        """Choose a unit."""
        m, place = self._m, int(self._place[unit])
        rows = slice(place * m, (place + 1) * m)
        past, gl, rgl = (panel[:, : self._used] for panel in (self._l, self._gl, self._rgl))
        head = past[rows].T
        own = self._r[:, rows] - past @ head
        root = _inverse_root(own[rows])
        new_l = own @ root
        new_gl = (self._gr[:, rows] - gl @ head) @ root
        new_rgl = (self._rgr[:, rows] - rgl @ head) @ root  # with R as at the last flush
        inner = new_l.T @ new_gl
        now = new_rgl - past @ (past.T @ new_gl)
        a, b = new_l.reshape(-1, m, m), now.reshape(-1, m, m)
        cross = a @ b.mT
        self.gain += a @ inner @ a.mT - cross - cross.mT
        self.left -= a @ a.mT
        self.lost -= float(np.trace(inner))
        self._open[unit] = False
        end = self._used + m
        for panel, columns in ((self._l, new_l), (self._gl, new_gl), (self._rgl, new_rgl)):
            panel[:, self._used : end] = columns
        self._used = end
        if end == self._l.shape[1]:
            self._flush()

    def _flush(self) -> None:
        half = self._rgl - self._l @ (0.5 * (self._l.T @ self._gl))
        self._r = _less(self._r, self._l, self._l)
        self._gr = _less(self._gr, self._gl, self._l)
        self._rgr = _less(_less(self._rgr, half, self._l), self._l, half)
        stay = np.flatnonzero(self._open)
        if 2 * len(stay) * self._m <= len(self._r):
            rows = (self._place[stay, None] * self._m + np.arange(self._m)).ravel()
            self._r, self._gr, self._rgr = (
                np.asfortranarray(whole[np.ix_(rows, rows)]) for whole in (self._r, self._gr, self._rgr)
            )
            self._place = np.full(len(self._place), -1)
            self._place[stay] = np.arange(len(stay))
        self._begin()


def _less(whole: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """whole - a b', in place of `whole`, which lies in memory column by column."""
    found: np.ndarray = blas.dgemm(-1.0, a, b, 1.0, whole, trans_b=1, overwrite_c=1)
    return found


def _inverse_root(square: np.ndarray) -> np.ndarray:
    """[m, m] B with B B' the inverse of a positive semidefinite matrix; the directions that it lacks are left out."""
    values, vectors = np.linalg.eigh(square)
    return vectors * np.where(values > _SPANNED, np.maximum(values, _SPANNED) ** -0.5, 0.0)


def choose(blocks: Sequence[Block], units: int) -> tuple[list[int], np.ndarray]:
    """The order in which units are chosen, and what all blocks lose after each choice: [units + 1].

    Of equals the earlier unit is chosen.
    """
    order: list[int] = []
    errors = [sum(block.lost for block in blocks)]
    taken = np.zeros(units, bool)
    for _ in range(units):
        gains = np.sum([block.gains() for block in blocks], axis=0)
        gains[taken] = -np.inf
        unit = int(np.argmax(gains))
        for block in blocks:
            block.take(unit)
        taken[unit] = True
        order.append(unit)
        errors.append(sum(block.lost for block in blocks))
    return order, np.maximum(errors, 0.0)
