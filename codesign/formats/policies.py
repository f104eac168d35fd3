"""What may differ between formats of the same widths, and between roundings to the same format.

What a member means is said once, by the properties of `FloatFormat` and by `FloatFormat.round`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from codesign.errors import FormatError, did_you_mean

Member = TypeVar("Member", bound=StrEnum)


def as_member(kind: type[Member], value: str) -> Member:
    """The member of `kind` that `value` is or names."""
    try:
        return kind(value)
    except ValueError:
        raise FormatError(f"{kind.__name__} '{value}' is unknown{did_you_mean(str(value), kind)}") from None


class Rounding(StrEnum):
    """Which of the two neighbouring values a number becomes.

    Of two equally near ones `NEAREST_EVEN` takes that with an even last digit and, where neither has one (between powers
    of two, M = 0), the larger in magnitude: IEEE 754-2019, 4.3.1.
    """

    NEAREST_EVEN = "nearest-even"
    TOWARD_ZERO = "toward-zero"
    STOCHASTIC = "stochastic"  # the upper one with probability (x - lower) / (upper - lower)


class Reserved(StrEnum):
    """Which codes are not finite numbers."""

    IEEE = "ieee"  # the top exponent: infinity (mantissa 0) and NaN (any other)
    FN = "fn"  # the all-ones codes only: NaN
    FNUZ = "fnuz"  # the code of minus zero only: NaN
    NONE = "all"  # no code: all are finite


class Subnormals(StrEnum):
    """What becomes of results between zero and the smallest normal number."""

    KEEP = "keep"
    FLUSH = "flush"  # rounded as if kept; a result that is still subnormal becomes zero


class Overflow(StrEnum):
    """What becomes of a number that is larger than the largest value *after* rounding."""

    SATURATE = "sat"
    INFINITY = "inf"
    NAN = "nan"


class InfiniteInput(StrEnum):
    """What becomes of an infinite input."""

    OVERFLOW = "overflow"  # the same as of a finite number that is too large
    KEEP = "keepinf"
    NAN = "infnan"


class NanInput(StrEnum):
    """What becomes of a NaN input."""

    KEEP = "keepnan"  # NaN, also from a format without a code for it: `encode` refuses it, no result hides it
    ZERO = "nanzero"
