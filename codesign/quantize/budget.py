"""Bits shared among channels: more where they save most error, under a budget for the mean (water-filling).

With a table of the error of each channel at each width, each further bit goes where it saves the most, until the budget is
spent. That is exact where every channel gains less from each further bit (as it does nearly always: a quarter of the error
is left by each), since the steps then come in the order in which any optimum takes them; elsewhere steps along the lower
convex hull are taken, which is Lagrange's method: Y. Shoham and A. Gersho, "Efficient bit allocation for an arbitrary set of
quantizers", IEEE Trans. ASSP 36(9), 1988. The sum without the rounding to whole steps is a lower bound, and is returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError
from codesign.quantize.allocate import Allocation, allocate
from codesign.quantize.scales import ScaleRule

WATER_FILLING = "water-filling"
_EQUAL = 1e-9  # savings that differ by less, relatively, are the same
WIDTHS = (2, 3, 4, 5, 6, 7, 8)


def distribute_bits(
    errors: npt.NDArray[np.float64], widths: Sequence[int], budget: int
) -> tuple[npt.NDArray[np.int64], float]:
    """A width for each channel with the least sum of errors, their sum at most `budget` bits.

    errors : [channels, widths]; widths ascending
    Returns the place in `widths` of each channel, and a lower bound of what any distribution can reach.
    """
    channels = len(errors)
    if budget < channels * widths[0]:
        raise FormatError(f"{channels} channels of at least {widths[0]} bits need {channels * widths[0]}, got {budget}")
    steps = [step for channel, row in enumerate(errors) for step in _steps(channel, row, widths)]
    steps.sort(key=lambda step: -step[0])  # stable: the steps of a channel stay in order, as their savings fall
    place = np.zeros(channels, np.int64)
    left = budget - channels * widths[0]
    bound = None
    total = float(errors[:, 0].sum())
    for saving, channel, start, stop in steps:
        bits = widths[stop] - widths[start]
        if place[channel] == start and bits <= left:
            place[channel] = stop
            left -= bits
            total -= float(errors[channel, start] - errors[channel, stop])
        elif bound is None:
            bound = total - saving * left
    bound = total if bound is None else bound
    while (better := _upgrade(errors, widths, place, left)) is not None:  # what the hull leaves of the budget
        channel, stop = better
        left -= widths[stop] - widths[place[channel]]
        place[channel] = stop
    return place, bound


def _steps(channel: int, row: npt.NDArray[np.float64], widths: Sequence[int]) -> list[tuple[float, int, int, int]]:
    """(error saved by each bit, channel, place, next place) along the lower convex hull of error over width."""
    steps = []
    start, least = 0, math.inf
    while start < len(widths) - 1:
        savings = [(row[start] - row[stop]) / (widths[stop] - widths[start]) for stop in range(start + 1, len(widths))]
        best = max(savings)
        if best <= 0:
            break
        stop = (
            start + 1 + next(i for i, saving in enumerate(savings) if saving >= best * (1 - _EQUAL))
        )  # of equals the nearest
        least = min(least, float(best))  # falls, also where rounding errors would have it rise
        steps.append((least, channel, start, stop))
        start = stop
    return steps


def _upgrade(
    errors: npt.NDArray[np.float64], widths: Sequence[int], place: npt.NDArray[np.int64], left: int
) -> tuple[int, int] | None:
    """The channel and width that still save most with the bits that are left."""
    own = np.arange(len(place))
    room = np.asarray(widths) - np.asarray(widths)[place][:, None] <= left
    saved = np.where(room, errors[own, place][:, None] - errors, 0)
    channel, stop = np.unravel_index(int(saved.argmax()), saved.shape)
    return (int(channel), int(stop)) if saved[channel, stop] > 0 else None


def allocate_mean(
    x: Any,
    mean_bits: float,
    axis: int | None = 0,
    *,
    widths: Sequence[int] = WIDTHS,
    scale: ScaleRule = ScaleRule.REAL,
    allow_zeros: bool = False,
) -> tuple[Allocation, float]:
    """`allocate` with a width for each channel, too: the least mean squared error at `mean_bits` bits a number on average.

    Returns the allocation and the lower bound of the mean squared error of any choice among these widths, averaged over
    channels.
    """
    widths = sorted(set(widths))
    found = [allocate(x, width, axis, scale=scale, allow_zeros=allow_zeros) for width in widths]
    errors = np.stack([each.mse for each in found], axis=1)
    channels = len(errors)
    if not widths[0] <= mean_bits <= widths[-1]:
        raise FormatError(f"mean bits must be within the widths {widths[0]} to {widths[-1]}, got {mean_bits:g}")
    place, bound = distribute_bits(errors, widths, int(mean_bits * channels + 1e-6))
    own = np.arange(channels)
    shared = replace(
        found[0],
        method=WATER_FILLING,
        formats=tuple(found[p].formats[channel] for channel, p in enumerate(place)),
        scale=np.stack([each.scale for each in found], axis=1)[own, place],
        mse=errors[own, place],
    )
    return shared, bound / channels
