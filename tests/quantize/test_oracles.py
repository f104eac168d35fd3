"""Rounding against two libraries. Evidence: independent oracles, ml_dtypes and gfloat, on random and hard inputs."""

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat import Domain, FormatInfo, NanMode, RoundMode
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding, round_to_format
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
    near = (rng.choice(values, count) * rng.choice([1, 1 + 2.0**-23, 1.03125, 1.5], count)).astype(np.float32)
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


def _gfloat_format(fmt):
    nan = {Reserved.IEEE: "ieee", Reserved.FN: "fn", Reserved.FNUZ: "fnuz", Reserved.NONE: "all"}[fmt.reserved]
    return FormatInfo(
        name="any",
        k=fmt.bits,
        precision=fmt.mantissa_bits + 1,
        bias=fmt.bias,
        has_nz=fmt.reserved is not Reserved.FNUZ,
        domain=Domain.Extended if fmt.has_infinity else Domain.Finite,
        num_high_nans={"ieee": (1 << fmt.mantissa_bits) - 1, "fn": 1, "fnuz": 0, "all": 0}[nan],
        has_subnormals=True,
        is_signed=True,
        is_twos_complement=False,
    ) if NanMode else None


@given(st.data())
@settings(max_examples=150)
def test_equal_to_gfloat_for_any_format(data):
    fmt = data.draw(float_formats(max_bits=12, policies=False).filter(lambda f: f.exponent_bits > 0))
    theirs = _gfloat_format(fmt)
    x = data.draw(float32_near_ties(fmt))
    mode, rounding = data.draw(
        st.sampled_from(
            [(RoundMode.TiesToEven, Rounding.NEAREST_EVEN), (RoundMode.TowardZero, Rounding.TOWARD_ZERO)]
        )
    )
    expected = gfloat.round_float(theirs, x, mode, sat=True)
    assert round_to_format(np.array([x], np.float32), fmt, rounding)[0] == expected
