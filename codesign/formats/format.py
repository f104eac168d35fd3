"""A format as a value: its fields, its values and codes, and what rounding to it means."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import assert_never

from codesign.errors import FormatError
from codesign.formats import names
from codesign.formats.policies import InfiniteInput, NanInput, Overflow, Reserved, Rounding, Subnormals, as_member

_LISTED_BITS = 20  # the widest format whose values are listed: a million of them
_SIGNIFICAND_BITS = 23  # of float32, without the hidden bit: what stochastic rounding draws its bits below
_KINDS: dict[str, type[StrEnum]] = {
    "reserved": Reserved,
    "subnormals": Subnormals,
    "overflow": Overflow,
    "infinite_input": InfiniteInput,
    "nan_input": NanInput,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatFormat:
    """Sign, exponent, mantissa and the policies at the ends; every finite value of it is a float32.

    exponent_bits : 0 to 8; 0 is a sign-magnitude integer times a power of two
    mantissa_bits : 0 to 23, without the hidden bit
    bias : a number with exponent field e > 0 and mantissa field f is (1 + f / 2^M) * 2^(e - bias); with e = 0 it is
        subnormal, (f / 2^M) * 2^(1 - bias)
    signed : False for the unsigned e8m0 only, whose code c is 2^(c - 127): it has neither zero nor subnormals
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    reserved: Reserved
    subnormals: Subnormals = Subnormals.KEEP
    overflow: Overflow = Overflow.SATURATE
    infinite_input: InfiniteInput = InfiniteInput.OVERFLOW
    nan_input: NanInput = NanInput.KEEP
    signed: bool = True

    def __post_init__(self) -> None:
        for field in ("exponent_bits", "mantissa_bits", "bias"):
            object.__setattr__(self, field, operator.index(getattr(self, field)))
        for field, kind in _KINDS.items():  # a word in place of a member would be equal to it, but not the same
            object.__setattr__(self, field, as_member(kind, getattr(self, field)))
        exponent_bits, mantissa_bits = self.exponent_bits, self.mantissa_bits
        if not (0 <= exponent_bits <= 8 and 0 <= mantissa_bits <= 23):
            self._refuse("is out of range; exponent bits 0 to 8, mantissa bits 0 to 23")
        if self.reserved is Reserved.IEEE and exponent_bits == 0:
            self._refuse("has no exponent to reserve; write it without 'ieee'")
        if self.reserved is Reserved.FN and exponent_bits + mantissa_bits == 0:
            self._refuse("reserves its only code; write it without 'fn'")
        if not self.signed and (exponent_bits, mantissa_bits, self.bias, self.reserved) != (8, 0, 127, Reserved.FN):
            self._refuse("cannot be unsigned; only e8m0 can")
        if self.bias > 127:
            self._refuse(f"has bias {self.bias}, its normal numbers begin below those of float32; bias 127 is the most")
        if self._max_exponent > 127:
            self._refuse(
                f"with bias {self.bias} reaches 2^{self._max_exponent}, float32 ends below 2^128; raise the bias or "
                "reserve the top binade ('ieee')"
            )
        if self.subnormals is Subnormals.FLUSH and self.min_normal is None:
            self._refuse("has only subnormal numbers; flushed, nothing but zero is left")
        if self.overflow is Overflow.INFINITY and not self.has_infinity:
            self._refuse("has no infinity to overflow to; use -nan, saturation, or reserve the top binade ('ieee')")
        if self.overflow is Overflow.NAN and not self.has_nan:
            self._refuse("has no NaN to overflow to; use saturation")
        if self.infinite_input is InfiniteInput.KEEP and not self.has_infinity:
            self._refuse("has no infinity to keep; reserve the top binade ('ieee')")
        if self.infinite_input is InfiniteInput.NAN and not self.has_nan:
            self._refuse("has no NaN for an infinite input")
        if self.nan_input is NanInput.ZERO and not self.signed:
            self._refuse("is a scale and has no zero for a NaN to become")

    def _refuse(self, reason: str) -> None:
        raise FormatError(f"'e{self.exponent_bits}m{self.mantissa_bits}' {reason}")

    @classmethod
    def of(
        cls,
        exponent_bits: int,
        mantissa_bits: int,
        *,
        bias: int | None = None,
        reserved: Reserved | None = None,
        subnormals: Subnormals = Subnormals.KEEP,
        overflow: Overflow = Overflow.SATURATE,
        infinite_input: InfiniteInput | None = None,
        nan_input: NanInput = NanInput.KEEP,
        signed: bool | None = None,
    ) -> FloatFormat:
        """The format with these fields and, for what is left out, the defaults of the room's first lines."""
        if signed is None:
            signed = names.default_signed(exponent_bits, mantissa_bits)
        if reserved is None:
            reserved = names.default_reserved(exponent_bits, mantissa_bits, signed)
        reserved = as_member(Reserved, reserved)
        if infinite_input is None:
            infinite_input = names.default_infinite_input(exponent_bits, mantissa_bits, reserved)
        return cls(
            exponent_bits=exponent_bits,
            mantissa_bits=mantissa_bits,
            bias=names.default_bias(exponent_bits, mantissa_bits, reserved) if bias is None else bias,
            reserved=reserved,
            subnormals=subnormals,
            overflow=overflow,
            infinite_input=infinite_input,
            nan_input=nan_input,
            signed=signed,
        )

    @classmethod
    def parse(cls, text: str) -> FloatFormat:
        """The format that `text` names: `e4m3`, `e4m3fn`, `e4m3b11`, `bfloat16`, `e5m2-inf`, ... in either case.

        The same text gives the same object, so that a list of one format per channel costs little.
        """
        return _parse(str(text))

    def __str__(self) -> str:
        """The shortest word that `parse` reads as this format."""
        default = FloatFormat.of(self.exponent_bits, self.mantissa_bits, reserved=self.reserved, signed=self.signed)
        own: tuple[names.Policy, ...] = (self.subnormals, self.overflow, self.infinite_input, self.nan_input)
        usual = (default.subnormals, default.overflow, default.infinite_input, default.nan_input)
        return names.name_of(
            self.exponent_bits,
            self.mantissa_bits,
            bias=self.bias if self.bias != default.bias else None,
            reserved=self.reserved,
            policies=tuple(policy for policy in own if policy not in usual),
            signed=self.signed,
        )

    @property
    def bits(self) -> int:
        """Width of one number in bits, sign included."""
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def has_infinity(self) -> bool:
        """Whether a code is infinity."""
        match self.reserved:
            case Reserved.IEEE:
                return True
            case Reserved.FN | Reserved.FNUZ | Reserved.NONE:
                return False
            case _:
                assert_never(self.reserved)

    @property
    def has_nan(self) -> bool:
        """Whether a code is NaN."""
        match self.reserved:
            case Reserved.IEEE:
                return self.mantissa_bits > 0  # else the one code of the top exponent is infinity
            case Reserved.FN | Reserved.FNUZ:
                return True
            case Reserved.NONE:
                return False
            case _:
                assert_never(self.reserved)

    @property
    def has_minus_zero(self) -> bool:
        """Whether a code is minus zero; rounding otherwise gives plus zero."""
        match self.reserved:
            case Reserved.IEEE | Reserved.FN | Reserved.NONE:
                return self.signed
            case Reserved.FNUZ:
                return False
            case _:
                assert_never(self.reserved)

    @property
    def overflow_result(self) -> float:
        """The magnitude of a finite number that is larger than the largest value after rounding."""
        match self.overflow:
            case Overflow.SATURATE:
                return self.max
            case Overflow.INFINITY:
                return math.inf
            case Overflow.NAN:
                return math.nan
            case _:
                assert_never(self.overflow)

    @property
    def infinite_result(self) -> float:
        """The magnitude of an infinite input, whatever the rounding."""
        match self.infinite_input:
            case InfiniteInput.OVERFLOW:
                return self.overflow_result
            case InfiniteInput.KEEP:
                return math.inf
            case InfiniteInput.NAN:
                return math.nan
            case _:
                assert_never(self.infinite_input)

    @property
    def nan_result(self) -> float:
        """The magnitude of a NaN input."""
        match self.nan_input:
            case NanInput.KEEP:
                return math.nan
            case NanInput.ZERO:
                return 0.0
            case _:
                assert_never(self.nan_input)

    @property
    def flushed_below(self) -> float:
        """Magnitudes below this become zero after rounding; 0 where none do."""
        match self.subnormals:
            case Subnormals.KEEP:
                return 0.0
            case Subnormals.FLUSH:
                return math.ldexp(1.0, self.min_exponent)
            case _:
                assert_never(self.subnormals)

    @property
    def min_exponent(self) -> int:
        """Exponent of the smallest normal number; below 2^min_exponent the spacing of values is constant."""
        return 1 - self.bias if self.signed else -self.bias

    @property
    def quantum(self) -> float:
        """Spacing of the values below 2^(min_exponent + 1), the finest there is."""
        return math.ldexp(1.0, self.min_exponent - self.mantissa_bits)

    @property
    def max(self) -> float:
        """The largest value."""
        return self._magnitude(self._top_code)

    @property
    def min_normal(self) -> float | None:
        """The smallest positive normal number; None where every number is subnormal (as with E = 0)."""
        return math.ldexp(1.0, self.min_exponent) if self._first_normal <= self._top_code else None

    @property
    def min_subnormal(self) -> float | None:
        """The smallest positive subnormal number; None where there is none (M = 0) or where they are flushed."""
        if self.mantissa_bits == 0 or self._top_code == 0 or not self.signed or self.quantum < self.flushed_below:
            return None
        return self.quantum

    @property
    def dtype_name(self) -> str | None:
        """Name of the ml_dtypes, numpy or torch dtype with the same codes (policies apart), if there is one."""
        for name, word in names.ALIASES.items():
            if name.startswith(("float", "bfloat")) and self._layout == FloatFormat.parse(word)._layout:
                return name
        return None

    def round(self, x: float, rounding: Rounding = Rounding.NEAREST_EVEN, *, random_bits: int | None = None) -> float:
        """The value of this format that `x` becomes: the definition, exact and slow, that every fast path is tested against.

        The unbounded grid of the format is rounded to first; then the policies say what becomes of the ends.

        x : any float; for `STOCHASTIC` a float32
        random_bits : of `STOCHASTIC` only, an integer of 23 - M random bits or more, of which the lowest 23 - M count; `x`
            is rounded up where they reach the share of the step, in 2^(23 - M) parts, that `x` is short of the upper value
        """
        if (random_bits is None) == (rounding is Rounding.STOCHASTIC):
            raise FormatError("random_bits= is needed by, and only by, stochastic rounding")
        if math.isnan(x):
            magnitude = self.nan_result
        elif math.isinf(x):
            magnitude = self.infinite_result
        else:
            exponent = max(math.frexp(x)[1] - 1, self.min_exponent)  # of the binade of x
            spacing = Fraction(2) ** (exponent - self.mantissa_bits)
            steps = _whole_steps(abs(Fraction(x)) / spacing, rounding, self.mantissa_bits, random_bits)
            if steps * spacing <= self.max:
                magnitude = float(steps * spacing)
            else:  # toward zero, no finite number is too large
                magnitude = self.max if rounding is Rounding.TOWARD_ZERO else self.overflow_result
            if magnitude < self.flushed_below:
                magnitude = 0.0
        if not self.signed:  # e8m0 begins at 2^-127, and has no negative numbers
            return math.nan if x < 0 or math.isnan(magnitude) else max(magnitude, self.quantum)
        return magnitude if magnitude == 0 and not self.has_minus_zero else math.copysign(magnitude, x)

    def values(self) -> list[float]:
        """Every finite value once, ascending; formats up to 20 bits."""
        if self.bits > _LISTED_BITS:
            raise FormatError(f"'{self}' has 2^{self.bits} codes, too many to list; {_LISTED_BITS} bits is the most")
        codes = range(1 if self.signed else 0, self._top_code + 1)
        positive = [value for value in map(self._magnitude, codes) if value >= self.flushed_below]
        if not self.signed:
            return positive
        return [*(-value for value in reversed(positive)), 0.0, *positive]

    def decode(self, code: int) -> float:
        """The value of a code, an integer of `bits` bits (sign on top, then exponent, then mantissa)."""
        if not 0 <= code < 1 << self.bits:
            raise FormatError(f"code {code} is not one of the {self.bits}-bit format '{self}'")
        magnitude_bits = self.exponent_bits + self.mantissa_bits
        negative, magnitude = code >> magnitude_bits, code & ((1 << magnitude_bits) - 1)
        if self.reserved is Reserved.FNUZ and negative and magnitude == 0:
            return math.nan
        if magnitude > self._top_code:
            infinite = self.has_infinity and magnitude == self._top_code + 1
            value = math.inf if infinite else math.nan
        else:
            value = self._magnitude(magnitude)
        return -value if negative else value

    def encode(self, value: float) -> int:
        """The code of a value of this format, infinity and NaN included where it has them; does not round."""
        magnitude_bits = self.exponent_bits + self.mantissa_bits
        if math.isnan(value) and self.has_nan:
            match self.reserved:
                case Reserved.IEEE:  # quiet: the top mantissa bit is set
                    return self._top_code + 1 + (1 << (self.mantissa_bits - 1))
                case Reserved.FN:
                    return self._top_code + 1
                case Reserved.FNUZ:
                    return 1 << magnitude_bits
                case Reserved.NONE:
                    raise AssertionError("a format without reserved codes has no NaN")
                case _:
                    assert_never(self.reserved)
        code = self._magnitude_code(abs(value)) if not math.isnan(value) else None
        negative = math.copysign(1.0, value) < 0
        if code is None or (negative and not self.signed):
            raise FormatError(f"{value!r} is not a value of '{self}'; round it first, for example by round_to_format")
        if code == 0 and not self.has_minus_zero:
            return 0
        return code | negative << magnitude_bits

    @property
    def _layout(self) -> tuple[int, int, int, Reserved, bool]:
        return self.exponent_bits, self.mantissa_bits, self.bias, self.reserved, self.signed

    @property
    def _top_code(self) -> int:
        """Magnitude code of the largest finite value."""
        codes = 1 << (self.exponent_bits + self.mantissa_bits)
        match self.reserved:
            case Reserved.IEEE:
                return codes - (1 << self.mantissa_bits) - 1
            case Reserved.FN:
                return codes - 2
            case Reserved.FNUZ | Reserved.NONE:
                return codes - 1
            case _:
                assert_never(self.reserved)

    @property
    def _max_exponent(self) -> int:
        """Exponent of the binade that holds the largest value (for all-subnormal formats, a bound on it)."""
        return max((self._top_code >> self.mantissa_bits), self.signed) - self.bias

    @property
    def _first_normal(self) -> int:
        """Magnitude code of the first normal number."""
        return 1 << self.mantissa_bits if self.signed else 0

    def _magnitude(self, code: int) -> float:
        """The value of a finite magnitude code."""
        exponent_field, mantissa = code >> self.mantissa_bits, code & ((1 << self.mantissa_bits) - 1)
        if exponent_field or not self.signed:
            mantissa += 1 << self.mantissa_bits
        return math.ldexp(mantissa, max(exponent_field, self.signed) - self.bias - self.mantissa_bits)

    def _magnitude_code(self, magnitude: float) -> int | None:
        """The magnitude code of a value that is not NaN, or None if there is none."""
        if math.isinf(magnitude):
            return self._top_code + 1 if self.has_infinity else None
        if magnitude == 0:
            return 0 if self.signed else None
        exponent = max(math.frexp(magnitude)[1] - 1, self.min_exponent)
        # in units of the spacing; exact, or absurdly large
        steps = math.ldexp(magnitude, self.mantissa_bits - exponent)
        if steps != int(steps):
            return None
        code = int(steps) + (exponent - self.min_exponent << self.mantissa_bits)
        code -= 0 if self.signed else 1
        if not 0 <= code <= self._top_code:
            return None
        return None if 0 < magnitude < self.flushed_below else code


def _whole_steps(steps: Fraction, rounding: Rounding, mantissa_bits: int, random_bits: int | None) -> int:
    """A magnitude in units of the spacing, rounded to a whole one."""
    match rounding:
        case Rounding.NEAREST_EVEN:
            return round(steps)  # of a Fraction: ties to even
        case Rounding.TOWARD_ZERO:
            return math.floor(steps)
        case Rounding.STOCHASTIC:
            assert random_bits is not None
            parts = 1 << (
                _SIGNIFICAND_BITS - mantissa_bits
            )  # of a step; below the normal numbers float32 has more digits
            return (round(steps * parts) + random_bits % parts) // parts
        case _:
            assert_never(rounding)


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> FloatFormat:
    return FloatFormat.of(**names.fields_of(text))


def as_format(fmt: FloatFormat | str) -> FloatFormat:
    """The format that `fmt` is or names."""
    if isinstance(fmt, FloatFormat):
        return fmt
    if not isinstance(fmt, str):
        raise FormatError(f"a FloatFormat or its name is needed, got {str(fmt)[:60]!r}")
    return FloatFormat.parse(fmt)


FLOAT32 = FloatFormat.parse("float32")
