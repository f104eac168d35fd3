"""Accumulators of few bits. Evidence: an independent oracle, sums of Fractions; properties.

The bits are promised on any machine: sums are in index order, by fused multiply-adds or exactly; only on other
devices than the CPU a BLAS sums a chunk.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding, round_to_format
from codesign.errors import FormatError, ModelError
from codesign.quantize import matmul
from codesign.quantize.accumulate import _matmul_numpy, _matmul_torch
from codesign.quantize.paths.layout import ChannelFormats, RoundingJob
from codesign.testing import float_formats
from tests.reference.rounding import finite_codes, round_exactly

_RNG = np.random.default_rng(0)


def _random(m, k, n, fmt="e4m3fn"):
    a, b = _RNG.standard_normal((m, k)), _RNG.standard_normal((k, n))
    return (round_to_format(x.astype(np.float32), fmt) for x in (a, b))


def _dot_by_fractions(x, y, fmt, toward_zero):
    codes = finite_codes(fmt.exponent_bits, fmt.mantissa_bits, fmt.reserved)
    total = 0.0
    for p, q in zip(x.tolist(), y.tolist(), strict=True):
        exact = Fraction(total) + Fraction(p) * Fraction(q)
        total = round_exactly(exact, codes, fmt.mantissa_bits, fmt.bias, toward_zero=toward_zero)
    return total


@given(st.data())
@settings(max_examples=60)
def test_chunk_1_is_an_exact_adder_that_rounds_once(data):
    fmt = data.draw(float_formats(policies=False))
    operands = st.lists(st.floats(-1e10, 1e10, width=32, allow_subnormal=False), min_size=6, max_size=6)
    small = 2.0**-20  # so that products of very different sizes meet: float64 could not add them exactly
    x = np.array(data.draw(operands), np.float32) * np.float32([1, small, 1, small, 1, 1])
    y = np.array(data.draw(operands), np.float32) * np.float32([1, small, 1, small, 1, 1])
    rounding = data.draw(st.sampled_from([Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO]))
    got = matmul(x[None, :], y[:, None], fmt, rounding=rounding)[0, 0]
    assert got == _dot_by_fractions(x, y, fmt, rounding is Rounding.TOWARD_ZERO)


@pytest.mark.parametrize("name", ["e5m10", "bfloat16", "e4m3fn", "e5m10-inf", "e6m9-flush"])
@pytest.mark.parametrize("chunk", [2, 4, 7, 32, 64, 1000])
def test_chunks_are_float32_sums_in_order_rounded_at_their_ends(name, chunk):
    a, b = _random(13, 70, 530)  # no multiples of the loop's tiles
    a, b = a * 8, b * 8
    total = np.zeros((13, 530))
    for k in range(70):
        total = (total + a[:, k : k + 1].astype(np.float64) * b[k : k + 1]).astype(np.float32).astype(np.float64)
        if (k + 1) % chunk == 0 or k == 69:
            total = round_to_format(total.astype(np.float32), name).astype(np.float64)
    assert np.array_equal(matmul(a, b, name, chunk=chunk), total.astype(np.float32))


@pytest.mark.exact_products("multiples of 2^-18 below 2^35: their sums are exact in float64")
def test_a_wide_accumulator_is_the_matrix_product():
    a, b = _random(20, 300, 30)
    assert np.allclose(matmul(a, b, "float32", chunk=32), a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)
    assert np.array_equal(
        matmul(a, b, "float32"), (a.astype(np.float64) @ b).astype(np.float32)
    )  # exact: 8-bit products


def test_a_narrow_accumulator_swamps_and_stochastic_rounding_saves_the_mean():
    # adding 1 to a sum of e5m2 (2 mantissa bits) stops at 8, where 1 is half a step and ties go back to even
    ones = np.ones((1, 1000), np.float32)
    assert matmul(ones, ones.T, "e5m2")[0, 0] == 8
    many = np.ones((1000, 64), np.float32)
    sums = matmul(np.ones((100, 1000), np.float32), many, "e5m2", rounding=Rounding.STOCHASTIC, seed=1)
    error = sums.std() / np.sqrt(sums.size)
    assert abs(sums.mean() - 1000) < 4 * error


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("chunk", [1, 8])
def test_threads_and_kinds_of_array_do_not_change_a_bit(rounding, chunk):
    a, b = _random(37, 33, 65)
    one = matmul(a, b, "e5m10", chunk=chunk, rounding=rounding, seed=2)
    assert np.array_equal(matmul(a, b, "e5m10", chunk=chunk, rounding=rounding, seed=2, threads=3), one)
    fortran = np.asfortranarray(a), np.asfortranarray(b)
    assert np.array_equal(matmul(*fortran, "e5m10", chunk=chunk, rounding=rounding, seed=2), one)
    tensors = torch.from_numpy(a).requires_grad_(), torch.from_numpy(b.T.copy()).T
    assert np.array_equal(matmul(*tensors, "e5m10", chunk=chunk, rounding=rounding, seed=2).numpy(), one)


def _here_and_on_other_devices(chunk, rounding):
    a, b = _random(9, 33, 17)
    formats = ChannelFormats.of([FloatFormat.parse("e5m10")])
    job = RoundingJob(rounding=rounding, formats=formats, scale=None, axis=0, block=None, key=(1, 2), threads=1)
    there = _matmul_torch(torch.from_numpy(a), torch.from_numpy(b), job, chunk).numpy()
    return _matmul_numpy(a, b, job, chunk), there


@pytest.mark.parametrize("rounding", Rounding)
def test_the_exact_adder_of_other_devices_gives_the_same_bits(rounding):
    """Which are promised: it multiplies and adds elements, and asks no BLAS."""
    here, there = _here_and_on_other_devices(1, rounding)
    assert np.array_equal(here, there)


@pytest.mark.parametrize("rounding", Rounding)
def test_chunks_on_other_devices_differ_by_a_step_a_chunk_at_most(rounding):
    """The sum of a chunk is the device's BLAS's there, whose last bit may decide a rounding."""
    here, there = _here_and_on_other_devices(8, rounding)
    step = 2.0 ** (np.frexp(np.abs(here).max())[1] - 1 - 10)
    assert np.abs(here - there).max() <= 5 * step  # 33 products: 5 chunks


def test_nothing_to_add():
    assert np.array_equal(matmul(np.ones((2, 0), np.float32), np.ones((0, 3), np.float32), "e5m10"), np.zeros((2, 3)))
    assert matmul(np.ones((0, 4), np.float32), np.ones((4, 3), np.float32), "e5m10").shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"chunk": 0}, ModelError, "chunk must be 1 or more, got 0"),
        ({"chunk": 2.5}, ModelError, "chunk must be a whole number, got 2.5"),
        ({"a": [[1.0]]}, ModelError, "a must be a numpy array or a torch tensor, got list"),
        (
            {"b": np.ones((4, 2), np.float32)},
            ModelError,
            r"shapes \(m, k\) and \(k, n\) are needed, got \(2, 3\) and \(4",
        ),
        ({"a": np.ones((2, 3))}, ModelError, "a must be float32, got float64"),
        ({"accumulate": "e8m0"}, FormatError, "'e8m0' has no sign"),
        ({"rounding": Rounding.STOCHASTIC}, FormatError, "needs a seed"),
    ],
)
def test_bad_input(arguments, error, message):
    usual = {"a": np.ones((2, 3), np.float32), "b": np.ones((3, 2), np.float32), "accumulate": "e5m10"}
    with pytest.raises(error, match=message):
        matmul(**(usual | arguments))


def test_infinity_and_nan_pass_through_the_exact_adder():
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf]], np.float32)
    b = np.ones((2, 1), np.float32)
    got = matmul(a, b, "e5m10-keepinf")[:, 0]
    assert np.array_equal(got, np.array([np.inf, np.nan, np.nan], np.float32), equal_nan=True)
