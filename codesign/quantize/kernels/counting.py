"""The loop of a histogram over float bits, in numba.

All numbers of a bin share their leading bits, so that x = base + r * ulp with an integer r. What is summed for each number
is one 64-bit word that counts it and adds r, and one that adds r^2: no rounding, and half of the additions of floats.
"""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import numpy as np

from codesign.quantize.kernels.compiled import compiled
from codesign.quantize.kernels.elements import as_float, as_float64

u32, u64 = np.uint32, np.uint64
_MAGNITUDE = u32(0x7FFFFFFF)
_TOGETHER = 1 << 18  # numbers between two flushes: sums of r < 2^22 stay below 2^40, where counts begin
_COUNTED = u64(1 << 40)


@compiled("UniTuple(uint32, 2)(uint32[:, ::1])")
def extremes(x):
    """Least magnitude that is not zero, less one, and largest magnitude, as bits; without any (2^32 - 1, 0)."""
    least, largest = u32(0xFFFFFFFF), u32(0)
    for row in range(x.shape[0]):
        for i in range(x.shape[1]):
            magnitude = u32(x[row, i] & _MAGNITUDE)
            largest = magnitude if magnitude > largest else largest
            before = u32(magnitude - u32(1))  # zero becomes the largest of all
            least = before if before < least else least
    return least, largest


@compiled("void(uint32[:, ::1], float64[:, :, ::1], uint32, uint32)")
def count(x, moments, first, shift):
    """Add count, sum and sum of squares of magnitudes, zeros left out.

    x : bits, [channels, n], finite; moments : [3, channels, bins] of bins first, first + 1, ... , a bin being the magnitude's
    bits shifted right by `shift`
    """
    bins = moments.shape[2]
    table = np.zeros((bins + 1, 2), np.uint64)  # what is zero goes to row 0
    low = u32(u32(u32(1) << shift) - u32(1))
    start_bin = u32(first - u32(1))
    for row in range(x.shape[0]):
        for start in range(0, x.shape[1], _TOGETHER):
            part = x[row, start : start + _TOGETHER]
            for i in range(part.size):
                magnitude = u32(part[i] & _MAGNITUDE)
                place = u32(u32(magnitude >> shift) - start_bin)
                place = place if magnitude != u32(0) else u32(0)
                r = u64(magnitude & low)
                table[u64(place), 0] += _COUNTED + r
                table[u64(place), 1] += r * r
            for b in range(bins):
                word = table[b + 1, 0]
                if word:
                    n, rs, squares = (
                        np.float64(word >> u64(40)),
                        np.float64(word & (_COUNTED - u64(1))),
                        table[b + 1, 1],
                    )
                    bits = u32(u32(first + u32(b)) << shift)
                    base = np.float64(as_float(bits))
                    exponent = np.int64(bits >> u32(23))
                    ulp = as_float64((max(exponent, 1) - 150 + 1023) << 52)  # 2^(exponent - 150)
                    moments[0, row, b] += n
                    moments[1, row, b] += n * base + rs * ulp
                    moments[2, row, b] += n * base * base + 2 * base * ulp * rs + ulp * ulp * np.float64(squares)
                    table[b + 1, 0] = table[b + 1, 1] = u64(0)
