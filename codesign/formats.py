"""Number formats: a sign, E exponent bits, M mantissa bits (the hidden bit is not counted)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from codesign.errors import FormatError

_PATTERN = re.compile(r"e(\d+)m(\d+)(?:b(-?\d+))?(fnuz|fn|ieee|all)?")
_ALIASES = {
    "float32": "e8m23",
    "fp32": "e8m23",
    "bfloat16": "e8m7",
    "bf16": "e8m7",
    "float16": "e5m10",
    "fp16": "e5m10",
}


class Reserved(StrEnum):
    """Which top codes are taken by infinities and NaN."""

    IEEE = "ieee"  # the top exponent: infinity and NaN
    FN = "fn"  # the all-ones code only: NaN
    FNUZ = "fnuz"  # the code of minus zero: NaN
    NONE = "all"  # no code: all are finite


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """Sign, exponent, mantissa; `exponent_bits == 0` is a sign-magnitude integer."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    reserved: Reserved

    def __post_init__(self) -> None:
        if not (0 <= self.exponent_bits <= 8 and 0 <= self.mantissa_bits <= 23):
            raise FormatError(
                f"'e{self.exponent_bits}m{self.mantissa_bits}' is out of range; "
                "exponent bits 0 to 8, mantissa bits 0 to 23"
            )

    @classmethod
    def parse(cls, text: str) -> FloatFormat:
        """The format that `text` names: `e4m3`, `e4m3fn`, `e4m3b11`, `bfloat16`, ..."""
        match = _PATTERN.fullmatch(_ALIASES.get(text.lower(), text.lower()))
        if match is None:
            raise FormatError(
                f"'{text}' is not a float format; write e<exponent bits>m<mantissa bits>, for example e4m3"
            )
        exponent_bits, mantissa_bits = int(match[1]), int(match[2])
        narrow = 1 + exponent_bits + mantissa_bits < 8
        reserved = Reserved(match[4]) if match[4] else Reserved.NONE if narrow else Reserved.IEEE
        default_bias = (1 << (exponent_bits - 1)) - 1 if exponent_bits else 0
        return cls(exponent_bits, mantissa_bits, int(match[3]) if match[3] else default_bias, reserved)

    @property
    def bits(self) -> int:
        """Width of one number in bits, sign included."""
        return 1 + self.exponent_bits + self.mantissa_bits

    def __str__(self) -> str:
        return f"e{self.exponent_bits}m{self.mantissa_bits}"
