"""Bits under a budget against every distribution there is, and against tables of sums."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign.errors import FormatError
from codesign.quantize import allocate, allocate_mean
from codesign.quantize.budget import distribute_bits


def exact(errors, widths, budget):
    """Least sum of errors by a table over all sums of bits, one channel after the other."""
    best = np.where(np.arange(budget + 1) >= 0, 0.0, np.inf)
    for row in errors:
        after = np.full(budget + 1, np.inf)
        for width, error in zip(widths, row, strict=True):
            after[width:] = np.minimum(after[width:], best[: budget + 1 - width] + error)
        best = after
    return best[-1]


@given(hnp.arrays(np.float64, (4, 3), elements=st.floats(0, 10)), st.integers(8, 26))
def test_small_tables_against_every_distribution(errors, budget):
    widths = (2, 3, 6)
    place, bound = distribute_bits(errors, widths, budget)
    spent = sum(widths[p] for p in place)
    reached = errors[range(4), place].sum()
    every = (c for c in itertools.product(range(3), repeat=4) if sum(widths[p] for p in c) <= budget)
    least = min(errors[range(4), c].sum() for c in every)
    assert exact(errors, widths, budget) == pytest.approx(least)
    assert spent <= budget and bound - 1e-9 <= least <= reached + 1e-9
    gap = max(np.max(errors, axis=1) - np.min(errors, axis=1), default=0)
    assert reached <= bound + gap + 1e-9  # at most one step of one channel is not whole


@example(
    np.where(np.arange(54).reshape(9, 6) == 0, 0.49463792, 1.0), np.full(9, 1.5), 19
)  # equal savings but for rounding
@given(
    hnp.arrays(np.float64, (9, 6), elements=st.floats(0.01, 1)),
    hnp.arrays(np.float64, 9, elements=st.floats(0, 100)),
    st.integers(18, 70),
)
def test_where_every_further_bit_saves_less_the_optimum_is_found(ratios, first, budget):
    errors = first[:, None] * np.cumsum(np.sort(np.cumprod(ratios, axis=1), axis=1), axis=1)[:, ::-1]  # convex, falling
    place, _ = distribute_bits(errors, range(2, 8), budget)
    assert errors[range(9), place].sum() == pytest.approx(exact(errors, range(2, 8), budget), rel=1e-9, abs=1e-9)


def test_channels_of_more_power_get_more_bits_and_the_error_is_real():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(24, 300)) * np.exp(rng.normal(0, 1, (24, 1)))).astype(np.float32)
    shared, bound = allocate_mean(x, 4.5)
    bits = np.array([fmt.bits for fmt in shared.formats])
    assert bits.sum() <= 4.5 * 24 < bits.sum() + 1 and np.corrcoef(bits, np.log(shared.power))[0, 1] > 0.9
    error = ((shared.round(x).astype(np.float64) - x) ** 2).mean(1)
    np.testing.assert_allclose(error, shared.mse, rtol=1e-4)
    assert bound <= shared.mse.mean() <= 1.02 * bound
    assert shared.mse.mean() < allocate(x, 5).mse.mean()  # with half a bit less
    for width in (2, 8):
        assert {fmt.bits for fmt in allocate_mean(x, width)[0].formats} == {width}


@pytest.mark.parametrize("mean", [1.9, 8.5])
def test_a_mean_that_no_widths_have(mean):
    with pytest.raises(FormatError, match=f"within the widths 2 to 8, got {mean}"):
        allocate_mean(np.ones((2, 3), np.float32), mean)
