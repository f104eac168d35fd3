"""A format as the few 32-bit words that the rounding loops take."""

from __future__ import annotations

import functools

import numpy as np

from codesign.errors import FormatError
from codesign.formats import FloatFormat, InfiniteInput, NanInput, Overflow, Reserved, Subnormals

NEAREST_EVEN, TOWARD_ZERO, STOCHASTIC = range(3)  # the roundings, as the loops know them

# Position of each word. The short formula takes the first two.
FLOOR = (
    0  # 2^min_exponent, below which the spacing is constant (0 where float32's own smallest binade does as well), and
)
# in its lowest five bits the mantissa bits that float32 has and the format does not
LIMIT = 1  # the largest value
MAGIC = 2  # 2^(min_exponent + shift): adding and subtracting it rounds a subnormal number
OVERFLOW = 3  # result for a finite number that rounds to more than LIMIT
INFINITE = 4  # result for an infinite number
NAN = 5  # result for NaN
FLUSH = 6  # results below this become zero
ZERO_SIGN = 7  # which bits of minus zero's sign are kept
WORDS = 8
SHIFT_BITS = 31  # of FLOOR

FLOAT32_BIAS = 127
FLOAT32_MANTISSA_BITS = 23
FLOAT32_INFINITY = 0x7F800000
FLOAT32_NAN = 0x7FC00000
SMALLEST_STEP = 2  # exponent field of 2^-125, of the short formula: half of it is a normal number too
SMALLEST_SCALED_STEP = 25  # of 2^-102: to it, what float32 loses in a subnormal x / scale is nothing


def float32_bits(value: float) -> int:
    """Bits of a float32 that holds `value` exactly."""
    return int(np.float32(value).view(np.uint32))


@functools.lru_cache(maxsize=4096)
def format_words(fmt: FloatFormat, overflows: bool) -> tuple[int, ...]:
    """The words of a format; `overflows` is False for rounding toward zero, which leaves finite numbers finite."""
    shift = FLOAT32_MANTISSA_BITS - fmt.mantissa_bits
    limit = float32_bits(fmt.max)
    special = {Overflow.SATURATE: limit, Overflow.INFINITY: FLOAT32_INFINITY, Overflow.NAN: FLOAT32_NAN}
    match fmt.infinite_input:
        case InfiniteInput.OVERFLOW:
            infinite = special[fmt.overflow]
        case InfiniteInput.KEEP:
            infinite = FLOAT32_INFINITY
        case InfiniteInput.NAN:
            infinite = FLOAT32_NAN
    words = [0] * WORDS
    words[FLOOR] = shift
    if fmt.signed and (fmt.min_exponent > 1 - FLOAT32_BIAS or fmt.mantissa_bits == 0):
        words[FLOOR] |= fmt.min_exponent + FLOAT32_BIAS << FLOAT32_MANTISSA_BITS
        words[MAGIC] = fmt.min_exponent + shift + FLOAT32_BIAS << FLOAT32_MANTISSA_BITS
    if words[MAGIC] >= FLOAT32_INFINITY:
        raise FormatError(f"'{fmt}' has steps of {fmt.quantum:g}, more than 2^104; use a larger bias and a scale")
    words[LIMIT] = limit
    words[OVERFLOW] = special[fmt.overflow] if overflows else limit
    words[INFINITE] = infinite
    words[NAN] = 0 if fmt.nan_input is NanInput.ZERO else FLOAT32_NAN
    if fmt.subnormals is Subnormals.FLUSH and fmt.min_normal is not None:
        words[FLUSH] = float32_bits(fmt.min_normal)
    words[ZERO_SIGN] = 0 if fmt.reserved is Reserved.FNUZ else 0xFFFFFFFF
    return tuple(words)


def is_fast(words: tuple[int, ...]) -> bool:
    """Whether the short formula applies: the usual policies, and constants that are normal float32 numbers."""
    usual = words[LIMIT] == words[OVERFLOW] == words[INFINITE] and words[NAN] and not words[FLUSH] and words[ZERO_SIGN]
    shift, minimum = words[FLOOR] & SHIFT_BITS, words[FLOOR] >> FLOAT32_MANTISSA_BITS
    smallest_step = minimum + shift - FLOAT32_MANTISSA_BITS
    largest_magic = max(words[LIMIT] >> FLOAT32_MANTISSA_BITS, minimum) + shift
    return bool(usual) and shift > 0 and smallest_step >= SMALLEST_STEP and largest_magic < 255
