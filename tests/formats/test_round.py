"""`FloatFormat.round`, the definition. Evidence: rational arithmetic, gfloat and ml_dtypes, none of which it knows of."""

import math

import gfloat
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding
from codesign.errors import FormatError
from codesign.formats import NanInput, Reserved, Subnormals
from codesign.testing import float32_near_ties, float32s, float_formats
from tests.formats.other_libraries import GFLOAT_ROUNDINGS, ML_DTYPES, gfloat_comparable, gfloat_format
from tests.reference.rounding import finite_codes, round_exactly

_BOTH = [Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO]


def _same(got, expected):
    """The same number with the same sign, or both NaN."""
    if math.isnan(expected):
        return math.isnan(got)
    return got == expected and math.copysign(1, got) == math.copysign(1, expected)


@given(st.data(), st.sampled_from(_BOTH))
def test_a_finite_number_becomes_what_rational_arithmetic_says(data, rounding):
    fmt = data.draw(float_formats())
    x = data.draw(float32_near_ties(fmt) | st.floats(allow_nan=False, allow_infinity=False))
    expected = round_exactly(
        x,
        finite_codes(fmt.exponent_bits, fmt.mantissa_bits, fmt.reserved),
        fmt.mantissa_bits,
        fmt.bias,
        toward_zero=rounding is Rounding.TOWARD_ZERO,
        overflow=fmt.overflow,
        flush=fmt.subnormals is Subnormals.FLUSH,
    )
    if fmt.reserved is Reserved.FNUZ and expected == 0:
        expected = 0.0
    assert _same(fmt.round(x, rounding), expected)


@given(st.data(), st.sampled_from(_BOTH))
def test_it_is_gfloats(data, rounding):
    fmt = data.draw(float_formats(max_bits=12, policies=False).filter(gfloat_comparable))
    x = data.draw(float32_near_ties(fmt))
    assert fmt.round(x, rounding) == gfloat.round_float(gfloat_format(fmt), x, GFLOAT_ROUNDINGS[rounding], sat=True)


@pytest.mark.parametrize("dtype", ML_DTYPES)
def test_it_is_ml_dtypes_conversion(dtype):
    """Every value, every midpoint of two, and the float32 numbers beside both."""
    fmt = FloatFormat.parse(ML_DTYPES[dtype])
    values = np.array(fmt.values() if fmt.bits <= 8 else fmt.values()[:: 1 << (fmt.bits - 9)], np.float32)
    centers = np.concatenate([values, values[1:] / 2 + values[:-1] / 2])  # halved first: the sum may leave float32
    x = np.concatenate([np.nextafter(centers, np.float32(side)) for side in (-np.inf, np.inf)] + [centers])
    x = np.append(x, np.array([3e38, np.inf, -np.inf], np.float32))
    with np.errstate(invalid="ignore", over="ignore"):
        expected = x.astype(getattr(ml_dtypes, dtype)).astype(np.float32)
    for number, result in zip(x.tolist(), expected.tolist(), strict=True):
        assert _same(fmt.round(number), result), number


@given(st.data())
def test_stochastic_rounding_goes_up_for_as_many_random_bits_as_its_share_of_the_step(data):
    fmt = data.draw(float_formats(policies=False).filter(lambda fmt: fmt.max > 0))
    code = data.draw(st.integers(0, fmt.encode(fmt.max) - 1))
    lower, upper = fmt.decode(code), fmt.decode(code + 1)
    parts = 1 << (23 - fmt.mantissa_bits)
    share = data.draw(st.integers(0, parts - 1))
    x = lower + (upper - lower) * share / parts
    ups = [fmt.round(x, Rounding.STOCHASTIC, random_bits=bits) == upper for bits in (parts - share - 1, parts - share)]
    if share:
        assert ups == [False, True]
    for bits in (0, parts - 1):
        assert fmt.round(lower, Rounding.STOCHASTIC, random_bits=bits) == lower


@given(float_formats(), st.sampled_from(_BOTH))
def test_the_ends_are_the_policies(fmt, rounding):
    assert _same(fmt.round(math.inf, rounding), fmt.infinite_result)
    assert math.isnan(fmt.round(math.nan, rounding)) == (fmt.nan_input is NanInput.KEEP)
    assert fmt.round(1e300, rounding) == fmt.max or rounding is Rounding.NEAREST_EVEN
    assert _same(fmt.round(1e300), fmt.overflow_result)


@given(st.data())
def test_a_value_is_itself(data):
    fmt = data.draw(float_formats(max_bits=10))
    value = data.draw(st.sampled_from(fmt.values()))
    for rounding in _BOTH:
        assert fmt.round(value, rounding) == value
    assert fmt.round(value, Rounding.STOCHASTIC, random_bits=data.draw(st.integers(0, 1 << 32))) == value


@given(float32s())
def test_e8m0_has_neither_zero_nor_sign(x):
    got = FloatFormat.parse("e8m0").round(x)
    if x < 0 or math.isnan(x):
        assert math.isnan(got)
    else:
        assert math.frexp(got)[0] == 0.5 and 2.0**-127 <= got <= 2.0**127


def test_random_bits_belong_to_stochastic_rounding():
    for rounding, bits in ((Rounding.STOCHASTIC, None), (Rounding.NEAREST_EVEN, 7)):
        with pytest.raises(FormatError, match="random_bits= is needed by, and only by, stochastic rounding"):
            FloatFormat.parse("e4m3").round(1.0, rounding, random_bits=bits)
