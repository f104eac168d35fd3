"""A systolic array that really computes: every processing element multiplies and accumulates, cycle by cycle.

Slow on purpose. It shows that the cycle counts of the model are those of an array, and gives the bits that come out of it:
each product is exact, each sum is rounded once to the accumulator's format, in the order in which operands arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from codesign.errors import CostError
from codesign.formats import FLOAT32, FloatFormat
from codesign.hardware import Dataflow
from codesign.quantize import round_to_format

_WIDEST = 21  # mantissa bits to which a float64 can be rounded
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayRun:
    """What an array did.

    result : float32, shape (m, n); every number is a value of the accumulator's format
    cycles : from the first operand that enters to the last result that has left, fold after fold
    macs : multiply-accumulates that some element did
    folds : times that the array was filled
    """

    result: npt.NDArray[np.float32]
    cycles: int
    macs: int
    folds: int


def run_array(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    dataflow: Dataflow,
    rows: int,
    cols: int,
    first: FloatFormat,
    second: FloatFormat,
    accumulator: FloatFormat,
) -> ArrayRun:
    """a @ b on an array of rows x cols elements, one multiply-accumulate each a cycle.

    a, b : shapes (m, k) and (k, n); rounded to `first` and `second` before they enter
    """
    left = np.asarray(round_to_format(np.asarray(a, np.float32), first), np.float64)
    right = np.asarray(round_to_format(np.asarray(b, np.float32), second), np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0] or 0 in left.shape + right.shape:
        raise CostError(f"shapes (m, k) and (k, n) without zeros are needed, got {left.shape} and {right.shape}")
    if accumulator.mantissa_bits > _WIDEST and accumulator != FLOAT32:
        raise CostError(f"an accumulator of more than {_WIDEST} mantissa bits must be float32, got '{accumulator}'")
    if rows < 1 or cols < 1:
        raise CostError(f"rows and cols must be positive, got {rows} and {cols}")
    match dataflow:
        case Dataflow.OS:
            return _output_stationary(left, right, rows, cols, accumulator)
        case Dataflow.WS:
            return _weight_stationary(left, right, rows, cols, accumulator)
        case Dataflow.IS:  # the same array with the operands exchanged: C' = B' A'
            turned = _weight_stationary(right.T, left.T, rows, cols, accumulator)
            return ArrayRun(result=turned.result.T, cycles=turned.cycles, macs=turned.macs, folds=turned.folds)
        case _:
            assert_never(dataflow)


def _add(sums: Floats, products: Floats, accumulator: FloatFormat) -> Floats:
    """The exact sum rounded once. Products of float32 values are exact in float64; a float64 sum that is not exact is
    moved to the neighbour with an odd last bit, from which rounding to fewer bits gives what the exact sum would.
    """
    total = sums + products
    part = total - sums
    error = (sums - (total - part)) + (products - part)  # exact: Knuth's two-sum
    with np.errstate(invalid="ignore"):
        even = (total.view(np.uint64) & np.uint64(1)) == 0
        odd = np.where((error != 0) & even & np.isfinite(error), np.nextafter(total, np.copysign(np.inf, error)), total)
    if accumulator.mantissa_bits > _WIDEST:  # float32 itself
        return odd.astype(np.float32).astype(np.float64)
    return np.asarray(round_to_format(odd, accumulator), np.float64)


def _output_stationary(a: Floats, b: Floats, rows: int, cols: int, accumulator: FloatFormat) -> ArrayRun:
    """a enters from the left, b from above; results leave downwards, one row a cycle, when all have arrived."""
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    result = np.zeros((m, n), np.float32)
    cycles = macs = folds = 0
    for top in range(0, m, rows):
        for side in range(0, n, cols):
            height, width = min(rows, m - top), min(cols, n - side)
            held_a, held_b = np.zeros((rows, cols)), np.zeros((rows, cols))
            live_a, live_b = np.zeros((rows, cols), bool), np.zeros((rows, cols), bool)
            sums = np.zeros((rows, cols))
            for cycle in range(k + rows + cols - 2):
                held_a[:, 1:], live_a[:, 1:] = held_a[:, :-1].copy(), live_a[:, :-1].copy()
                held_b[1:], live_b[1:] = held_b[:-1].copy(), live_b[:-1].copy()
                for row in range(rows):  # row r is fed r cycles later
                    step = cycle - row
                    live_a[row, 0] = row < height and 0 <= step < k
                    held_a[row, 0] = a[top + row, step] if live_a[row, 0] else 0.0
                for col in range(cols):
                    step = cycle - col
                    live_b[0, col] = col < width and 0 <= step < k
                    held_b[0, col] = b[step, side + col] if live_b[0, col] else 0.0
                busy = live_a & live_b
                sums = np.where(busy, _add(sums, held_a * held_b, accumulator), sums)
                macs += int(busy.sum())
                cycles += 1
            for _ in range(rows):  # results leave at the bottom; zeros follow from above
                row = rows - 1 - _
                if row < height:
                    result[top + row, side : side + width] = sums[-1, :width]
                sums[1:] = sums[:-1].copy()
                sums[0] = 0.0
                cycles += 1
            folds += 1
    return ArrayRun(result=result, cycles=cycles, macs=macs, folds=folds)


def _weight_stationary(a: Floats, b: Floats, rows: int, cols: int, accumulator: FloatFormat) -> ArrayRun:
    """b is shifted in from above and stays; a enters from the left, sums fall through and leave at the bottom.

    Sums of an earlier fold along k enter at the top of the next one.
    """
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    result = np.zeros((m, n))
    cycles = macs = folds = 0
    for side in range(0, n, cols):
        for deep in range(0, k, rows):
            depth, width = min(rows, k - deep), min(cols, n - side)
            weights, used = np.zeros((rows, cols)), np.zeros((rows, cols), bool)
            for step in range(rows):  # the last row of weights has the longest way and goes first
                weights[1:], used[1:] = weights[:-1].copy(), used[:-1].copy()
                row = rows - 1 - step
                weights[0], used[0] = 0.0, False
                if row < depth:
                    weights[0, :width], used[0, :width] = b[deep + row, side : side + width], True
                cycles += 1
            held, live = np.zeros((rows, cols)), np.zeros((rows, cols), bool)
            falling = np.zeros((rows, cols))
            for cycle in range(m + rows + cols - 2):
                held[:, 1:], live[:, 1:] = held[:, :-1].copy(), live[:, :-1].copy()
                above = np.zeros((rows, cols))
                above[1:] = falling[:-1]
                for row in range(rows):
                    step = cycle - row
                    live[row, 0] = 0 <= step < m
                    held[row, 0] = a[step, deep + row] if live[row, 0] and row < depth else 0.0
                for col in range(width):
                    step = cycle - col
                    if 0 <= step < m:
                        above[0, col] = result[step, side + col]
                busy = live & used
                falling = np.where(busy, _add(above, held * weights, accumulator), above)
                macs += int(busy.sum())
                for col in range(width):  # what is at the bottom leaves
                    step = cycle - (rows - 1) - col
                    if 0 <= step < m:
                        result[step, side + col] = falling[-1, col]
                cycles += 1
            folds += 1
    return ArrayRun(result=result.astype(np.float32), cycles=cycles, macs=macs, folds=folds)
