"""The fast path for dense arrays. Evidence: the general path, bit for bit, over formats, scales and layouts.

The bits are promised on any machine: both paths are integer operations and exact float32 ones.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign import FloatFormat, Rounding, round_to_format
from codesign.errors import ModelError
from codesign.quantize import absmax_scale, round_scaled
from codesign.quantize.rounding import round_at_once
from codesign.testing import float_formats

NUMBERS = st.floats(width=32) | st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0, 2.0**-149, 3.0e38])


def same_bits(got, expected):
    assert np.array_equal(np.asarray(got).view(np.uint32), np.asarray(expected).view(np.uint32))


@given(hnp.arrays(np.float32, hnp.array_shapes(), elements=NUMBERS), float_formats(), st.sampled_from(Rounding))
def test_a_format_alone(x, fmt, rounding):
    quick = round_at_once(x, fmt, rounding, 5, 7, None)
    assert quick is not None
    same_bits(quick, round_to_format(x, fmt, rounding, axis=0, seed=5, step=7))  # an axis: the general path
    same_bits(round_to_format(x.copy(), fmt, rounding, seed=5, step=7, out=np.empty_like(x)), quick)
    same_bits(round_to_format(torch.from_numpy(x), fmt, rounding, seed=5, step=7), quick)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_side=7), elements=st.floats(-1, 1, width=32)),
    st.integers(-130, 127),
    float_formats(),
    st.sampled_from(Rounding),
    st.sampled_from([None, 0, -1]),
    st.booleans(),
)
def test_with_the_scale_of_the_largest_magnitude(x, exponent, fmt, rounding, axis, in_place):
    x = np.ldexp(x, exponent)
    expected = round_to_format(x, fmt, rounding, scale=absmax_scale(x, fmt, axis=axis), axis=axis, seed=5, step=7)
    for array in (x.copy(), torch.from_numpy(x.copy())):
        out = array if in_place else None
        got = round_scaled(array, fmt, rounding, axis=axis, seed=5, step=7, out=out)
        same_bits(got, expected)
        assert got is array or not in_place
        assert in_place or np.array_equal(np.asarray(array), x)


@pytest.mark.parametrize("axis", [None, 0])
def test_channels_last_tensors_keep_their_layout(axis):
    x = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    got = round_scaled(x, "e4m3fn", axis=axis)
    assert got.stride() == x.stride()
    same_bits(got, round_to_format(x, "e4m3fn", scale=absmax_scale(x, "e4m3fn", axis=axis), axis=axis))
    stochastic = round_scaled(x, "e4m3fn", "stochastic", axis=axis, seed=1)
    same_bits(stochastic, round_scaled(x.contiguous(), "e4m3fn", "stochastic", axis=axis, seed=1))


def test_a_channel_that_cannot_go_the_short_way_takes_all_the_long_way():
    x = np.array([[1.0, 0.3], [np.inf, 2.0], [1e-44, 0.0], [0.0, 0.0]], np.float32)
    expected = round_to_format(x, "e4m3fn", scale=absmax_scale(x, "e4m3fn", axis=0), axis=0)
    same_bits(round_scaled(x, "e4m3fn", axis=0), expected)
    same_bits(round_scaled(x, "e4m3fn", axis=0, out=x), expected)
    assert x[1].tolist() == [3.5, 2.0]  # 448 * 2^-7: infinity does not count for the scale, and saturates


def test_overlapping_out_and_parameters():
    memory = np.linspace(-3, 3, 40, dtype=np.float32)
    expected = round_to_format(memory[:32].copy(), "e2m1")
    same_bits(round_to_format(memory[:32], "e2m1", out=memory[4:36]), expected)
    weight = torch.nn.Parameter(torch.linspace(-3, 3, 40))
    got = round_scaled(weight, FloatFormat.parse("e3m2"))
    assert not got.requires_grad
    same_bits(got, round_scaled(weight.detach().numpy(), "e3m2"))


def test_a_tensor_that_is_negated_only_when_read():
    lazily = torch.conj(torch.tensor([1 + 3j])).imag
    assert lazily.is_neg() and lazily.is_contiguous()
    assert round_to_format(lazily, "e2m1").item() == round_scaled(lazily, "e2m1").item() == -3.0


def test_channels_with_formats_of_their_own():
    x = np.array([[3.0, -1000.0], [0.3, 7.0]], np.float32)
    formats = [FloatFormat.parse("e4m3fn"), FloatFormat.parse("e2m1")]
    assert absmax_scale(x, formats, axis=0).tolist() == [4.0, 2.0]  # 448 * 2 < 1000 <= 448 * 4, 6 * 1 < 7 <= 6 * 2
    each = [round_scaled(row, fmt) for row, fmt in zip(x, formats, strict=True)]
    same_bits(round_scaled(x, formats, axis=0), np.stack(each))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: round_scaled(np.full(3, np.nan, np.float32), "e4m3"), "no finite number to scale, only NaN"),
        (lambda: round_scaled(np.empty(0, np.float32), "e4m3"), "is empty, it has no largest magnitude"),
        (lambda: round_scaled([1.0], "e4m3"), "x must be a numpy array or a torch tensor, got list"),
        (
            lambda: round_scaled(torch.ones(2), [FloatFormat.parse("e4m3")] * 3, axis=0),
            "3 formats need axis= with as many",
        ),
        (lambda: round_scaled(torch.tensor(1.0), "e4m3", axis=0), r"axis 0 is out of range for shape \(\)"),
        (lambda: round_scaled(torch.ones(3), "e4m3", axis=1), "axis 1 is out of range"),
        (lambda: round_scaled(np.ones(3, np.float32), "e4m3", out=np.ones(4, np.float32)), "out must be like x"),
        (lambda: round_scaled(torch.ones(3), "e4m3", out=np.ones(3, np.float32)), "out must be like x"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ModelError, match=message):
        call()
