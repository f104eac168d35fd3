"""The loops of `accumulate.matmul` on the CPU, in numba. The result matrix itself is the accumulator."""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np

from codesign.quantize.compiled import compiled
from codesign.quantize.elements import as_bits, as_bits64, as_float, as_float64, fast, fma, general, random_bits
from codesign.quantize.words import FLOOR, LIMIT, STOCHASTIC

u32 = np.uint32
ROWS = 4  # rows of `a` and `c` taken together; their number is a multiple of it
_COLUMNS = 512  # of `b` and `c` taken together, copied to a panel that stays in the second-level cache:
_DEPTH = 64  # rows of `b` at most, 132 kB
_PADDING = 16  # elements between the panel's rows, so that they do not fall on the same lines of the first-level cache
_SIGNATURE = (
    "void(Array(float32, 2, 'C', True), Array(float32, 2, 'C', True), float32[:, ::1], Array(uint32, 1, 'C', True), "
    "int64, int64, int64, uint32, uint32)"
)

Kernel = Callable[..., None]


@functools.cache
def chunked(mode: int, short: bool) -> Kernel:
    """kernel(a, b, c, words, chunk, first_row, all_rows, key_low, key_high)

    c[m,n] += a[m,k] b[k,n] by fused multiply-adds in order of k, rounded after every `chunk` of them.
    first_row, all_rows : of c[0] in, and of, the whole result, of which a thread has a part
    """

    @compiled(_SIGNATURE)
    def kernel(a, b, c, words, chunk, first_row, all_rows, key_low, key_high):
        depth, width = b.shape
        floor, limit = words[FLOOR], words[LIMIT]
        every = (words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
        panel = np.empty((_DEPTH, _COLUMNS + _PADDING), np.float32)
        for left in range(0, width, _COLUMNS):
            right = min(width, left + _COLUMNS)
            start = 0
            while start < depth:
                stop = min(depth, start + _DEPTH, (start // chunk + 1) * chunk)
                for k in range(start, stop):
                    line, source = panel[k - start, : right - left], b[k, left:right]
                    for j in range(right - left):
                        line[j] = source[j]
                fours = start + (stop - start) // 4 * 4
                for i in range(0, a.shape[0], ROWS):
                    x0, x1, x2, x3 = a[i], a[i + 1], a[i + 2], a[i + 3]
                    s0, s1, s2, s3 = (
                        c[i, left:right],
                        c[i + 1, left:right],
                        c[i + 2, left:right],
                        c[i + 3, left:right],
                    )
                    for k in range(start, fours, 4):
                        y0, y1 = panel[k - start, : right - left], panel[k - start + 1, : right - left]
                        y2, y3 = panel[k - start + 2, : right - left], panel[k - start + 3, : right - left]
                        x00, x01, x02, x03 = x0[k], x0[k + 1], x0[k + 2], x0[k + 3]
                        x10, x11, x12, x13 = x1[k], x1[k + 1], x1[k + 2], x1[k + 3]
                        x20, x21, x22, x23 = x2[k], x2[k + 1], x2[k + 2], x2[k + 3]
                        x30, x31, x32, x33 = x3[k], x3[k + 1], x3[k + 2], x3[k + 3]
                        for j in range(right - left):
                            s0[j] = fma(x03, y3[j], fma(x02, y2[j], fma(x01, y1[j], fma(x00, y0[j], s0[j]))))
                            s1[j] = fma(x13, y3[j], fma(x12, y2[j], fma(x11, y1[j], fma(x10, y0[j], s1[j]))))
                            s2[j] = fma(x23, y3[j], fma(x22, y2[j], fma(x21, y1[j], fma(x20, y0[j], s2[j]))))
                            s3[j] = fma(x33, y3[j], fma(x32, y2[j], fma(x31, y1[j], fma(x30, y0[j], s3[j]))))
                    for k in range(fours, stop):
                        y0 = panel[k - start, : right - left]
                        x00, x10, x20, x30 = x0[k], x1[k], x2[k], x3[k]
                        for j in range(right - left):
                            s0[j] = fma(x00, y0[j], s0[j])
                            s1[j] = fma(x10, y0[j], s1[j])
                            s2[j] = fma(x20, y0[j], s2[j])
                            s3[j] = fma(x30, y0[j], s3[j])
                    if stop < depth and stop % chunk:
                        continue
                    for r in range(ROWS):
                        total = c[i + r, left:right]
                        index = u32((start // chunk * all_rows + first_row + i + r) * width + left)
                        for j in range(right - left):
                            random = u32(0)
                            if mode == STOCHASTIC:
                                random = random_bits(index, key_low, key_high)
                            index = u32(index + u32(1))
                            bits = as_bits(total[j])
                            if short:
                                bits = fast(mode, bits, floor, limit, random)
                            else:
                                bits = general(mode, bits, every, random)
                            total[j] = as_float(bits)
                start = stop

    return kernel


@functools.cache
def exact(mode: int, short: bool) -> Kernel:
    """The same with `chunk` = 1, each exact sum of accumulator and product rounded once."""

    @compiled(_SIGNATURE)
    def kernel(a, b, c, words, chunk, first_row, all_rows, key_low, key_high):
        depth, width = b.shape
        floor, limit = words[FLOOR], words[LIMIT]
        every = (words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
        for i in range(a.shape[0]):
            total = c[i]
            for k in range(depth):
                x, y = np.float64(a[i, k]), b[k]
                index = u32((k * all_rows + first_row + i) * width)
                for j in range(width):
                    random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                    index = u32(index + u32(1))
                    bits = _exact_sum(np.float64(total[j]), x * np.float64(y[j]))
                    bits = fast(mode, bits, floor, limit, random) if short else general(mode, bits, every, random)
                    total[j] = as_float(bits)

    return kernel


@numba.njit
def _exact_sum(total, product):
    """Bits of a float32 that rounds like total + product: rounded to odd, first to float64, then to float32.

    Source: S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Comput. 57(4), 2008;
    the error of the sum by D. E. Knuth, The Art of Computer Programming vol. 2, 4.2.2, theorem B.
    """
    rounded = total + product
    back = rounded - total
    error = (total - (rounded - back)) + (product - back)
    bits = as_bits64(rounded)
    outward = np.int64(1) if (error > 0) == (rounded > 0) else np.int64(-1)
    inexact = (error > 0) | (error < 0)  # neither, where it is NaN
    bits = bits + outward if inexact and bits & 1 == 0 else bits
    rounded = as_float64(bits)
    nearest = np.float32(rounded)
    word = as_bits(nearest)
    word = u32(word - u32(1)) if abs(np.float64(nearest)) > abs(rounded) else word
    return u32(word | u32(1)) if (np.float64(nearest) < rounded) | (np.float64(nearest) > rounded) else word
