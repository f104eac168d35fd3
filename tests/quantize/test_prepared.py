"""Roundings prepared once. Evidence: `round_to_format` and `round_scaled`, bit for bit, over formats, scales and layouts.

The bits are promised on any machine: integer operations and exact float32 ones.
"""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign import FloatFormat, Rounding, round_to_format
from codesign.quantize import round_scaled
from codesign.quantize.prepared import PreparedRounding, ScaledRounding
from codesign.testing import float_formats

NUMBERS = st.floats(-1000, 1000, width=32) | st.sampled_from([0.0, -0.0, 2.0**-149, 3.0e38])
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_side=6), elements=NUMBERS)
SCALES = st.sampled_from([1.0, 2.0**-7, 0.3, 1.7, 2.0**-126, 2.0**100, 1e-30])


def same_bits(got, expected):
    assert np.array_equal(np.asarray(got).view(np.uint32), np.asarray(expected).view(np.uint32))


def clipped_of(x, formats, scale, axis):
    """Where the largest value of the format, times the scale, is exceeded; in plain numpy."""
    most = np.array([fmt.max for fmt in formats]) * np.asarray(scale, np.float32)
    shape = [-1 if d == axis else 1 for d in range(x.ndim)] if len(most) > 1 else ()
    with np.errstate(over="ignore"):
        return np.abs(x) > most.astype(np.float32).reshape(shape)


@given(ARRAYS, st.data(), st.sampled_from(Rounding), st.sampled_from([0, -1]), st.booleans())
def test_formats_and_scales_of_channels(x, data, rounding, axis, channels_last):
    channels = x.shape[axis]
    formats = data.draw(st.lists(float_formats(), min_size=channels, max_size=channels).map(tuple))
    scale = np.array(data.draw(st.lists(SCALES, min_size=channels, max_size=channels)), np.float32)
    tensor = torch.from_numpy(x)
    if channels_last and x.ndim == 4:
        tensor = tensor.to(memory_format=torch.channels_last)
    prepared = PreparedRounding(formats, rounding, scale=scale, axis=axis)
    rounded, clipped = prepared(tensor, 5, 7)
    same_bits(rounded, round_to_format(x, formats, rounding, scale=scale, axis=axis, seed=5, step=7))
    assert rounded.stride() == tensor.stride()
    gradient = torch.ones_like(tensor)
    if clipped:
        clipped.stop(tensor, gradient)
    assert np.array_equal(gradient == 0, clipped_of(x, formats, scale, axis % x.ndim))
    assert prepared(tensor, 5, 7, watched=False)[1] is None


@given(ARRAYS, float_formats(), SCALES, st.sampled_from(Rounding))
def test_one_format_and_scale(x, fmt, scale, rounding):
    rounded, clipped = PreparedRounding(fmt, rounding, scale=scale)(torch.from_numpy(x), 5, 7)
    same_bits(rounded, round_to_format(x, fmt, rounding, scale=scale, seed=5, step=7))
    gradient = torch.ones(x.shape)
    if clipped:
        clipped.stop(torch.from_numpy(x), gradient)
    assert np.array_equal(gradient == 0, clipped_of(x, [fmt], scale, None))


@given(ARRAYS, float_formats(), st.sampled_from(Rounding), st.sampled_from([None, 0, -1]), st.booleans())
def test_by_the_largest_magnitude_or_not_at_all(x, fmt, rounding, axis, scaled):
    prepared = ScaledRounding(fmt, rounding, axis, scaled=scaled)
    if scaled:
        expected = round_scaled(x, fmt, rounding, axis=axis, seed=5, step=7)
    else:
        expected = round_to_format(x, fmt, rounding, seed=5, step=7)
    same_bits(prepared(torch.from_numpy(x), 5, 7), expected)


@pytest.mark.parametrize("where", [0, 700, 4999])
@pytest.mark.parametrize("memory", ["alike", "another"])
def test_a_long_row_is_clipped_where_it_is(where, memory):
    x = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    x[1, where] = -6
    rounded, clipped = PreparedRounding(FloatFormat.parse("e0m3"), scale=(0.9, 0.7), axis=0)(x)
    gradient = torch.ones(2, 5000) if memory == "alike" else torch.ones(5000, 2).t()
    clipped.stop(x, gradient)
    assert (gradient == 0).nonzero().tolist() == [[1, where]]
    assert rounded[1, where] == -np.float32(0.7) * 7


def test_a_number_that_is_not_finite_is_seen():
    for bad in (torch.inf, -torch.inf, torch.nan):
        for axis, scale in ((None, 0.3), (0, (0.3, 0.4))):
            for other in (torch.float32, torch.float64):
                x = torch.ones(2, 600, dtype=other)
                x[1, 599] = bad
                formats = FloatFormat.parse("e3m2") if axis is None else (FloatFormat.parse("e3m2"),) * 2
                assert PreparedRounding(formats, scale=scale, axis=axis)(x) == (None, None)


def test_what_is_not_covered_takes_the_long_way():
    x = torch.linspace(-3, 3, 60).reshape(6, 10)
    prepared = PreparedRounding(FloatFormat.parse("e2m1"), scale=0.3)
    for other in (x.t(), x[:, ::2], x.double(), torch.conj(torch.complex(x, -x)).imag):
        same_bits(prepared(other)[0].float(), round_to_format(other, "e2m1", scale=0.3).float())
    assert prepared(torch.empty(0, 3))[0].shape == (0, 3)


def test_copies_do_the_same():
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    formats = tuple(FloatFormat.parse(name) for name in ("e2m1", "e0m3", "e3m0", "e2m1"))
    for prepared in (
        PreparedRounding(formats, scale=(0.1, 0.2, 0.3, 0.4), axis=0),
        ScaledRounding(formats[0], "nearest-even", 0),
    ):
        for other in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
            got, expected = other(x), prepared(x)
            same_bits(*((got[0], expected[0]) if isinstance(got, tuple) else (got, expected)))
