"""Rounding against two libraries. Evidence: independent oracles, ml_dtypes and gfloat, on random and hard inputs."""

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import FloatFormat, round_to_format
from codesign.errors import FormatError
from codesign.quantize import decode, encode, numpy_dtype, torch_dtype
from codesign.testing import float32_near_ties, float_formats
from tests.formats.other_libraries import GFLOAT_ROUNDINGS, ML_DTYPES, gfloat_comparable, gfloat_format


def _hard_numbers(fmt, count):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32)
    values = np.array(fmt.values() if fmt.bits <= 8 else round_to_format(bits[:1000], fmt))
    near = rng.choice(values, count) * rng.choice([0.75, 1 - 2.0**-24, 1, 1 + 2.0**-23, 1.03125], count)
    near = np.clip(near, -3.4e38, 3.4e38).astype(np.float32)
    ties = ((values[1:] + values[:-1]) / 2).astype(np.float32) if fmt.bits <= 8 else near
    x = np.concatenate([bits, near, ties])
    return x if fmt.has_nan else x[~np.isnan(x)]


@pytest.mark.parametrize("dtype", ML_DTYPES)
def test_equal_to_ml_dtypes(dtype):
    fmt = FloatFormat.parse(ML_DTYPES[dtype])
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


@given(st.data(), st.sampled_from(list(GFLOAT_ROUNDINGS)))
@settings(max_examples=200)
def test_equal_to_gfloat_for_any_format(data, rounding):
    fmt = data.draw(float_formats(max_bits=12, policies=False).filter(gfloat_comparable))
    x = data.draw(float32_near_ties(fmt))
    expected = gfloat.round_float(gfloat_format(fmt), x, GFLOAT_ROUNDINGS[rounding], sat=True)
    assert round_to_format(np.array([x], np.float32), fmt, rounding)[0] == expected


@given(st.data())
def test_codes_are_gfloats(data):
    fmt = data.draw(float_formats(max_bits=12, policies=False).filter(gfloat_comparable))
    code = data.draw(st.integers(0, (1 << fmt.bits) - 1))
    theirs = gfloat.decode_float(gfloat_format(fmt), code).fval
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
