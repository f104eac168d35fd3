"""The model of the error: what it must get right whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import uniform
from codesign.search import Group, SearchLayer, Space
from codesign.search.model import fit, prior_of
from codesign.testing import spaces


def sampled(space, rng, count):
    return [tuple(int(rng.integers(n)) for n in space.sizes) for _ in range(count)]


@settings(max_examples=15, deadline=None)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_effects_are_differences_of_the_mean(space, seed):
    rng = np.random.default_rng(seed)
    known = sampled(space, rng, 12)
    model = fit(prior_of(space, proxy=lambda p: float(len(p.channels))), known, rng.random(12), np.full(12, 0.01))
    here = sampled(space, rng, 1)[0]
    effects, base = model.effects_at(here)
    assert base == pytest.approx(model.mean([here])[0], abs=1e-9)
    for d, size in enumerate(space.sizes):
        moved = [(*here[:d], entry, *here[d + 1 :]) for entry in range(size)]
        np.testing.assert_allclose(effects[d], model.mean(moved) - base, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_what_was_measured_is_known_better_than_what_was_not_and_never_worse_than_its_noise(space, seed):
    rng = np.random.default_rng(seed)
    known = sampled(space, rng, 6)
    model = fit(prior_of(space), known, rng.random(6), np.full(6, 0.01))
    # Posterior variance of a measured value is at most its noise variance; the noise grows with the loss, by 3 % of it.
    assert (model.deviation(known) <= np.hypot(0.01, 0.03) + 1e-6).all()


FORMATS = {f"e4m{m}": uniform(f"e4m{m}") for m in (7, 5, 3, 2, 1)}
CHAIN = Space(
    layers=tuple(SearchLayer(name=n, formats=FORMATS, out_group=n) for n in "abcd"),
    groups=tuple(Group(name=n, levels=(16, 12, 8, 4)) for n in "abcd"),
    default=uniform("fp32"),
)


def losses(rows):
    """Additive: each layer has its own sensitivity to channels and to bits."""
    rows = np.asarray(rows)
    weights = np.array([0.3, 0.02, 0.1, 0.05])
    mantissa = np.array([7, 5, 3, 2, 1])[rows[:, 4:]]
    return ((rows[:, :4] / 4) ** 2 * weights).sum(axis=1) + (2.0**-mantissa * weights[::-1]).sum(axis=1)


def test_additive_losses_are_learnt_from_far_fewer_designs_than_there_are():
    # 4^4 x 5^4 = 160,000 designs; 60 of them measured.
    rng = np.random.default_rng(0)
    known, others = sampled(CHAIN, rng, 60), sampled(CHAIN, rng, 500)
    model = fit(prior_of(CHAIN), known, 0.1 + losses(known) + 0.002 * rng.standard_normal(60), np.full(60, 0.002))
    left = model.mean(others) - 0.1 - losses(others)
    assert np.sqrt(np.mean(left**2)) < 0.1 * np.std(losses(others))
    assert np.mean(np.abs(left) < 3 * np.hypot(model.deviation(others), 0.002)) > 0.9


def test_pairs_are_found_where_there_are_some_and_not_where_there_are_none():
    rng = np.random.default_rng(1)
    known = sampled(CHAIN, rng, 200)
    rows = np.asarray(known)
    noise = 0.002 * rng.standard_normal(200)
    interacting = losses(known) + 0.3 * (rows[:, 0] / 3) * (rows[:, 1] / 3) + 0.3 * (rows[:, 2] / 3) * (rows[:, 3] / 3)
    prior, errors = prior_of(CHAIN), np.full(200, 0.002)
    assert fit(prior, known, losses(known) + noise, errors).pairs == 0
    with_pairs = fit(prior, known, interacting + noise, errors)
    assert with_pairs.pairs > 0


def test_a_proxy_orders_what_was_never_measured():
    dense = (0,) * 8
    prior = prior_of(CHAIN, proxy=lambda point: float(losses([CHAIN.choice(point)])[0]))
    single = [(*dense[:d], 1, *dense[d + 1 :]) for d in range(8)]
    known = [dense, (3, 3, 3, 3, 4, 4, 4, 4), (2, 2, 2, 2, 0, 0, 0, 0), (0, 0, 0, 0, 3, 3, 3, 3)]
    model = fit(prior, known, 0.1 + losses(known), np.full(4, 0.001))
    blind = fit(prior_of(CHAIN), known, 0.1 + losses(known), np.full(4, 0.001))
    error, blind_error = (np.abs(m.mean(single) - 0.1 - losses(single)).mean() for m in (model, blind))
    assert error < 0.5 * blind_error


def test_one_measurement_is_enough_to_begin():
    model = fit(prior_of(CHAIN), [(0,) * 8], np.array([0.1]), np.array([0.0]))
    assert model.mean([(0,) * 8])[0] == pytest.approx(0.1, abs=0.01)
    assert np.isfinite(model.deviation([(3,) * 8])[0])
