"""The surrogate of the error: what it must get right whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import uniform
from codesign.search import Group, SearchLayer, Space
from codesign.search.dp.fit import fit
from codesign.search.dp.prior import prior_of
from codesign.search.dp.surrogate import Link
from codesign.testing import spaces


def sampled(space, rng, count):
    return [tuple(int(rng.integers(n)) for n in space.sizes) for _ in range(count)]


@settings(max_examples=15)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_effects_are_differences_of_the_mean(space, seed):
    rng = np.random.default_rng(seed)
    known = sampled(space, rng, 12)
    model = fit(prior_of(space, proxy=lambda p: float(len(p.channels))), known, rng.random(12), np.full(12, 0.01))
    here = sampled(space, rng, 1)[0]
    link, effects = model.link, model.effects_at(here)
    for d, size in enumerate(space.sizes):
        moved = [(*here[:d], entry, *here[d + 1 :]) for entry in range(size)]
        errors = model.mean(moved)
        expected = link.latent_of(errors) - link.latent_of(model.mean([here]))
        plain = np.maximum(errors, model.mean([here])[0]) < link.origin + 0.9  # above, the link ends or flattens out
        np.testing.assert_allclose(effects[d][plain], expected[plain], atol=1e-6)


@settings(max_examples=15)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_what_was_measured_is_known_better_than_what_was_not_and_never_worse_than_its_noise(space, seed):
    rng = np.random.default_rng(seed)
    known, errors = sampled(space, rng, 6), rng.uniform(0.1, 0.3, 6)
    model = fit(prior_of(space), known, errors, np.full(6, 0.01))
    # Posterior variance of a measured sum is at most that of its noise and of the misfit, which is at most 10 % of it.
    sums = model.link.latent_of(errors)
    noise = np.hypot(0.01 / model.link.slope_at(sums), 0.1 * sums)
    there = model.link.slope_at(model.link.latent_of(model.mean(known)))
    assert (model.deviation(known) <= noise * there + 1e-6).all()


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


@pytest.mark.parametrize("bend", [-0.9, 0.0, 3.0, 30.0])
def test_a_link_is_undone_by_its_inverse_and_rises(bend):
    link = Link(bend=bend, origin=0.1)
    errors = np.linspace(0.09, 0.95, 50)
    sums = link.latent_of(errors)
    np.testing.assert_allclose(link.error_of(sums), errors, atol=1e-12)
    np.testing.assert_allclose(link.slope_at(sums)[1:-1], np.gradient(errors, sums)[1:-1], rtol=0.05)
    assert np.isfinite(link.error_of(np.array([1e6])))


def test_losses_that_amplify_each_other_get_a_link_and_losses_that_add_up_do_not():
    rng = np.random.default_rng(0)
    known, others = sampled(CHAIN, rng, 80), sampled(CHAIN, rng, 300)
    noise = 0.002 * rng.standard_normal(80)

    def amplified(rows):
        return 0.1 + np.expm1(10 * losses(rows)) / 100

    straight = fit(prior_of(CHAIN), known, 0.1 + losses(known) + noise, np.full(80, 0.002))
    bent = fit(prior_of(CHAIN), known, amplified(known) + noise, np.full(80, 0.002))
    assert straight.link.bend <= 0
    assert bent.link.bend > 0
    inner = amplified(others) < 0.4
    left = (bent.mean(others) - amplified(others))[inner]
    assert np.sqrt(np.mean(left**2)) < 0.1 * np.std(amplified(others)[inner])


def test_how_bad_a_broken_design_is_does_not_matter():
    rng = np.random.default_rng(3)
    known, others = sampled(CHAIN, rng, 80), sampled(CHAIN, rng, 300)
    errors = 0.1 + 2 * losses(known)
    broken = errors > 1 - 0.5 * (1 - errors.min())  # less than half of the best accuracy
    assert 10 < broken.sum() < 70
    fitted = [fit(prior_of(CHAIN), known, np.where(broken, e, errors), np.full(80, 0.002)) for e in (0.8, 0.95)]
    np.testing.assert_allclose(fitted[0].mean(others), fitted[1].mean(others))
    good = 0.1 + 2 * losses(others) < 0.5
    left = (fitted[0].mean(others) - 0.1 - 2 * losses(others))[good]
    assert np.sqrt(np.mean(left**2)) < 0.3 * np.std(2 * losses(others)[good])
