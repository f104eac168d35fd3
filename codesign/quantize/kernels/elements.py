"""One element rounded: float32 bits (uint32) in, float32 bits out, as numba functions that the loops inline.

Two formulas. *fast*: eight instructions, for formats that saturate and whose rounding constant is a finite float32
(`constants.is_fast`). *general*: every format and policy. Both give the same numbers where both apply. Neither branches, so
that the loops compile to SIMD code. Numba widens uint32 arithmetic to 64 bits unless each result is cut back at once,
hence the many `u32()`.

How |x|, of exponent e, is rounded to M bits: adding and subtracting C = 2^(e + 23 - M) lets the adder itself round to
nearest-even at the wanted bit; with e no smaller than the format's own smallest exponent this covers subnormals too.
Where C is no finite float32, the normal numbers are rounded on their integer bits.
"""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from codesign.quantize.kernels.constants import (
    NEAREST_EVEN,
    SHIFT_BITS,
    SMALLEST_SCALED_STEP,
    SMALLEST_STEP,
    TOWARD_ZERO,
)

u32 = np.uint32
_SIGN = u32(0x80000000)
_MAGNITUDE = u32(0x7FFFFFFF)
_INFINITY = u32(0x7F800000)
_SHIFT = u32(SHIFT_BITS)


@intrinsic
def as_float(context, bits):
    """The float32 with these bits."""
    return numba.float32(numba.uint32), lambda ctx, builder, sig, args: builder.bitcast(args[0], ir.FloatType())


@intrinsic
def as_bits(context, value):
    """The bits of a float32."""
    return numba.uint32(numba.float32), lambda ctx, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def as_pointer(context, address):
    """The uint32 numbers at an address."""
    kind = types.CPointer(numba.uint32)
    return kind(numba.int64), lambda ctx, builder, sig, args: builder.inttoptr(args[0], ctx.get_value_type(kind))


@intrinsic
def as_byte_pointer(context, address):
    """The uint8 numbers at an address."""
    kind = types.CPointer(numba.uint8)
    return kind(numba.int64), lambda ctx, builder, sig, args: builder.inttoptr(args[0], ctx.get_value_type(kind))


@intrinsic
def as_float64(context, bits):
    """The float64 with these bits."""
    return numba.float64(numba.int64), lambda ctx, builder, sig, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic
def as_bits64(context, value):
    """The bits of a float64."""
    return numba.int64(numba.float64), lambda ctx, builder, sig, args: builder.bitcast(args[0], ir.IntType(64))


@numba.njit
def random_bits(index, key_low, key_high):
    """32 random bits of an element: a keyed bijection of its index (two multiplications, three shifts).

    Source of the multipliers and shifts: C. Wellons, "Prospecting for Hash Functions", 2018 (lowbias32, public
    domain). The two halves of the key come before and between the multiplications.
    """
    h = u32(index ^ key_low)
    h = u32(u32(h ^ u32(h >> u32(16))) * u32(0x7FEB352D))
    h = u32(u32(h ^ u32(h >> u32(15))) + key_high)
    h = u32(h * u32(0x846CA68B))
    return u32(h ^ u32(h >> u32(16)))


@numba.njit
def _fast_magic(magnitude, floor):
    """2^(e + shift), e the exponent of the magnitude and at least that of the floor."""
    magnitude = floor if magnitude < floor else magnitude
    return u32(u32(magnitude & _INFINITY) + u32(floor << u32(23)))  # of the floor only the shift is left


@numba.njit
def _fast_nearest(bits, floor, limit):
    magnitude = as_float(u32(bits & _MAGNITUDE))
    limited = as_float(limit)
    magnitude = limited if magnitude > limited else magnitude  # NaN stays
    magic = as_float(_fast_magic(as_bits(magnitude), floor))
    return u32(as_bits((magnitude + magic) - magic) | u32(bits & _SIGN))


@numba.njit
def _fast_toward_zero(bits, floor, limit):
    magnitude = as_float(u32(bits & _MAGNITUDE))
    limited = as_float(limit)
    magnitude = limited if magnitude > limited else magnitude
    magic = _fast_magic(as_bits(magnitude), floor)
    nearest = (magnitude + as_float(magic)) - as_float(magic)
    step = as_float(u32(magic - u32(23 << 23)))
    rounded = nearest - step if nearest > magnitude else nearest
    return u32(as_bits(rounded) | u32(bits & _SIGN))


