"""The loops that round float32 arrays on the CPU, in numba. Imported by the first rounding.

An array is seen as its bits (uint32), flat, in C order. Four layouts:

    rows      rows of equal length, each with its own format and scale; a whole tensor is one row
    columns   the same for columns, where the channel axis is the last or nearly so
    blocks    one format, and a scale for every few neighbours
    dense     one format, and if wanted a scale for each row that follows from its largest magnitude; found by an address
    given     rows whose formats, scales and clips lie in one table; found by addresses

The index of an element, for stochastic rounding, is counted in 32 bits of its own: as a sum with the loop's 64-bit counter
it would halve the lanes.

A scaled element is `round(x / scale) * scale`, one float32 division and one multiplication. Each loop is built for one
rounding, one formula (see elements.py) and with or without scales, and is compiled when it is first wanted.
"""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np

from codesign.quantize.kernels.compiled import compiled
from codesign.quantize.kernels.constants import FLOOR, LIMIT, STOCHASTIC
from codesign.quantize.kernels.elements import (
    as_bits,
    as_byte_pointer,
    as_float,
    as_pointer,
    fast,
    general,
    is_movable,
    random_bits,
)

u32 = np.uint32
at = np.uint64  # of an element: numba wraps negative indices around, which costs more than the element
_BUFFER = 2048  # elements; 8 kB, a quarter of the smallest first-level cache in use
_ARRAYS = "Array(uint32, 1, 'C', True), uint32[::1], Array(uint32, 2, 'C', True), Array(float32, 1, 'C', True)"
_KEY = "uint32, uint32, uint32"
FLAGGED = 512  # elements of a row that share a flag whether one of them is clipped
FINITE, CLIPPED, NOT_FINITE = range(3)  # what `given` has seen

Kernel = Callable[..., None]


@functools.cache
def rows(mode: int, use_fast: bool, scaled: bool) -> Kernel:
    """kernel(x, y, constants, scale, length, first_row, key_low, key_high, first_index)

    Row r of `length` elements has constants[r % len(constants)] and scale[r % len(scale)].
    x, y : bits, the same array or disjoint ones; y is written
    first_row, first_index : of x[0] in the whole array, of which a thread has a part
    """

    @compiled(f"void({_ARRAYS}, int64, int64, {_KEY})")
    def kernel(x, y, constants, scale, length, first_row, key_low, key_high, first_index):
        buffer = np.empty(_BUFFER, np.uint32)
        in_place = x.ctypes.data == y.ctypes.data
        for row in range(x.size // length):
            s = scale[(first_row + row) % scale.shape[0]]
            w = constants[(first_row + row) % constants.shape[0]]
            floor, limit = w[FLOOR], w[LIMIT]
            if not use_fast:
                every = (w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])
            for start in range(row * length, (row + 1) * length, _BUFFER):
                count = min(_BUFFER, (row + 1) * length - start)
                source = x[start : start + count]
                result = y[start : start + count]
                target = buffer[:count] if in_place else result
                index = u32(first_index + u32(start))
                for i in range(count):
                    random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                    index = u32(index + u32(1))
                    bits = as_bits(as_float(source[i]) / s) if scaled else source[i]
                    bits = fast(mode, bits, floor, limit, random) if use_fast else general(mode, bits, every, random)
                    target[i] = as_bits(as_float(bits) * s) if scaled else bits
                if in_place:
                    for i in range(count):
                        result[i] = target[i]

    return kernel


@numba.njit(forceinline=True)
def _round_columns(
    mode, use_fast, scaled, x, first, y, to, count, constants, column, scale, first_scale, index, key_low, key_high
):
    """`count` elements from x[first] on, of column `column` on, into y[to] on."""
    for c in range(count):
        random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
        index = u32(index + u32(1))
        w, s = column + c, first_scale + c
        bits = as_bits(as_float(x[first + c]) / scale[s]) if scaled else x[first + c]
        if use_fast:
            bits = fast(mode, bits, constants[0, w], constants[1, w], random)
        else:
            low, high = constants[0, w], constants[1, w]
            ends = constants[3, w], constants[4, w], constants[5, w], constants[6, w], constants[7, w]
            bits = general(mode, bits, (low, high, constants[2, w], *ends), random)
        y[to + c] = as_bits(as_float(bits) * scale[s]) if scaled else bits


