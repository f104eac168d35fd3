"""Number formats: a sign, E exponent bits, M mantissa bits (the hidden bit is not counted), and policies for the ends.

A format is named by one word that `FloatFormat.parse` reads and `str` writes back, always in the same, shortest form:

    e<E>m<M>[b<bias>][ieee|fn|fnuz|all][-<policy>]...

    ieee, fn, fnuz, all   which top codes are taken by infinity and NaN, see `Reserved`; left out: `ieee` from 8 bits
                          on, `all` below (as in the OCP microscaling formats) and for integers (E = 0)
    b<bias>               left out: 2^(E-1) - 1, one more for fnuz; for integers the one that makes the step 1
    -flush                numbers below the smallest normal one become zero
    -inf, -nan            finite overflow becomes infinity or NaN; left out, it saturates to the largest value
    -keepinf, -infnan     an infinite input stays infinite or becomes NaN; left out, it is an overflow like any other
    -nanzero              a NaN input becomes zero; left out, it stays NaN
    -signed               `e8m0` alone is the unsigned scale of the microscaling formats; `e8m0-signed` has a sign

    >>> e4m3 = FloatFormat.parse("float8_e4m3fn")
    >>> str(e4m3), e4m3.max, e4m3.min_normal, e4m3.min_subnormal
    ('e4m3fn', 448.0, 0.015625, 0.001953125)

Sources: IEEE 754-2019; OCP 8-bit Floating Point Specification (OFP8) rev. 1.0, 2023 (e4m3fn, e5m2); OCP Microscaling
Formats (MX) rev. 1.0, 2023 (e3m2, e2m3, e2m1, e8m0); Noune et al. 2022, arXiv 2206.02915 (fnuz).
"""

from __future__ import annotations

import functools
import math
import operator
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from codesign.errors import FormatError, did_you_mean

_PATTERN = re.compile(r"e([0-9]{1,3})m([0-9]{1,3})(?:b(-?[0-9]{1,3}))?(fnuz|fn|ieee|all)?((?:-[a-z0-9]+)*)")
_ALIASES = {
    "float32": "e8m23",
    "fp32": "e8m23",
    "tf32": "e8m10",
    "bfloat16": "e8m7",
    "bf16": "e8m7",
    "float16": "e5m10",
    "fp16": "e5m10",
    # dtype names of ml_dtypes and torch; what they call "fn" in fewer than 8 bits has no NaN
    "float8_e3m4": "e3m4",
    "float8_e4m3": "e4m3",
    "float8_e4m3fn": "e4m3fn",
    "float8_e4m3fnuz": "e4m3fnuz",
    "float8_e4m3b11fnuz": "e4m3b11fnuz",
    "float8_e5m2": "e5m2",
    "float8_e5m2fnuz": "e5m2fnuz",
    "float8_e8m0fnu": "e8m0",
    "float6_e2m3fn": "e2m3",
    "float6_e3m2fn": "e3m2",
    "float4_e2m1fn": "e2m1",
}
_LISTED_BITS = 20  # the widest format whose values are listed: a million of them


Member = TypeVar("Member", bound=StrEnum)


def as_member(kind: type[Member], value: str) -> Member:
    """The member of `kind` that `value` is or names."""
    try:
        return kind(value)
    except ValueError:
        raise FormatError(f"{kind.__name__} '{value}' is unknown{did_you_mean(str(value), kind)}") from None


def as_format(fmt: FloatFormat | str) -> FloatFormat:
    """The format that `fmt` is or names."""
    if isinstance(fmt, FloatFormat):
        return fmt
    if not isinstance(fmt, str):
        raise FormatError(f"a FloatFormat or its name is needed, got {str(fmt)[:60]!r}")
    return FloatFormat.parse(fmt)


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