@numba.njit
def _fast_stochastic(bits, floor, limit, random):
    magnitude = as_float(u32(bits & _MAGNITUDE))
    limited = as_float(limit)
    magnitude = limited if magnitude > limited else magnitude
    smallest = as_float(u32(floor & _INFINITY))
    lift = smallest if magnitude < smallest else np.float32(0)  # subnormals go up to the first normal binade and back
    below = u32(u32(u32(1) << u32(floor & _SHIFT)) - u32(1))
    lifted = u32(u32(as_bits(magnitude + lift) + u32(random & below)) & u32(~below))
    rounded = as_float(lifted) - lift
    rounded = rounded if magnitude == magnitude else magnitude
    return u32(as_bits(rounded) | u32(bits & _SIGN))


@numba.njit
def is_movable(floor, limit, move):
    """Whether round(x / 2^move) * 2^move is what the fast formula makes of x with 2^move times the floor and limit."""
    shift, minimum, top = np.int64(floor & _SHIFT), np.int64(floor >> u32(23)), np.int64(limit >> u32(23))
    step = minimum + shift - 23
    largest_magic = max(top, minimum) + shift
    stays_normal = step + move >= SMALLEST_STEP and largest_magic + move < 255 and -126 <= move <= 127
    return stays_normal and step >= SMALLEST_SCALED_STEP


@numba.njit
def _ends(bits, rounded, limit, overflow, infinite, nan, flush, zero_sign):
    """The policies of the format, after rounding."""
    magnitude = u32(bits & _MAGNITUDE)
    rounded = u32(0) if rounded < flush else rounded
    rounded = overflow if rounded > limit else rounded
    rounded = infinite if magnitude == _INFINITY else rounded
    rounded = nan if magnitude > _INFINITY else rounded
    sign = u32(bits & _SIGN)
    sign = sign if rounded != u32(0) else u32(sign & zero_sign)
    return u32(rounded | sign)


@numba.njit
def _general_nearest(bits, shift, minimum, magic):
    unit = u32(u32(1) << shift)
    below_half = u32(u32(unit >> u32(1)) - u32(1)) if shift != u32(0) else u32(0)
    last_bit = u32(1) if shift != u32(0) else u32(0)
    hidden = u32(1) if shift == u32(23) else u32(0)  # with no mantissa bit the last digit is the hidden one
    magnitude = u32(bits & _MAGNITUDE)
    odd = u32(u32(u32(magnitude >> shift) | hidden) & last_bit)
    normal = u32(u32(u32(magnitude + below_half) + odd) & u32(~u32(unit - u32(1))))
    adder = as_float(magic)
    subnormal = as_bits((as_float(magnitude) + adder) - adder)
    return subnormal if magnitude < minimum else normal


@numba.njit
def _general_toward_zero(bits, shift, minimum, magic):
    unit = u32(u32(1) << shift)
    magnitude = u32(bits & _MAGNITUDE)
    normal = u32(magnitude & u32(~u32(unit - u32(1))))
    adder = as_float(magic)
    step = adder * np.float32(2.0**-23)
    nearest = (as_float(magnitude) + adder) - adder
    subnormal = as_bits(nearest - step if nearest > as_float(magnitude) else nearest)
    return subnormal if magnitude < minimum else normal


@numba.njit
def _general_stochastic(bits, shift, minimum, random):
    below = u32(u32(u32(1) << shift) - u32(1))
    magnitude = u32(bits & _MAGNITUDE)
    smallest = as_float(minimum)
    start = as_bits(as_float(magnitude) + smallest) if magnitude < minimum else magnitude
    lifted = u32(u32(start + u32(random & below)) & u32(~below))
    return as_bits(as_float(lifted) - smallest) if magnitude < minimum else lifted


@numba.njit
def fast(mode, bits, floor, limit, random):
    """Round one element by the fast formula; `mode` is a constant of the loop."""
    if mode == NEAREST_EVEN:
        return _fast_nearest(bits, floor, limit)
    if mode == TOWARD_ZERO:
        return _fast_toward_zero(bits, floor, limit)
    return _fast_stochastic(bits, floor, limit, random)


@numba.njit
def general(mode, bits, constants, random):
    """Round one element by the formula that knows every policy."""
    floor, limit, magic, overflow, infinite, nan, flush, zero_sign = constants
    shift, minimum = u32(floor & _SHIFT), u32(floor & _INFINITY)
    if mode == NEAREST_EVEN:
        rounded = _general_nearest(bits, shift, minimum, magic)
    elif mode == TOWARD_ZERO:
        rounded = _general_toward_zero(bits, shift, minimum, magic)
    else:
        rounded = _general_stochastic(bits, shift, minimum, random)
    return _ends(bits, rounded, limit, overflow, infinite, nan, flush, zero_sign)
