"""Allocation: its errors are real, its choice is the best of all methods, its optima are the published ones."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat, Reserved
from codesign.quantize import FloatHistogram, allocate, compare, round_to_format
from codesign.quantize.allocate import METHODS, splits

DATA = Path(__file__).parents[1] / "data"
DISTRIBUTIONS = {
    "gaussian": stats.norm(),
    "laplace": stats.laplace(scale=math.sqrt(0.5)),
    "student_t3": stats.t(3, scale=1 / math.sqrt(3)),
    "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
}  # all of variance 1


def weights_of(distribution):
    """Magnitudes and their probabilities; half of the bins are linear, half follow the tail."""
    top = min(float(distribution.isf(1e-22)), math.sqrt(3) if distribution.support()[1] < 2 else math.inf)
    edges = np.unique(np.concatenate([np.linspace(0, min(top, 8), 60_000), np.geomspace(1e-3, top, 60_000)]))
    return ((edges[1:] + edges[:-1]) / 2).astype(np.float32), 2 * -np.diff(distribution.sf(edges))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_optima_of_known_distributions(name):
    with (DATA / "optimal_formats.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["distribution"] == name]
    assert len(rows) > 8
    x, probability = weights_of(DISTRIBUTIONS[name])
    for row in rows:
        fmt = FloatFormat.of(int(row["E"]), int(row["M"]), reserved=Reserved(row["reserved"].replace("none", "all")))
        found = allocate(x, formats=[fmt], axis=None, weights=probability)
        variance = float(found.power[0])  # a student-t of 3 degrees misses some of its tail
        assert -10 * math.log10(found.mse[0] / max(variance, 1.0)) == pytest.approx(float(row["sqnr_db"]), abs=0.02), (
            row
        )


@pytest.mark.parametrize("scale", ["real", "power-of-two"])
@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8])
@pytest.mark.parametrize("numbers", [9, 600])
def test_empirical_is_never_worse_and_every_error_is_real(bits, scale, numbers):
    rng = np.random.default_rng(bits)
    x = np.concatenate(
        [
            rng.normal(size=(6, numbers)),
            rng.laplace(size=(6, numbers)),
            rng.standard_t(3, (6, numbers)),
            rng.uniform(-1, 1, (6, numbers)),
        ]
    )
    x = (x * np.exp(rng.normal(0, 2, (24, 1)))).astype(np.float32)
    x[5] = 0
    found = compare(x, bits, scale=scale, allow_zeros=True)
    assert {"empirical", "absmax", "e2-clip", "integer-clip", "gaussian", "aciq", "octav"} <= set(found)
    for method, allocation in found.items():
        rounded = allocation.round(x)
        error = ((rounded.astype(np.float64) - x) ** 2).mean(1)
        np.testing.assert_allclose(error, allocation.mse, rtol=1e-4, atol=1e-30)
        assert (rounded[5] == 0).all()
        if method != "microscaling":  # which has a scale for every 32 numbers
            assert (found["empirical"].mse <= allocation.mse * (1 + 1e-6)).all(), method


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.floats(0.1, 3))
def test_no_format_and_clip_of_a_fine_grid_is_better(seed, bits, spread):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=60) * np.exp(rng.normal(0, spread, 60))).astype(np.float32)
    found = allocate(x, bits, axis=None)
    largest = np.abs(x).max()
    best = min(
        float(((round_to_format(x, fmt, scale=clip / fmt.max).astype(np.float64) - x) ** 2).mean())
        for fmt in splits(bits)
        for clip in np.geomspace(largest / 20, largest, 64)
    )
    assert found.mse[0] <= best * 1.1  # few numbers: the error jumps with the clip


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_a_merged_histogram_allocates_as_the_numbers_do(bits):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(8, 900)) * np.exp(rng.normal(0, 1, (8, 900)))).astype(np.float32)
    x[3] = 0
    parts = [FloatHistogram(8, mantissa_bits=7) for _ in range(3)]
    for part, chunk in zip(parts, np.split(x, 3, axis=1), strict=True):
        part.update(chunk)
    for part in parts[1:]:
        parts[0].merge(part)
    merged, direct = (
        parts[0].allocate(bits, allow_zeros=True),
        allocate(x, bits, scale="power-of-two", allow_zeros=True),
    )
    assert merged.formats == direct.formats and (merged.scale == direct.scale).all()
    error = ((merged.round(x).astype(np.float64) - x) ** 2).mean(1)
    np.testing.assert_allclose(merged.mse, error, rtol=1e-9, atol=1e-30)


@pytest.mark.parametrize("mantissa_bits", [1, 7, 12])
def test_the_moments_of_a_histogram_are_the_sums_of_its_bins(mantissa_bits):
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.normal(size=(3, 5000)), rng.integers(-20, 20, (3, 5000))).astype(np.float32)
    x[0, :9] = [0, -0.0, 2.0**-149, -(2.0**-149), 3 * 2.0**-140, 2.0**-126, -(2.0**-126), 1.5, 3e38]
    x[1] = 0
    histogram = FloatHistogram(3, mantissa_bits=mantissa_bits)
    histogram.update(np.repeat(x, 60, axis=1))  # more than are summed between two flushes
    count, total, squares = histogram._moments
    for row, sums in zip(np.abs(x), zip(count, total, squares, strict=True), strict=True):
        own = row[row > 0]
        bins = (own.view(np.uint32) >> (23 - mantissa_bits)) - histogram._first
        for power, found in enumerate(sums):
            expected = np.bincount(bins, 60 * own.astype(np.float64) ** power, len(found))
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_integer_and_one_exponent_bit_are_the_same_grid():
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for bits in (3, 5, 8):
        one = allocate(x, formats=[FloatFormat.of(1, bits - 2, reserved=Reserved.NONE)], axis=None)
        integer = allocate(x, bits, axis=None, method="integer-clip")
        assert one.mse[0] == pytest.approx(integer.mse[0], rel=1e-4)


def test_a_histogram_chooses_nearly_as_well():
    x = np.random.default_rng(0).normal(size=(4, 4000)).astype(np.float32)
    assert (allocate(x, 5, method="histogram").sqnr_db > allocate(x, 5).sqnr_db - 0.05).all()


def test_tensors_other_axes_and_wide_dtypes():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 5, 7)))
    by_axis = allocate(x, 4, axis=1)
    moved = allocate(x.movedim(1, 0).contiguous(), 4, axis=0)
    assert by_axis.formats == moved.formats and (by_axis.scale == moved.scale).all()
    assert torch.equal(by_axis.round(x.float()).movedim(1, 0), moved.round(x.float().movedim(1, 0).contiguous()))
    assert allocate(x.bfloat16(), 8, axis=None).round(x.float()).shape == x.shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bits": 1}, FormatError, "2 to 16 bits, got 1"),
        ({"bits": None}, FormatError, "bits= is missing"),
        ({"method": "e4-clip"}, FormatError, "4 exponent bits and a sign do not fit into 4 bits"),
        ({"method": "emprical"}, FormatError, "did you mean 'empirical'"),
        ({"method": "microscaling", "bits": 5}, FormatError, "no format of 5 bits"),
        ({"method": "octav", "weights": np.ones((2, 3))}, FormatError, "'octav' takes no weights"),
        ({"method": "microscaling", "weights": np.ones((2, 3))}, FormatError, "'microscaling' takes no weights"),
        ({"axis": 2}, ModelError, "axis 2 is out of range"),
        ({"x": np.array([[1, 2], [1, math.nan]], np.float32)}, ModelError, "channel 1 of x holds NaN"),
        ({"x": np.array([[1, 2], [0, -0.0]], np.float32)}, ModelError, "channel 1 of x holds only zeros"),
        ({"x": np.zeros((2, 0), np.float32)}, ModelError, "is empty"),
        ({"x": np.ones((2, 2), np.int32)}, ModelError, "floating-point numbers, got int32"),
        ({"formats": [FloatFormat.parse("e8m0")]}, FormatError, "cannot be allocated"),
    ],
)
def test_bad_input_is_one_clear_error(change, error, message):
    given = {"x": np.ones((2, 3), np.float32), "bits": 4} | change
    with pytest.raises(error, match=message.replace("(", r"\(")):
        allocate(**given)


def test_a_histogram_says_what_it_cannot_do():
    histogram = FloatHistogram(2)
    with pytest.raises(ModelError, match="has seen no numbers"):
        histogram.allocate(4)
    histogram.update(np.array([[0.0], [1.0]]))
    with pytest.raises(ModelError, match="channel 0 of x holds only zeros"):
        histogram.allocate(4)
    histogram.update(np.ones((2, 3), np.float32))
    with pytest.raises(FormatError, match="'e0m7' needs a histogram of 7 mantissa bits, this one has 6"):
        histogram.allocate(8)
    with pytest.raises(ModelError, match="cannot take 3 of axis 0"):
        histogram.update(np.ones((3, 3), np.float32))
    with pytest.raises(ModelError, match="channel 1 of x holds NaN, infinity or numbers beyond float32"):
        histogram.update(np.array([[1.0], [1e300]]))
    with pytest.raises(FormatError, match="powers of two, not 3"):
        histogram.errors(FloatFormat.parse("e2m1"), [3.0])


def test_every_method_has_a_name_that_works():
    x = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    assert set(compare(x, 8)) == set(METHODS)