_KINDS: dict[str, type[StrEnum]] = {
    "reserved": Reserved,
    "subnormals": Subnormals,
    "overflow": Overflow,
    "infinite_input": InfiniteInput,
    "nan_input": NanInput,
}
_POLICIES: dict[str, tuple[str, Any]] = {
    **{value.value: (field, value) for field, kind in _KINDS.items() if field != "reserved" for value in kind},
    "signed": ("signed", True),
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
        """The format with these fields and, for what is left out, the defaults of the module's first lines."""
        if signed is None:
            signed = (exponent_bits, mantissa_bits) != (8, 0)
        if reserved is None:
            reserved = _default_reserved(exponent_bits, mantissa_bits, signed)
        reserved = as_member(Reserved, reserved)
        if infinite_input is None:
            infinite_input = _default_infinite_input(exponent_bits, mantissa_bits, reserved)
        return cls(
            exponent_bits=exponent_bits,
            mantissa_bits=mantissa_bits,
            bias=_default_bias(exponent_bits, mantissa_bits, reserved) if bias is None else bias,
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
        exponent_bits, mantissa_bits = self.exponent_bits, self.mantissa_bits
        default = FloatFormat.of(exponent_bits, mantissa_bits, reserved=self.reserved, signed=self.signed)
        word = f"e{exponent_bits}m{mantissa_bits}"
        if self.bias != default.bias:
            word += f"b{self.bias}"
        if self.reserved is not _default_reserved(exponent_bits, mantissa_bits, self.signed):
            word += self.reserved
        for field in ("subnormals", "overflow", "infinite_input", "nan_input"):
            if getattr(self, field) is not getattr(default, field):
                word += f"-{getattr(self, field)}"
        return word + ("-signed" if self.signed and (exponent_bits, mantissa_bits) == (8, 0) else "")

    @property
    def bits(self) -> int:
        """Width of one number in bits, sign included."""
        return self.signed + self.exponent_bits + self.mantissa_bits

    @property
    def has_infinity(self) -> bool:
        """Whether a code is infinity."""
        return self.reserved is Reserved.IEEE

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
        if self.mantissa_bits == 0 or self._top_code == 0 or self.subnormals is Subnormals.FLUSH or not self.signed:
            return None
        return self.quantum

    @property
    def dtype_name(self) -> str | None:
        """Name of the ml_dtypes, numpy or torch dtype with the same codes (policies apart), if there is one."""
        for name, word in _ALIASES.items():
            if name.startswith(("float", "bfloat")) and self._layout == FloatFormat.parse(word)._layout:
                return name
        return None

    def values(self) -> list[float]:
        """Every finite value once, ascending; formats up to 20 bits."""
        if self.bits > _LISTED_BITS:
            raise FormatError(f"'{self}' has 2^{self.bits} codes, too many to list; {_LISTED_BITS} bits is the most")
        first = self._first_normal if self.subnormals is Subnormals.FLUSH else 1
        positive = [self._magnitude(code) for code in range(first, self._top_code + 1)]
        if not self.signed:
            return [self._magnitude(0), *positive]
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
                case Reserved.FNUZ:
                    return 1 << magnitude_bits
                case Reserved.IEEE:  # quiet: the top mantissa bit is set
                    return self._top_code + 1 + (1 << (self.mantissa_bits - 1))
                case _:
                    return self._top_code + 1
        code = self._magnitude_code(abs(value)) if not math.isnan(value) else None
        negative = math.copysign(1.0, value) < 0
        if code is None or (negative and not self.signed):
            raise FormatError(f"{value!r} is not a value of '{self}'; round it first, for example by round_to_format")
        if code == 0 and self.reserved is Reserved.FNUZ:
            return 0  # there is no minus zero
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
        steps = math.ldexp(
            magnitude, self.mantissa_bits - exponent
        )  # in units of the spacing; exact, or absurdly large
        if steps != int(steps):
            return None
        code = int(steps) + (exponent - self.min_exponent << self.mantissa_bits)
        code -= 0 if self.signed else 1
        if not 0 <= code <= self._top_code:
            return None
        return None if self.subnormals is Subnormals.FLUSH and code < self._first_normal else code


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> FloatFormat:
    name, dash, rest = text.strip().lower().partition("-")
    match = _PATTERN.fullmatch(_ALIASES.get(name, name) + dash + rest)
    if match is None:
        raise FormatError(f"'{text}' is not a float format; write e<exponent bits>m<mantissa bits>, for example e4m3")
    policies: dict[str, Any] = {}
    for policy in match[5].split("-")[1:]:
        if policy not in _POLICIES:
            raise FormatError(f"'{text}': unknown policy '{policy}'{did_you_mean(policy, _POLICIES)}")
        field, value = _POLICIES[policy]
        if policies.setdefault(field, value) != value:
            raise FormatError(f"'{text}': policy '{policy}' contradicts '{policies[field]}'; keep one of them")
    return FloatFormat.of(
        int(match[1]),
        int(match[2]),
        bias=int(match[3]) if match[3] else None,
        reserved=Reserved(match[4]) if match[4] else None,
        **policies,
    )


def _default_reserved(exponent_bits: int, mantissa_bits: int, signed: bool) -> Reserved:
    if not signed:
        return Reserved.FN
    wide = exponent_bits > 0 and 1 + exponent_bits + mantissa_bits >= 8
    return Reserved.IEEE if wide else Reserved.NONE


def _default_bias(exponent_bits: int, mantissa_bits: int, reserved: Reserved) -> int:
    if exponent_bits == 0:
        return 1 - mantissa_bits  # the step is 1
    return (1 << (exponent_bits - 1)) - 1 + (reserved is Reserved.FNUZ)


def _default_infinite_input(exponent_bits: int, mantissa_bits: int, reserved: Reserved) -> InfiniteInput:
    """An overflow, except that float32 (e8m23) stays as it is in every bit."""
    is_float32 = (exponent_bits, mantissa_bits, reserved) == (8, 23, Reserved.IEEE)
    return InfiniteInput.KEEP if is_float32 else InfiniteInput.OVERFLOW


FLOAT32 = FloatFormat.parse("float32")