@functools.cache
def columns(mode: int, use_fast: bool, scaled: bool) -> Kernel:
    """kernel(x, y, constants, scale, group, first_row, key_low, key_high, first_index)

    Column c has the constants constants[:, c]; the last row may be shorter than the others. `group` successive rows share the
    scales scale[g * columns : (g + 1) * columns] (not read where `scaled` is False).
    """

    @compiled(f"void({_ARRAYS}, int64, int64, {_KEY})")
    def kernel(x, y, constants, scale, group, first_row, key_low, key_high, first_index):
        buffer = np.empty(_BUFFER, np.uint32)
        in_place = x.ctypes.data == y.ctypes.data
        width = constants.shape[1]
        for start in range(0, width, _BUFFER):
            stop = min(start + _BUFFER, width)
            for row in range((x.size + width - 1) // width):
                first, count = at(row * width + start), at(max(0, min(stop, x.size - row * width) - start))
                index = u32(first_index + u32(first))
                g = at((first_row + row) // group * width + start)
                if in_place:
                    _round_columns(
                        *(mode, use_fast, scaled, x, first, buffer, at(0), count, constants, at(start), scale, g),
                        *(index, key_low, key_high),
                    )
                    for c in range(count):
                        y[first + c] = buffer[c]
                else:
                    _round_columns(
                        *(mode, use_fast, scaled, x, first, y, first, count, constants, at(start), scale, g),
                        *(index, key_low, key_high),
                    )

    return kernel


@functools.cache
def blocks(mode: int, use_fast: bool) -> Kernel:
    """kernel(x, y, constants, scale, length, first_row, key_low, key_high, first_index)

    Block b of `length` elements (at most 2048) has scale[b]; all have constants[0].
    """

    @compiled(f"void({_ARRAYS}, int64, int64, {_KEY})")
    def kernel(x, y, constants, scale, length, first_row, key_low, key_high, first_index):
        buffer = np.empty(_BUFFER, np.uint32)
        scales = np.empty(_BUFFER, np.float32)
        in_place = x.ctypes.data == y.ctypes.data
        w = constants[0]
        floor, limit = w[FLOOR], w[LIMIT]
        every = (w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])
        together = _BUFFER // length
        count_blocks = x.size // length
        for block in range(0, count_blocks, together):
            stop_block = min(block + together, count_blocks)
            for b in range(block, stop_block):
                spread = scales[(b - block) * length : (b - block + 1) * length]
                s = scale[first_row + b]
                for i in range(length):
                    spread[i] = s
            source = x[block * length : stop_block * length]
            result = y[block * length : stop_block * length]
            target = buffer[: source.size] if in_place else result
            index = u32(first_index + u32(block * length))
            for i in range(source.size):
                random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                index = u32(index + u32(1))
                bits = as_bits(as_float(source[i]) / scales[i])
                bits = fast(mode, bits, floor, limit, random) if use_fast else general(mode, bits, every, random)
                target[i] = as_bits(as_float(bits) * scales[i])
            if in_place:
                for i in range(source.size):
                    result[i] = target[i]

    return kernel


@functools.cache
def dense(mode: int, use_fast: bool) -> Callable[..., bool]:
    """kernel(x_address, y_address, rows, length, constants, scaled, key_low, key_high): whether y was written

    Addresses instead of arrays, because a call with these costs a microsecond less for each.
    scaled : each row by the power of two at which its largest magnitude just does not clip; with the fast formula only,
        and not where a row has an infinity or NaN, or needs a scale that cannot be moved into the constants
    """

    @compiled("boolean(int64, int64, int64, int64, uint32[::1], boolean, uint32, uint32)")
    def kernel(x_address, y_address, rows, length, constants, scaled, key_low, key_high):
        x, y = numba.carray(as_pointer(x_address), rows * length), numba.carray(as_pointer(y_address), rows * length)
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
        buffer = np.empty(_BUFFER, np.uint32)
        moves = np.zeros(rows, np.uint32)
        if use_fast and scaled:
            for row in range(rows):
                largest = u32(0)
                for bits in x[row * length : (row + 1) * length]:
                    magnitude = u32(bits & u32(0x7FFFFFFF))
                    largest = magnitude if magnitude > largest else largest
                if largest == 0:
                    continue
                move = (np.int64(largest) - np.int64(limit) + 0x7FFFFF) >> 23  # rounded up
                if largest < 0x00800000 or largest >= 0x7F800000 or not is_movable(floor, limit, move):
                    return False
                moves[row] = u32(u32(move & 0xFFFFFFFF) << u32(23))
        for row in range(rows):
            low, high = u32(floor + moves[row]), u32(limit + moves[row])
            for start in range(0, length, _BUFFER):
                first = row * length + start
                count = min(_BUFFER, length - start)
                source, result = x[first : first + count], y[first : first + count]
                target = buffer[:count] if x_address == y_address else result
                index = u32(first)
                for i in range(count):
                    random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                    index = u32(index + u32(1))
                    if use_fast:
                        target[i] = fast(mode, source[i], low, high, random)
                    else:
                        target[i] = general(mode, source[i], every, random)
                if x_address == y_address:
                    for i in range(count):
                        result[i] = target[i]
        return True

    return kernel


@functools.cache
def given(mode: int, scaled: bool) -> Callable[..., int]:
    """kernel(x_address, y_address, flags_address, rows, length, table_address, key_low, key_high): what it has seen

    Row r of `length` elements has a row (floor, limit, scale, clip) of the table; by the fast formula. y shares no memory
    with x, and is complete unless something was NOT_FINITE. CLIPPED: a magnitude was above its clip; the flags, one for
    each FLAGGED elements of a row, say where. No flags are written at the address 0.
    """

    @compiled("int64(int64, int64, int64, int64, int64, int64, uint32, uint32)")
    def kernel(x_address, y_address, flags_address, rows, length, table_address, key_low, key_high):
        x, y = numba.carray(as_pointer(x_address), rows * length), numba.carray(as_pointer(y_address), rows * length)
        table = numba.carray(as_pointer(table_address), (rows, 4))
        flags = numba.carray(as_byte_pointer(flags_address), rows * ((length + FLAGGED - 1) // FLAGGED))
        seen, place = FINITE, 0
        for row in range(rows):
            floor, limit, s, clip = table[row, 0], table[row, 1], as_float(table[row, 2]), table[row, 3]
            for start in range(row * length, (row + 1) * length, FLAGGED):
                count = min(FLAGGED, (row + 1) * length - start)
                source, result = x[start : start + count], y[start : start + count]
                index = u32(start)
                largest = u32(0)
                for i in range(count):
                    random = random_bits(index, key_low, key_high) if mode == STOCHASTIC else u32(0)
                    index = u32(index + u32(1))
                    magnitude = u32(source[i] & u32(0x7FFFFFFF))
                    largest = magnitude if magnitude > largest else largest
                    bits = as_bits(as_float(source[i]) / s) if scaled else source[i]
                    bits = fast(mode, bits, floor, limit, random)
                    result[i] = as_bits(as_float(bits) * s) if scaled else bits
                if largest >= u32(0x7F800000):
                    return NOT_FINITE
                if largest > clip:
                    seen = CLIPPED
                if flags_address != 0:
                    flags[place] = largest > clip
                place += 1
        return seen

    return kernel


@compiled("void(int64, int64, int64, int64, int64, int64)")
def stop_clipped(x_address, gradient_address, flags_address, rows, length, table_address):
    """Zero a gradient where x, of the same layout, is above its clip; flags and table are those of `given`."""
    x = numba.carray(as_pointer(x_address), rows * length)
    gradient = numba.carray(as_pointer(gradient_address), rows * length)
    table = numba.carray(as_pointer(table_address), (rows, 4))
    flags = numba.carray(as_byte_pointer(flags_address), rows * ((length + FLAGGED - 1) // FLAGGED))
    place = 0
    for row in range(rows):
        clip = table[row, 3]
        for start in range(row * length, (row + 1) * length, FLAGGED):
            if flags[place]:
                count = min(FLAGGED, (row + 1) * length - start)
                source, target = x[start : start + count], gradient[start : start + count]
                for i in range(count):
                    target[i] = u32(0) if u32(source[i] & u32(0x7FFFFFFF)) > clip else target[i]
            place += 1


@compiled("boolean(Array(uint32, 2, 'C', True), Array(float32, 1, 'C', True), uint32[:, ::1])")
def move_constants(constants, scale, moved):
    """Move powers of two into the constants of the fast formula, by which scaling costs nothing; whether that could be done.

    constants : (channels or 1, COUNT); scale : (channels or 1,); moved : (channels, 2), is written
    """
    for c in range(moved.shape[0]):
        word, s = constants[c % constants.shape[0]], as_bits(scale[c % scale.shape[0]])
        move = np.int64(s >> u32(23)) - 127
        if s & u32(0x7FFFFF) or not is_movable(word[FLOOR], word[LIMIT], move):
            return False
        by = u32(u32(move & 0xFFFFFFFF) << u32(23))
        moved[c, FLOOR] = u32(word[FLOOR] + by)
        moved[c, LIMIT] = u32(word[LIMIT] + by) if word[LIMIT] else u32(0)
    return True


@compiled("void(uint32[::1])")
def to_equal_binades(x):
    """Prepare float32 bits for rounding to the powers of two of e8m0: negative numbers become NaN, signs go, and the
    binade of 2^-127, subnormal in float32, is stretched to one like all others, of which it is number 0."""
    for i in range(x.size):
        bits = x[i]
        bits = u32(0x7FC00000) if bits > u32(0x80000000) else u32(bits & u32(0x7FFFFFFF))
        above = u32(bits - u32(0x00400000)) if bits > u32(0x00400000) else u32(0)
        x[i] = u32(above << u32(1)) if bits < u32(0x00800000) else bits


@compiled("void(uint32[::1])")
def from_equal_binades(x):
    """Undo the stretching, after rounding to whole powers."""
    for i in range(x.size):
        x[i] = u32(0x00400000) if x[i] == u32(0) else x[i]
