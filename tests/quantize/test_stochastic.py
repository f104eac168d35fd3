"""Stochastic rounding. Evidence: statistics within their own standard errors, with fixed seeds; exact bit equality.

The bits are promised on any machine: integers make the random bits, and integers round.
"""

import numpy as np
import pytest

from codesign import FloatFormat, Rounding, round_to_format
from tests.reference.random_bits import random_bits, random_key

E4M3 = FloatFormat.parse("e4m3fn")
_COUNT = 1 << 20


def _stochastic(x, seed, step=0, **arguments):
    return round_to_format(x, E4M3, Rounding.STOCHASTIC, seed=seed, step=step, **arguments)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("lower", [1.0, 24.0, 2.0**-9, 5 * 2.0**-9, 0.0])  # normal, and subnormal with steps of 2^-9
@pytest.mark.parametrize("name", ["e4m3fn", "e4m3fn-nan"])  # the fast and the general formula
def test_the_mean_is_the_number(name, lower, fraction):
    fmt = FloatFormat.parse(name)
    step = 2.0 ** (np.floor(np.log2(max(lower, 2.0**-6))) - 3)
    x = np.full(_COUNT, lower + fraction * step, np.float32)
    y = round_to_format(x, fmt, Rounding.STOCHASTIC, seed=17)
    probability = (float(x[0]) - lower) / step
    ups = int((y > lower).sum())
    assert set(np.unique(y)) <= {np.float32(lower), np.float32(lower + step)}
    standard_error = np.sqrt(_COUNT * probability * (1 - probability))
    assert abs(ups - _COUNT * probability) < 4 * standard_error


def test_neighbours_steps_and_seeds_are_not_correlated():
    x = np.full(_COUNT, 1.0625, np.float32)  # half way between 1 and 1.125
    up = [(_stochastic(x, seed, step) > 1) * 2.0 - 1 for seed, step in ((0, 0), (0, 1), (1, 0), (2, 0), (0, 1 << 40))]
    for i, a in enumerate(up):
        for lag in (1, 2, 16, 1024):
            assert abs(np.mean(a[lag:] * a[:-lag])) < 5 / np.sqrt(_COUNT)
        for b in up[i + 1 :]:
            assert abs(np.mean(a * b)) < 5 / np.sqrt(_COUNT)


def test_every_random_bit_is_fair_and_independent_of_the_index():
    index = np.arange(1 << 16, dtype=np.uint32)
    bits = np.array([random_bits(int(i), 0x1234_5678_9ABC_DEF0) for i in index], dtype=np.uint32)
    assert len(np.unique(bits)) == len(bits)  # a bijection
    ones = (bits[:, None] >> np.arange(32)) & 1
    assert (np.abs(ones.mean(axis=0) - 0.5) < 5 * 0.5 / 256).all()
    for flipped in range(16):  # each bit of the index turns half of the bits
        other = bits[index ^ (1 << flipped)]
        turned = np.bitwise_count(bits ^ other).mean()
        assert abs(turned - 16) < 0.2


def test_the_bits_depend_on_index_seed_and_step_alone():
    x = np.random.default_rng(0).standard_normal((64, 33)).astype(np.float32)
    y = _stochastic(x, 5, 6)
    assert np.array_equal(_stochastic(x, 5, 6), y)
    assert not np.array_equal(_stochastic(x, 5, 7), y)
    assert not np.array_equal(_stochastic(x, 6, 6), y)
    assert np.array_equal(_stochastic(x.reshape(-1), 5, 6), y.reshape(-1))
    assert np.array_equal(_stochastic(np.asfortranarray(x), 5, 6), y)
    assert np.array_equal(_stochastic(x, 5, 6, scale=np.ones(33, np.float32), axis=1), y)
    assert np.array_equal(_stochastic(x, 5, 6, scale=np.ones(64, np.float32), axis=0), y)


def test_the_random_bits_are_those_of_the_documented_functions():
    """In Python's integers, so that a change of the generator is noticed: it changes every stochastic experiment."""
    x = np.full(1000, 1.0625, np.float32)  # the 20 bits below the last of e4m3 are 0x80000
    key = random_key(2024, 1)
    expected = [1.125 if (random_bits(i, key) & 0xFFFFF) + 0x80000 >= 1 << 20 else 1.0 for i in range(1000)]
    assert _stochastic(x, 2024, 1).tolist() == expected


def test_seed_and_step_are_numbers_of_any_kind():
    x = np.linspace(-1, 1, 100, dtype=np.float32)
    expected = _stochastic(x, 3, 1 << 40)
    assert np.array_equal(_stochastic(x, np.int64(3), np.int64(1 << 40)), expected)
    assert not np.array_equal(_stochastic(x, -3, 1 << 40), expected)
