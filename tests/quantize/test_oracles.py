"""Rounding against two libraries. Evidence: independent oracles, ml_dtypes and gfloat, on random and hard inputs."""

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import Domain, FormatInfo, RoundMode
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding, round_to_format
from codesign.errors import FormatError
from codesign.formats import Reserved
from codesign.quantize import decode, encode, numpy_dtype, torch_dtype
from codesign.testing import float32_near_ties, float_formats

_WITH_OVERFLOW = {
    "float8_e4m3fn": "e4m3fn-nan",
    "float8_e5m2": "e5m2-inf",
    "float8_e4m3": "e4m3-inf",
    "float8_e3m4": "e3m4-inf",
    "float8_e4m3fnuz": "e4m3fnuz-nan",
    "float8_e5m2fnuz": "e5m2fnuz-nan",
    "float8_e4m3b11fnuz": "e4m3b11fnuz-nan",
    "float6_e3m2fn": "e3m2",
    "float6_e2m3fn": "e2m3",
    "float4_e2m1fn": "e2m1",
    "bfloat16": "bfloat16-inf",
}


def _hard_numbers(fmt, count):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    values = np.array(fmt.values() if fmt.bits <= 8 else round_to_format(bits[:1000], fmt))
    near = rng.choice(values, count) * rng.choice([0.75, 1 - 2.0**-24, 1, 1 + 2.0**-23, 1.03125], count)
    near = np.clip(near, -3.4e38, 3.4e38).astype(np.float32)
    ties = ((values[1:] + values[:-1]) / 2).astype(np.float32) if fmt.bits <= 8 else near
    x = np.concatenate([bits, near, ties])
    return x if fmt.has_nan else x[~np.isnan(x)]


@pytest.mark.parametrize("dtype", _WITH_OVERFLOW)
def test_equal_to_ml_dtypes(dtype):
    fmt = FloatFormat.parse(_WITH_OVERFLOW[dtype])
    x = _hard_numbers(fmt, 20_000)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = x.astype(getattr(ml_dtypes, dtype)).astype(np.float32)
    got = round_to_format(x, fmt)
    assert np.array_equal(got, expected, equal_nan=True)
    number = ~np.isnan(got)
    assert np.array_equal(np.signbit(got[number]), np.signbit(expected[number]))


def test_float16_is_numpys():
    fmt = FloatFormat.parse("float16-inf")
    x = _hard_numbers(fmt, 50_000)
    with np.errstate(over="ignore"):
        assert np.array_equal(round_to_format(x, fmt), x.astype(np.float16).astype(np.float32), equal_nan=True)


def test_e8m0_is_that_of_ml_dtypes_from_its_second_value_on():
    fmt = FloatFormat.parse("e8m0")  # below, ml_dtypes rounds up whatever the distance
    x = np.abs(_hard_numbers(fmt, 50_000))
    x = x[(x >= 2.0**-126) & (x <= fmt.max)]
    assert np.array_equal(round_to_format(x, fmt), x.astype(ml_dtypes.float8_e8m0fnu).astype(np.float32))


def _gfloat_format(fmt):
    return FormatInfo(
        name="any",
        k=fmt.bits,
        precision=fmt.mantissa_bits + 1,
        bias=fmt.bias,
        is_signed=True,
        domain=Domain.Extended if fmt.has_infinity else Domain.Finite,
        has_nz=fmt.reserved is not Reserved.FNUZ,
        num_high_nans={"ieee": (1 << fmt.mantissa_bits) - 1, "fn": 1, "fnuz": 0, "all": 0}[fmt.reserved],
        has_subnormals=True,
        is_twos_complement=False,
    )


def _comparable(fmt):
    """gfloat 0.5.2 knows no integers, with M = 0 takes ties to the even *code*, and saturates formats without normal
    numbers (E = 1 with the top exponent reserved) to a number that is none of their values."""
    return fmt.min_normal is not None and fmt.mantissa_bits > 0


_ROUNDINGS = {Rounding.NEAREST_EVEN: RoundMode.TiesToEven, Rounding.TOWARD_ZERO: RoundMode.TowardZero}


@given(st.data(), st.sampled_from(list(_ROUNDINGS)))
@settings(max_examples=200)
def test_equal_to_gfloat_for_any_format(data, rounding):
    fmt = data.draw(float_formats(max_bits=12, policies=False).filter(_comparable))
    x = data.draw(float32_near_ties(fmt))
    expected = gfloat.round_float(_gfloat_format(fmt), x, _ROUNDINGS[rounding], sat=True)
    assert round_to_format(np.array([x], np.float32), fmt, rounding)[0] == expected


@given(st.data())
def test_codes_are_gfloats(data):
    fmt = data.draw(float_formats(max_bits=12, policies=False).filter(_comparable))
    code = data.draw(st.integers(0, (1 << fmt.bits) - 1))
    theirs = gfloat.decode_float(_gfloat_format(fmt), code).fval
    assert np.array_equal(np.float32(theirs), decode(np.array(code), fmt), equal_nan=True)


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "e8m0", "bfloat16", "float16", "float32"])
def test_codes_are_those_of_numpy_and_torch_dtypes(name):
    fmt = FloatFormat.parse(name)
    x = np.linspace(0.01, fmt.max / 2, 1000).astype(np.float32)
    codes = encode(round_to_format(x, fmt), fmt)
    values = decode(codes, fmt)
    assert np.array_equal(codes.view(numpy_dtype(fmt)).astype(np.float32), values)
    signed = torch.from_numpy(codes.view(f"i{codes.dtype.itemsize}"))
    assert torch.equal(signed.view(torch_dtype(fmt)).float(), torch.from_numpy(values))


def test_a_format_without_a_dtype_says_so():
    with pytest.raises(FormatError, match="no numpy dtype has the codes of 'e3m1'"):
        numpy_dtype(FloatFormat.parse("e3m1"))
    with pytest.raises(FormatError, match="has no dtype with the codes of 'e3m2'"):
        torch_dtype(FloatFormat.parse("e3m2"))
