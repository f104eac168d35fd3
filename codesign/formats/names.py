"""The grammar of format names: a word to fields and back, and what a word may leave out.

The first lines of the room's `__init__.py` explain the grammar.
"""

from __future__ import annotations

import re
from typing import TypedDict, assert_never

from codesign.errors import FormatError, did_you_mean
from codesign.formats.policies import InfiniteInput, NanInput, Overflow, Reserved, Subnormals

_PATTERN = re.compile(r"e([0-9]{1,3})m([0-9]{1,3})(?:b(-?[0-9]{1,3}))?(fnuz|fn|ieee|all)?((?:-[a-z0-9]+)*)")
ALIASES = {
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

Policy = Subnormals | Overflow | InfiniteInput | NanInput
_POLICIES: dict[str, Policy] = {
    **{policy.value: policy for policy in Subnormals},
    **{policy.value: policy for policy in Overflow},
    **{policy.value: policy for policy in InfiniteInput},
    **{policy.value: policy for policy in NanInput},
}
_SIGNED = "signed"


class Fields(TypedDict, total=False):
    """Arguments of `FloatFormat.of`; what a name leaves out is not there."""

    exponent_bits: int
    mantissa_bits: int
    bias: int
    reserved: Reserved
    subnormals: Subnormals
    overflow: Overflow
    infinite_input: InfiniteInput
    nan_input: NanInput
    signed: bool


def fields_of(text: str) -> Fields:
    """The fields that a name spells out, in either case. `FormatError` for a word that is not a name."""
    name, dash, rest = text.strip().lower().partition("-")
    match = _PATTERN.fullmatch(ALIASES.get(name, name) + dash + rest)
    if match is None:
        raise FormatError(f"'{text}' is not a float format; write e<exponent bits>m<mantissa bits>, for example e4m3")
    fields: Fields = {"exponent_bits": int(match[1]), "mantissa_bits": int(match[2])}
    if match[3]:
        fields["bias"] = int(match[3])
    if match[4]:
        fields["reserved"] = Reserved(match[4])
    for word in match[5].split("-")[1:]:
        if word == _SIGNED:
            fields["signed"] = True
        elif word in _POLICIES:
            _add_policy(text, fields, _POLICIES[word])
        else:
            raise FormatError(f"'{text}': unknown policy '{word}'{did_you_mean(word, [*_POLICIES, _SIGNED])}")
    return fields


def _add_policy(text: str, fields: Fields, policy: Policy) -> None:
    before: Policy
    match policy:
        case Subnormals():
            before = fields.setdefault("subnormals", policy)
        case Overflow():
            before = fields.setdefault("overflow", policy)
        case InfiniteInput():
            before = fields.setdefault("infinite_input", policy)
        case NanInput():
            before = fields.setdefault("nan_input", policy)
        case _:
            assert_never(policy)
    if before is not policy:
        raise FormatError(f"'{text}': policy '{policy}' contradicts '{before}'; keep one of them")


def name_of(
    exponent_bits: int,
    mantissa_bits: int,
    *,
    bias: int | None,
    reserved: Reserved,
    policies: tuple[Policy, ...],
    signed: bool,
) -> str:
    """The word for these fields; `bias` is None, and a policy is not among `policies`, where it is the default."""
    word = f"e{exponent_bits}m{mantissa_bits}"
    if bias is not None:
        word += f"b{bias}"
    if reserved is not default_reserved(exponent_bits, mantissa_bits, signed):
        word += reserved
    word += "".join(f"-{policy}" for policy in policies)
    return word + (f"-{_SIGNED}" if signed and not default_signed(exponent_bits, mantissa_bits) else "")


def default_signed(exponent_bits: int, mantissa_bits: int) -> bool:
    """Whether a format of these widths has a sign; all but e8m0, the scale of the microscaling formats, have one."""
    return (exponent_bits, mantissa_bits) != (8, 0)


def default_reserved(exponent_bits: int, mantissa_bits: int, signed: bool) -> Reserved:
    """As in the OCP formats: infinity and NaN from 8 bits on, all codes finite below and for integers."""
    if not signed:
        return Reserved.FN
    wide = exponent_bits > 0 and 1 + exponent_bits + mantissa_bits >= 8
    return Reserved.IEEE if wide else Reserved.NONE


def default_bias(exponent_bits: int, mantissa_bits: int, reserved: Reserved) -> int:
    """2^(E-1) - 1, one more for fnuz; of an integer the bias that makes its step 1."""
    if exponent_bits == 0:
        return 1 - mantissa_bits
    return (1 << (exponent_bits - 1)) - 1 + (reserved is Reserved.FNUZ)


def default_infinite_input(exponent_bits: int, mantissa_bits: int, reserved: Reserved) -> InfiniteInput:
    """An overflow, except that float32 (e8m23) stays as it is in every bit."""
    is_float32 = (exponent_bits, mantissa_bits, reserved) == (8, 23, Reserved.IEEE)
    return InfiniteInput.KEEP if is_float32 else InfiniteInput.OVERFLOW
