"""What may be chosen, from a configuration: ranges of formats, shares of channels."""

from dataclasses import replace

import pytest
import torch

from codesign.errors import ConfigError
from codesign.runs.designs import Designs
from codesign.runs.search_run import prepare
from codesign.runs.search_settings import SpaceSettings, load_settings
from codesign.runs.space import channel_levels
from codesign.workload import Workload

SETTINGS = load_settings("configs/searches/digits.toml")


def space(**changes):
    return SpaceSettings(**{"formats": ("fp32",), "baselines": ("fp32",), "keep": (0.5,)} | changes)


def test_ranges_of_bits_are_every_combination_widest_first():
    names = list(space(formats=("fp32", "e2..4m1..2", "e5m0..1")).options())
    assert names == ["fp32", "e4m2", "e4m1", "e3m2", "e3m1", "e2m2", "e2m1", "e5m1", "e5m0"]


def test_shares_of_channels_need_no_analysis_and_cost_none():
    settings = replace(SETTINGS, space=replace(SETTINGS.space, alphas=(), keep=(0.6, 0.1), multiple_of=4))
    designs = Designs(settings=settings)
    workload = Workload.from_torch(designs.fresh(0), torch.zeros(1, 1, 8, 8), batch=64)
    levels = channel_levels(designs, workload)
    full = {name: group.channels for name, group in workload.channel_groups.items() if not group.pinned}
    assert {name: counts[0] for name, counts in levels.items()} == full
    assert set(levels.values()) == {(16, 12, 4), (32, 20, 4), (64, 40, 8)}  # rounded up to a multiple of 4
    prepared = prepare(settings, "digits.toml")
    smallest = prepared.space.point(
        [len(g.levels) - 1 for g in prepared.space.groups] + [0] * len(prepared.space.layers)
    )
    assert prepared.run_cost.parts(smallest)["structure search"].latency_s == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("e2..5",)}, "'e2..5' is no range"),
        ({"formats": ("e5..2m1",)}, "'e5..2m1' is no range"),
        ({"keep": ()}, "give alphas or keep, one of them"),
        ({"alphas": (0.9,)}, "give alphas or keep, one of them"),
        ({"keep": (1.5,)}, "keep must lie above 0 and at most at 1, got 1.5"),
    ],
)
def test_a_space_that_says_nothing_sensible_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        space(**changes)
