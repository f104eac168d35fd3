"""Names of formats. Evidence: exhaustive over E, M and reserved codes; properties over every policy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import FloatFormat
from codesign.errors import FormatError
from codesign.formats import InfiniteInput, NanInput, Overflow, Reserved, Subnormals
from codesign.testing import float_formats


@pytest.mark.parametrize("exponent_bits", range(9))
def test_parse_undoes_str_for_every_width(exponent_bits):
    for mantissa_bits in range(24):
        for reserved in (None, *Reserved):
            for signed in (None, True):
                try:
                    fmt = FloatFormat.of(exponent_bits, mantissa_bits, reserved=reserved, signed=signed)
                except FormatError:
                    continue
                assert FloatFormat.parse(str(fmt)) == fmt
                assert FloatFormat.parse(str(fmt).upper()) == fmt


@given(float_formats(max_bits=32))
def test_parse_undoes_str_for_every_policy_and_bias(fmt):
    assert FloatFormat.parse(str(fmt)) == fmt
    assert hash(FloatFormat.parse(str(fmt))) == hash(fmt)


@pytest.mark.parametrize(
    ("name", "exponent_bits", "mantissa_bits", "bias", "reserved"),
    [
        ("e4m3fn", 4, 3, 7, "fn"),
        ("float8_e4m3fn", 4, 3, 7, "fn"),
        ("e5m2", 5, 2, 15, "ieee"),
        ("e4m3", 4, 3, 7, "ieee"),
        ("e4m3fnuz", 4, 3, 8, "fnuz"),
        ("e5m2fnuz", 5, 2, 16, "fnuz"),
        ("e4m3b11fnuz", 4, 3, 11, "fnuz"),
        ("e4m3b11", 4, 3, 11, "ieee"),
        ("e3m2", 3, 2, 3, "all"),
        ("e2m3", 2, 3, 1, "all"),
        ("e2m1", 2, 1, 1, "all"),
        ("float4_e2m1fn", 2, 1, 1, "all"),
        ("e8m0", 8, 0, 127, "fn"),
        ("bfloat16", 8, 7, 127, "ieee"),
        ("float16", 5, 10, 15, "ieee"),
        ("tf32", 8, 10, 127, "ieee"),
        ("float32", 8, 23, 127, "ieee"),
        ("e0m7", 0, 7, -6, "all"),
    ],
)
def test_well_known_names(name, exponent_bits, mantissa_bits, bias, reserved):
    fmt = FloatFormat.parse(name)
    assert (fmt.exponent_bits, fmt.mantissa_bits, fmt.bias, fmt.reserved) == (
        exponent_bits,
        mantissa_bits,
        bias,
        reserved,
    )
    assert fmt.bits == exponent_bits + mantissa_bits + (name != "e8m0")


def test_policies_are_part_of_the_name_in_any_order():
    fmt = FloatFormat.parse("e5m2-nanzero-inf-keepinf-flush")
    assert fmt.subnormals is Subnormals.FLUSH
    assert fmt.overflow is Overflow.INFINITY
    assert fmt.infinite_input is InfiniteInput.KEEP
    assert fmt.nan_input is NanInput.ZERO
    assert str(fmt) == "e5m2-flush-inf-keepinf-nanzero"
    assert FloatFormat.parse("e5m2-keep-sat-overflow-keepnan") == FloatFormat.parse("e5m2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp8", r"'fp8' is not a float format; write e<exponent bits>m<mantissa bits>, for example e4m3"),
        ("e4m3.5", "is not a float format"),
        ("e٤m3", "is not a float format"),  # an Arabic digit
        ("", "is not a float format"),
        ("e9m3", "'e9m3' is out of range; exponent bits 0 to 8, mantissa bits 0 to 23"),
        ("e4m24", "'e4m24' is out of range"),
        ("e4m3-flsh", "unknown policy 'flsh'; did you mean 'flush'"),
        ("e4m3-inf-nan", "policy 'nan' contradicts 'inf'; keep one of them"),
        ("e2m1-inf", "'e2m1' has no infinity to overflow to"),
        ("e2m1-nan", "'e2m1' has no NaN to overflow to"),
        ("e4m3fn-keepinf", "has no infinity to keep"),
        ("e2m1-infnan", "has no NaN for an infinite input"),
        ("e0m3ieee", "has no exponent to reserve"),
        ("e0m0fn", "reserves its only code"),
        ("e0m3-flush", "has only subnormal numbers"),
        ("e4m3b128", "has bias 128, its normal numbers begin below those of float32"),
        ("e4m3b-120", r"with bias -120 reaches 2\^134, float32 ends below 2\^128"),
        ("e8m3fn", r"reaches 2\^128"),
        ("e8m0b100", "cannot be unsigned; only e8m0 can"),
    ],
)
def test_a_name_that_makes_no_format_says_why(name, message):
    with pytest.raises(FormatError, match=message):
        FloatFormat.parse(name)


@given(float_formats(max_bits=12), st.data())
def test_every_code_decodes_and_every_value_encodes(fmt, data):
    code = data.draw(st.integers(0, (1 << fmt.bits) - 1))
    value = fmt.decode(code)
    flushed = fmt.subnormals is Subnormals.FLUSH and value != 0 and abs(value) < fmt.min_normal
    if math.isnan(value):
        assert fmt.has_nan
        assert math.isnan(fmt.decode(fmt.encode(value)))
    elif flushed:
        with pytest.raises(FormatError, match="is not a value of"):
            fmt.encode(value)
    else:
        assert fmt.encode(value) == code
        assert (value in fmt.values()) == math.isfinite(value)


@given(float_formats(max_bits=10), st.floats(allow_nan=False))
def test_encode_refuses_exactly_what_is_no_value(fmt, number):
    if number in fmt.values() or (math.isinf(number) and fmt.has_infinity):
        assert fmt.decode(fmt.encode(number)) == number
    else:
        with pytest.raises(FormatError, match="is not a value of"):
            fmt.encode(number)


def test_a_code_of_too_many_bits_is_refused():
    with pytest.raises(FormatError, match="code 16 is not one of the 4-bit format 'e2m1'"):
        FloatFormat.parse("e2m1").decode(16)


def test_the_values_of_a_wide_format_are_not_listed():
    with pytest.raises(FormatError, match="too many to list"):
        FloatFormat.parse("float32").values()


def test_fields_may_be_words_and_numbers_of_any_kind():
    fmt = FloatFormat.of(np.int64(4), 3, reserved="fn", overflow="nan", subnormals="flush")
    assert fmt == FloatFormat.parse("e4m3fn-nan-flush")
    assert fmt.overflow is Overflow.NAN
    assert type(fmt.exponent_bits) is int
    with pytest.raises(FormatError, match="Reserved 'fm' is unknown; known: all, fn, fnuz, ieee"):
        FloatFormat.of(4, 3, reserved="fm")
