"""The loops of `accumulate.matmul` on the CPU, in numba."""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt

from codesign.quantize.kernels.compiled import compiled
from codesign.quantize.kernels.constants import FLOOR, LIMIT, STOCHASTIC
from codesign.quantize.kernels.elements import as_bits, as_bits64, as_float, as_float64, fast, general, random_bits
from codesign.quantize.kernels.tiles import COLUMNS, ROWS, multiply_add

u32 = np.uint32
_PANEL = 64  # rows of `a` and `c` taken together: their tile of `c`, 16 kB, stays in the first-level cache
_DEPTH = 64  # rows of `b` at most, 16 kB; with a chunk of 32 everything that is touched between two roundings is 32 kB
_SIGNATURE = (
    "void(Array(float32, 2, 'C', True), {}, float32[:, ::1], Array(uint32, 1, 'C', True), "
    "int64, int64, int64, uint32, uint32)"
)

Kernel = Callable[..., None]
Floats = npt.NDArray[np.float32]


def in_tiles(b: Floats) -> Floats:
    """`b` (k, n) as (ceil(n / COLUMNS), k, COLUMNS), filled up with zeros: what is read together lies together."""
    depth, width = b.shape
    whole, rest = divmod(width, COLUMNS)
    tiles = np.zeros((whole + (rest > 0), depth, COLUMNS), np.float32)
    tiles[:whole] = b[:, : width - rest].reshape(depth, whole, COLUMNS).transpose(1, 0, 2)
    if rest:
        tiles[whole, :, :rest] = b[:, width - rest :]
    return tiles


@functools.cache
def chunked(mode: int, use_fast: bool) -> Kernel:
    """kernel(a, tiles, c, constants, chunk, first_row, all_rows, key_low, key_high)

    c[m,n] = sum of a[m,k] b[k,n] by fused multiply-adds in order of k, rounded after every `chunk` of them.
    tiles : `b` as `in_tiles` gives it
    first_row, all_rows : of c[0] in, and of, the whole result, of which a thread has a part
    """

    @compiled(_SIGNATURE.format("Array(float32, 3, 'C', True)"))
    def kernel(a, tiles, c, constants, chunk, first_row, all_rows, key_low, key_high):
        depth = a.shape[1]
        height, width = c.shape
        floor, limit = constants[FLOOR], constants[LIMIT]
        every = (
            constants[0],
            constants[1],
            constants[2],
            constants[3],
            constants[4],
            constants[5],
            constants[6],
            constants[7],
        )
        left, sums = np.zeros((_PANEL // ROWS, depth, ROWS), np.float32), np.empty((_PANEL, COLUMNS), np.float32)
        left_at, tiles_at, sums_at = left.ctypes.data, tiles.ctypes.data, sums.ctypes.data
        for top in range(0, height, _PANEL):
            count = min(_PANEL, height - top)
            for row in range(count):
                for k in range(depth):
                    left[row // ROWS, k, row % ROWS] = a[top + row, k]
            for tile in range(tiles.shape[0]):
                first = tile * COLUMNS
                sums[:] = 0
                start = 0
                while start < depth:
                    stop = min(depth, start + _DEPTH, (start // chunk + 1) * chunk)
                    rounds = stop == depth or stop % chunk == 0
                    for row in range(0, count, ROWS):
                        total = sums[row : row + ROWS]
                        multiply_add(
                            left_at + (row * depth + start * ROWS) * 4,
                            tiles_at + (tile * depth + start) * COLUMNS * 4,
                            sums_at + row * COLUMNS * 4,
                            stop - start,
                        )
                        for r in range(ROWS if rounds else 0):
                            index = u32((start // chunk * all_rows + first_row + top + row + r) * width + first)
                            for j in range(COLUMNS):
                                random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                                index = u32(index + u32(1))
                                if use_fast:
                                    bits = fast(mode, as_bits(total[r, j]), floor, limit, random)
                                else:
                                    bits = general(mode, as_bits(total[r, j]), every, random)
                                total[r, j] = as_float(bits)
                    start = stop
                for row in range(count):
                    target = c[top + row, first : first + COLUMNS]
                    for j in range(target.size):
                        target[j] = sums[row, j]

    return kernel


@functools.cache
def exact(mode: int, use_fast: bool) -> Kernel:
    """kernel(a, b, c, constants, 1, first_row, all_rows, key_low, key_high): c += a b, each sum exact and rounded once."""

    @compiled(_SIGNATURE.format("Array(float32, 2, 'C', True)"))
    def kernel(a, b, c, constants, chunk, first_row, all_rows, key_low, key_high):
        depth, width = b.shape
        floor, limit = constants[FLOOR], constants[LIMIT]
        every = (
            constants[0],
            constants[1],
            constants[2],
            constants[3],
            constants[4],
            constants[5],
            constants[6],
            constants[7],
        )
        for i in range(a.shape[0]):
            total = c[i]
            for k in range(depth):
                x, y = np.float64(a[i, k]), b[k]
                index = u32((k * all_rows + first_row + i) * width)
                for j in range(width):
                    random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                    index = u32(index + u32(1))
                    bits = _exact_sum(np.float64(total[j]), x * np.float64(y[j]))
                    bits = fast(mode, bits, floor, limit, random) if use_fast else general(mode, bits, every, random)
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
