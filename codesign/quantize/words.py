"""A format as the few 32-bit words that the rounding loops take."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError
from codesign.formats import FloatFormat, InfiniteInput, NanInput, Overflow, Reserved, Subnormals

NEAREST_EVEN, TOWARD_ZERO, STOCHASTIC = range(3)  # the roundings, as the loops know them

# Position of each word.
SHIFT = 0  # mantissa bits that float32 has and the format does not
MINIMUM = (
    1  # 2^min_exponent, below which the spacing is constant; 0 where float32's own smallest binade does it as well
)
MAGIC = 2  # 2^(min_exponent + SHIFT): adding and subtracting it rounds a subnormal number
LIMIT = 3  # the largest value
OVERFLOW = 4  # result for a finite number that rounds to more than LIMIT
INFINITE = 5  # result for an infinite number
NAN = 6  # result for NaN
FLUSH = 7  # results below this become zero
ZERO_SIGN = 8  # which bits of minus zero's sign are kept
WORDS = 9

FLOAT32_BIAS = 127
FLOAT32_MANTISSA_BITS = 23
FLOAT32_INFINITY = 0x7F800000
FLOAT32_NAN = 0x7FC00000
SMALLEST_STEP = 2 << FLOAT32_MANTISSA_BITS  # 2^-125 of the short formula: half of it is a normal number too
_SUBNORMAL_IS_NOTHING = 48 << FLOAT32_MANTISSA_BITS  # a step of 2^-102: 2^-126 is below half of its 23rd fraction bit


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
    words[SHIFT] = shift
    if fmt.signed and (fmt.min_exponent > 1 - FLOAT32_BIAS or fmt.mantissa_bits == 0):
        words[MINIMUM] = fmt.min_exponent + FLOAT32_BIAS << FLOAT32_MANTISSA_BITS
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
    shift = words[SHIFT] << FLOAT32_MANTISSA_BITS
    top_exponent = max(words[LIMIT] & FLOAT32_INFINITY, words[MINIMUM])
    smallest_step = words[MINIMUM] + shift - (FLOAT32_MANTISSA_BITS << FLOAT32_MANTISSA_BITS)
    return bool(usual) and shift > 0 and smallest_step >= SMALLEST_STEP and top_exponent + shift < FLOAT32_INFINITY


def outlive_scaling(words: npt.NDArray[np.uint32]) -> bool:
    """Whether an x / scale that is subnormal in float32, and so inexact, cannot matter to the formats, (..., WORDS)."""
    step = words[..., MINIMUM] + (words[..., SHIFT] << FLOAT32_MANTISSA_BITS)
    return bool(np.all(step >= _SUBNORMAL_IS_NOTHING))


def scaled_words(words: npt.NDArray[np.uint32], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32] | None:
    """Words, for the short formula, of formats whose values are multiplied by powers of two: scaling then costs nothing.

    words : (channels or 1, WORDS)
    scale : (channels or 1,)
    None where a scale is no power of two, or moves a format out of the range in which the results are the same.
    """
    bits = scale.view(np.uint32)
    fraction = (1 << FLOAT32_MANTISSA_BITS) - 1
    if np.any(bits & fraction) or np.any(bits <= fraction):
        return None
    if not outlive_scaling(words):
        return None
    one = FLOAT32_BIAS << FLOAT32_MANTISSA_BITS
    channels = max(len(words), len(scale))
    wide = np.broadcast_to(words, (channels, WORDS)).astype(np.int64)
    moved = np.broadcast_to(bits.astype(np.int64) - one, channels)
    shift = wide[:, SHIFT] << FLOAT32_MANTISSA_BITS
    minimum, limit = wide[:, MINIMUM] + moved, np.where(wide[:, LIMIT] > 0, wide[:, LIMIT] + moved, 0)
    smallest_step = minimum + shift - (FLOAT32_MANTISSA_BITS << FLOAT32_MANTISSA_BITS)
    top_exponent = np.maximum(limit & ~fraction, minimum)
    if np.any(smallest_step < SMALLEST_STEP) or np.any(top_exponent + shift >= FLOAT32_INFINITY):
        return None
    wide[:, MINIMUM], wide[:, LIMIT] = minimum, limit
    return np.ascontiguousarray(wide, dtype=np.uint32)
