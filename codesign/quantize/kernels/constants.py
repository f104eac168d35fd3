"""A format as the few 32-bit constants that the rounding loops take."""

from __future__ import annotations

import functools
import math
from typing import assert_never

import numpy as np

from codesign.errors import FormatError
from codesign.formats import FloatFormat, Rounding

# The roundings, as the loops know them; `elements` has a branch for each.
NEAREST_EVEN, TOWARD_ZERO, STOCHASTIC = range(3)

# Position of each constant. The fast formula takes the first two.
# FLOOR: 2^min_exponent, below which the spacing is constant (0 where float32's own smallest binade does as well), and in its
# lowest five bits the mantissa bits that float32 has and the format does not.
FLOOR = 0
LIMIT = 1  # the largest value
MAGIC = 2  # 2^(min_exponent + shift): adding and subtracting it rounds a subnormal number
OVERFLOW = 3  # result for a finite number that rounds to more than LIMIT
INFINITE = 4  # result for an infinite number
NAN = 5  # result for NaN
FLUSH = 6  # results below this become zero
ZERO_SIGN = 7  # which bits of minus zero's sign are kept
COUNT = 8
SHIFT_BITS = 31  # of FLOOR

FLOAT32_BIAS = 127
FLOAT32_MANTISSA_BITS = 23
FLOAT32_INFINITY = 0x7F800000
FLOAT32_NAN = 0x7FC00000
SIGN_KEPT = 0xFFFFFFFF
SMALLEST_STEP = 2  # exponent field of 2^-125, of the fast formula: half of it is a normal number too
SMALLEST_SCALED_STEP = 25  # of 2^-102: to it, what float32 loses in a subnormal x / scale is nothing


def mode_of(rounding: Rounding) -> int:
    """The number by which the loops know a rounding."""
    match rounding:
        case Rounding.NEAREST_EVEN:
            return NEAREST_EVEN
        case Rounding.TOWARD_ZERO:
            return TOWARD_ZERO
        case Rounding.STOCHASTIC:
            return STOCHASTIC
        case _:
            assert_never(rounding)


MODES = {rounding: mode_of(rounding) for rounding in Rounding}


def float32_bits(value: float) -> int:
    """Bits of a float32 that holds `value` exactly; of NaN, the quiet one."""
    return FLOAT32_NAN if math.isnan(value) else int(np.float32(value).view(np.uint32))


@functools.lru_cache(maxsize=4096)
def format_constants(fmt: FloatFormat, overflows: bool) -> tuple[int, ...]:
    """The constants of a format; `overflows` is False for rounding toward zero, which leaves finite numbers finite."""
    shift = FLOAT32_MANTISSA_BITS - fmt.mantissa_bits
    limit = float32_bits(fmt.max)
    constants = [0] * COUNT
    constants[FLOOR] = shift
    if fmt.signed and (fmt.min_exponent > 1 - FLOAT32_BIAS or fmt.mantissa_bits == 0):
        constants[FLOOR] |= fmt.min_exponent + FLOAT32_BIAS << FLOAT32_MANTISSA_BITS
        constants[MAGIC] = fmt.min_exponent + shift + FLOAT32_BIAS << FLOAT32_MANTISSA_BITS
    if constants[MAGIC] >= FLOAT32_INFINITY:
        raise FormatError(f"'{fmt}' has steps of {fmt.quantum:g}, more than 2^104; use a larger bias and a scale")
    constants[LIMIT] = limit
    constants[OVERFLOW] = float32_bits(fmt.overflow_result) if overflows else limit
    constants[INFINITE] = float32_bits(fmt.infinite_result)
    constants[NAN] = float32_bits(fmt.nan_result)
    constants[FLUSH] = float32_bits(fmt.flushed_below)
    constants[ZERO_SIGN] = SIGN_KEPT if fmt.has_minus_zero or not fmt.signed else 0
    return tuple(constants)


def is_fast(constants: tuple[int, ...]) -> bool:
    """Whether the fast formula applies: the usual policies, and constants that are normal float32 numbers."""
    saturates = constants[LIMIT] == constants[OVERFLOW] == constants[INFINITE]
    usual = saturates and constants[NAN] == FLOAT32_NAN and constants[FLUSH] == 0 and constants[ZERO_SIGN] == SIGN_KEPT
    shift, minimum = constants[FLOOR] & SHIFT_BITS, constants[FLOOR] >> FLOAT32_MANTISSA_BITS
    smallest_step = minimum + shift - FLOAT32_MANTISSA_BITS
    largest_magic = max(constants[LIMIT] >> FLOAT32_MANTISSA_BITS, minimum) + shift
    return usual and shift > 0 and smallest_step >= SMALLEST_STEP and largest_magic < 255
