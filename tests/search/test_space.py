"""Spaces, and the mistakes that one can make in them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign import DesignPoint, uniform
from codesign.errors import ConfigError
from codesign.search import (
    Group,
    SearchLayer,
    Space,
    format_grid,
    format_options,
    levels_from_ratios,
    levels_from_spectrum,
)
from codesign.testing.search import spaces

FORMATS = {"bf16": uniform("bf16"), "e4m3": uniform("e4m3")}


def layer(name="conv", **groups):
    return SearchLayer(name=name, formats=FORMATS, **groups)


@given(st.data())
def test_a_point_leads_back_to_its_choice(data):
    space = data.draw(spaces())
    choice = tuple(data.draw(st.integers(0, size - 1)) for size in space.sizes)
    assert space.choice(space.point(choice)) == choice


@given(spaces())
def test_uniform_policies_are_different_choices_of_the_space(space):
    policies = space.uniform_choices()
    assert len(set(policies)) == len(policies)
    assert all(space.choice(space.point(policy)) == policy for policy in policies)


def test_uniform_policies_pair_each_relative_level_with_each_common_format():
    space = Space(
        layers=(layer("a", out_group="g"), layer("b", in_group="g", out_group="h")),
        groups=(Group(name="g", levels=(8, 6, 4)), Group(name="h", levels=(9, 3))),
        default=uniform("fp32"),
    )
    # Three relative levels: 0, 1/2, 1 of each list; half of a list of two is rounded to even.
    assert space.uniform_choices() == [(i, j, f, f) for i, j in ((0, 0), (1, 0), (2, 1)) for f in (0, 1)]


def test_layers_of_one_group_are_cut_together():
    space = Space(
        layers=(layer("a", out_group="g"), layer("b", in_group="g", out_group="g")),
        groups=(Group(name="g", levels=(8, 4)),),
        default=uniform("fp32"),
    )
    point = space.point((1, 0, 1))
    assert dict(point.channels) == {"a": 4, "b": 4}
    torn = DesignPoint.of(channels={"a": 4, "b": 8}, formats=dict(point.formats), default=point.default)
    assert space.choice(torn) is None


def test_points_from_elsewhere_have_no_choice():
    space = Space(layers=(layer(out_group="g"),), groups=(Group(name="g", levels=(8, 4)),), default=uniform("fp32"))
    bf16 = uniform("bf16")
    assert space.choice(DesignPoint(default=bf16)) is None
    assert space.choice(DesignPoint.of(formats={"conv": uniform("e2m1")}, default=space.default)) is None
    assert space.choice(DesignPoint.of(formats={"conv": bf16}, channels={"conv": 5}, default=space.default)) is None
    assert space.choice(DesignPoint.of(formats={"conv": bf16, "x": bf16}, default=space.default)) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Group(name="g", levels=(4, 8)), "group 'g': levels must be positive and strictly decreasing"),
        (lambda: Group(name="g", levels=(4, 0)), "strictly decreasing from the full count, got"),
        (lambda: Group(name="g", levels=()), "group 'g' has no level"),
        (lambda: SearchLayer(name="a", formats={}), "layer 'a' has no format option"),
        (lambda: Space(layers=(), default=uniform("fp32")), "the search space has no layers"),
        (lambda: Space(layers=(layer(), layer()), default=uniform("fp32")), "layer 'conv' appears twice"),
        (
            lambda: Space(
                layers=(layer(out_group="blok"),), groups=(Group(name="block", levels=(2,)),), default=uniform("fp32")
            ),
            "layer 'conv': unknown group 'blok'; did you mean 'block'",
        ),
        (
            lambda: Space(layers=(layer(),), groups=(Group(name="g", levels=(2,)),), default=uniform("fp32")),
            "group 'g' is the output of no layer",
        ),
        (lambda: Space(layers=(layer(),), default=uniform("fp32")).point((2,)), "a choice of this space has 1 entries"),
        (lambda: levels_from_ratios(8, [0.5, 1.5]), "a keep ratio must be above 0 and at most 1, got 1.5"),
        (lambda: format_options({"wieght": ["e4m3"]}), "unknown role 'wieght'; did you mean 'weight'"),
        (lambda: format_options({"weight": []}), "role 'weight' has no format"),
    ],
)
def test_a_mistake_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_levels_are_rounded_up_and_hold_the_full_count():
    assert levels_from_ratios(50, [0.5, 0.25, 0.3], multiple_of=8) == (50, 32, 16)
    assert levels_from_ratios(64, [0.5]) == (64, 32)


def test_levels_of_a_spectrum_are_the_smallest_counts_that_reach_the_share():
    # Shares of 4, 2, 1, 1 add up to 50 %, 75 %, 87.5 %, 100 %.
    assert levels_from_spectrum([1, 4, 1, 2], [0.5, 0.8, 0.875]) == (4, 3, 1)
    assert levels_from_spectrum(np.ones(4), [1.0]) == (4,)


def test_options_are_every_combination_of_the_roles_and_begin_with_the_firsts():
    options = format_options(
        {"weight": ["bf16", "e4m3"], "activation": ["e5m2"], "error": ["e5m2"], "gradient": ["bf16", "e5m2"]}
    )
    assert list(options) == ["bf16/e5m2/e5m2/bf16", "bf16/e5m2/e5m2/e5m2", "e4m3/e5m2/e5m2/bf16", "e4m3/e5m2/e5m2/e5m2"]
    assert options["e4m3/e5m2/e5m2/bf16"].names()["weight"].startswith("e4m3")


def test_a_grid_begins_with_the_widest_format():
    grid = format_grid(range(2, 6), range(1, 8))
    assert len(grid) == 28
    assert next(iter(grid)) == "e5m7"
