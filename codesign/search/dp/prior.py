"""What is believed of every decision before anything is measured: smooth in channels removed and in bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.design import DesignPoint, LayerFormats, Role
from codesign.search.space import Space

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Whitened first-order prior.

    own : per decision, shape (entries, unknowns): effect of each entry by unknowns of unit variance
    guesses : per decision, shape (entries, columns): what proxies say of each entry, a column each, with one unknown
        factor for all decisions
    """

    own: tuple[Floats, ...]
    guesses: tuple[Floats, ...]


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
