"""What rounding promises. Evidence: properties, from the strategies in codesign.testing."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from codesign import Rounding, round_to_format
from codesign.formats import NanInput, Overflow, Reserved, Subnormals
from codesign.quantize import decode, encode, pack, unpack
from codesign.testing import float32_near_ties, float32s, float_formats

_BOTH = st.sampled_from([Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO])


@st.composite
def _format_and_numbers(draw, elements=None, **format_options):
    fmt = draw(float_formats(**format_options))
    if elements is None:
        elements = float32_near_ties(fmt) | float32s()
    numbers = draw(st.lists(elements, min_size=1, max_size=40))
    return fmt, np.array(numbers, np.float32)


def _bits(x):
    return np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32))


@given(_format_and_numbers(), st.sampled_from(Rounding))
def test_idempotent(case, rounding):
    fmt, x = case
    once = round_to_format(x, fmt, rounding, seed=1)
    kept = once[~np.isinf(once)]  # an infinite result is an infinite input the second time, which policies may change
    assert np.array_equal(_bits(round_to_format(kept, fmt, rounding, seed=2)), _bits(kept)) or (
        fmt.nan_input is NanInput.ZERO and np.isnan(kept).any()
    )


@given(_format_and_numbers(), _BOTH)
def test_odd(case, rounding):
    fmt, x = case
    negative, positive = round_to_format(-x, fmt, rounding), round_to_format(x, fmt, rounding)
    if fmt.reserved is Reserved.FNUZ:
        assert np.array_equal(negative, -positive, equal_nan=True)
    else:
        assert np.array_equal(_bits(negative), _bits(-positive))


@given(_format_and_numbers(elements=float32s().filter(np.isfinite)), _BOTH)
def test_monotone(case, rounding):
    fmt, x = case
    assume(fmt.overflow is not Overflow.NAN)
    y = round_to_format(np.sort(x), fmt, rounding)
    assert (y[1:] >= y[:-1]).all()


@given(_format_and_numbers(max_bits=10), st.sampled_from(Rounding))
def test_a_result_is_a_value_of_the_format(case, rounding):
    fmt, x = case
    y = round_to_format(x, fmt, rounding, seed=3)
    assert set(y[np.isfinite(y)].tolist()) <= set(fmt.values())
    if fmt.reserved is Reserved.FNUZ:
        assert not np.signbit(y[y == 0]).any()


@given(_format_and_numbers(elements=float32s().filter(np.isfinite)))
def test_the_error_is_at_most_half_a_step_and_toward_zero_less_than_one(case):
    fmt, x = case
    assume(fmt.subnormals is Subnormals.KEEP)
    x = x[np.abs(x) <= fmt.max].astype(np.float64)
    exponent = np.maximum(np.frexp(np.abs(x))[1] - 1, fmt.min_exponent)
    step = np.ldexp(1.0, exponent - fmt.mantissa_bits)
    narrow = x.astype(np.float32)
    assert (np.abs(round_to_format(narrow, fmt) - x) <= step / 2).all()
    assert (np.abs(round_to_format(narrow, fmt, Rounding.TOWARD_ZERO) - x) < step).all()


@given(_format_and_numbers(elements=float32s().filter(np.isfinite)))
def test_toward_zero_is_never_above_nearest_in_magnitude_nor_above_the_number(case):
    fmt, x = case
    assume(fmt.overflow is not Overflow.NAN)
    toward_zero = np.abs(round_to_format(x, fmt, Rounding.TOWARD_ZERO))
    assert (toward_zero <= np.abs(round_to_format(x, fmt))).all()
    assert (toward_zero <= np.abs(x)).all()


@given(_format_and_numbers(elements=st.floats(-1e4, 1e4, width=32)), st.integers(-30, 30), st.sampled_from(Rounding))
def test_scaling_by_a_power_of_two_commutes(case, exponent, rounding):
    fmt, x = case
    assume(fmt.min_exponent > -60 and fmt.max < 2.0**60)
    x[np.abs(x) < 2.0**-60] = 0
    scale = 2.0**exponent
    scaled = round_to_format(x * np.float32(scale), fmt, rounding, scale=scale, seed=4)
    assert np.array_equal(_bits(scaled), _bits(round_to_format(x, fmt, rounding, seed=4) * np.float32(scale)))


@given(_format_and_numbers(), st.floats(2.0**-20, 2.0**20, width=32), st.sampled_from(Rounding))
def test_a_real_scale_is_a_division_before_and_a_product_after(case, scale, rounding):
    fmt, x = case
    with np.errstate(all="ignore"):
        expected = round_to_format(x / np.float32(scale), fmt, rounding, seed=5) * np.float32(scale)
        got = round_to_format(x, fmt, rounding, scale=scale, seed=5)
    assert np.array_equal(_bits(got), _bits(expected))


@given(_format_and_numbers(elements=float32s().filter(np.isfinite)), st.integers(0, 1 << 64), st.integers(0, 1 << 32))
def test_stochastic_gives_one_of_the_two_neighbours(case, seed, step):
    fmt, x = case
    assume(fmt.subnormals is Subnormals.KEEP and fmt.overflow is not Overflow.NAN)
    lower = np.abs(round_to_format(x, fmt, Rounding.TOWARD_ZERO)).astype(np.float64)
    exponent = np.maximum(np.frexp(np.abs(x))[1] - 1, fmt.min_exponent)
    upper = lower + np.ldexp(1.0, exponent - fmt.mantissa_bits)
    upper = np.where(upper > fmt.max, np.inf if fmt.overflow is Overflow.INFINITY else fmt.max, upper)
    got = np.abs(round_to_format(x, fmt, Rounding.STOCHASTIC, seed=seed, step=step))
    assert ((got == lower) | (got == upper)).all()
    exact = lower == np.abs(x)
    assert (got[exact] == lower[exact]).all()


@given(_format_and_numbers(max_bits=19))
def test_codes_and_dense_bits_come_back(case):
    fmt, x = case
    y = round_to_format(x, fmt)
    y = y[~np.isnan(y) | fmt.has_nan]
    codes = encode(y, fmt)
    assert codes.tolist() == [fmt.encode(float(value)) for value in y]
    assert np.array_equal(decode(codes, fmt), y, equal_nan=True)
    packed = pack(codes, fmt)
    assert packed.size == -(-codes.size * fmt.bits // 8)
    assert np.array_equal(unpack(packed, fmt, codes.shape), codes)


@given(_format_and_numbers(policies=False), st.integers(-126, 127), st.sampled_from(Rounding))
def test_a_power_of_two_scale_equals_division_and_product_at_the_ends_too(case, exponent, rounding):
    """Near the ends the scale can no longer be taken into the format's own constants."""
    fmt, x = case
    scale = np.float32(2.0**exponent)
    with np.errstate(all="ignore"):
        expected = round_to_format(x / scale, fmt, rounding, seed=6) * scale
    assert np.array_equal(_bits(round_to_format(x, fmt, rounding, scale=scale, seed=6)), _bits(expected))
