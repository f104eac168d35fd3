"""Scales. Evidence: properties; one hand-computed case of each rule."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign import round_to_format
from codesign.errors import FormatError, ModelError
from codesign.quantize import ScaleRule, absmax_scale
from codesign.testing import float_formats


def test_each_rule_by_hand():
    x = np.array([3.0, -1000.0, 7.0], np.float32)
    # e4m3fn: largest value 448 = 1.75 * 2^8
    assert absmax_scale(x, "e4m3fn", rule=ScaleRule.REAL) == np.float32(1000 / 448)
    assert absmax_scale(x, "e4m3fn") == 4.0  # 448 * 2 < 1000 <= 448 * 4
    assert absmax_scale(x, "e4m3fn", rule=ScaleRule.MICROSCALING) == 2.0  # 2^(floor(log2 1000) - 8) = 2^(9 - 8)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_side=8), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    float_formats(),
)
def test_a_power_of_two_is_the_smallest_that_clips_nothing(x, fmt):
    scale = float(absmax_scale(x, fmt))
    largest = float(np.abs(x).max())
    assert np.frexp(scale)[0] == 0.5
    if largest == 0:
        assert scale == 1
    elif 2.0**-126 < scale < 2.0**127:
        assert fmt.max * scale / 2 < largest <= fmt.max * scale


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from(ScaleRule),
    st.data(),
)
def test_channels_blocks_and_torch_agree_with_a_loop(x, rule, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    by_channel = absmax_scale(x, "e4m3fn", axis=axis, rule=rule)
    parts = [absmax_scale(np.ascontiguousarray(part), "e4m3fn", rule=rule) for part in np.moveaxis(x, axis, 0)]
    assert np.array_equal(by_channel, np.array(parts))
    block = data.draw(st.integers(1, 5))
    by_block = absmax_scale(x, "e4m3fn", axis=axis, block=block, rule=rule)
    for number, start in enumerate(range(0, x.shape[axis], block)):
        part = x.take(range(start, min(start + block, x.shape[axis])), axis=axis)
        expected = np.abs(part).max(axis=axis)
        got = by_block.take(number, axis=axis)
        whole = [absmax_scale(np.array([value]), "e4m3fn", rule=rule) for value in expected.reshape(-1)]
        assert np.array_equal(got.reshape(-1), np.array(whole, np.float32).reshape(-1))
    tensor = torch.from_numpy(x)
    assert np.array_equal(absmax_scale(tensor, "e4m3fn", axis=axis, rule=rule).numpy(), by_channel)
    assert np.array_equal(absmax_scale(tensor, "e4m3fn", axis=axis, block=block, rule=rule).numpy(), by_block)
    from codesign.quantize.scales import _absmax, _absmax_torch  # the path of other devices

    for channel_axis, size in ((None, None), (axis, None), (axis, block)):
        there, here = _absmax_torch(tensor, channel_axis, size), _absmax(x, channel_axis, size)
        assert np.array_equal(there, here)


def test_an_all_zero_channel_stays_zero_and_nan_and_infinity_do_not_count():
    x = np.array([[0, 0, 0], [1, np.nan, -3], [np.inf, 2, 0]], np.float32)
    scale = absmax_scale(x, "e2m1", axis=0, rule=ScaleRule.REAL)
    assert scale.tolist() == [1.0, 0.5, np.float32(2 / 6)]
    y = round_to_format(x, "e2m1", scale=scale, axis=0)
    assert y[0].tolist() == [0, 0, 0]
    assert np.isnan(y[1, 1])
    assert y[2, 0] == 2.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: absmax_scale(np.empty((0, 3), np.float32), "e4m3"), ModelError, r"x of shape \(0, 3\) is empty"),
        (
            lambda: absmax_scale(np.array([[1.0], [np.nan]]), "e4m3", axis=0),
            ModelError,
            "no finite number to scale at 1, only NaN or infinity",
        ),
        (lambda: absmax_scale(torch.full((3,), torch.nan), "e4m3"), ModelError, "no finite number to scale, only NaN"),
        (lambda: absmax_scale(np.ones(3), "e4m3", axis=1), ModelError, r"axis 1 is out of range for shape \(3,\)"),
        (lambda: absmax_scale(np.ones(3), "e4m3", block=2), ModelError, "block must be 1 or more and needs axis="),
        (
            lambda: absmax_scale(np.ones(3), "e4m3", rule="rael"),
            FormatError,
            "ScaleRule 'rael' is unknown; did you mean",
        ),
        (lambda: absmax_scale(np.ones(3), "e0m0"), FormatError, "'e0m0' has no value but zero"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
