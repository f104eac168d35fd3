"""What each change saved: by hand for two changes, and the sum for all."""

from dataclasses import replace

import pytest
import torch

from codesign import DesignPoint, uniform
from codesign.hardware import load_accelerator
from codesign.nn.networks import build
from codesign.optimizers import Optimizer
from codesign.runs.attribution import gains_s
from codesign.runs.run_cost import RunCost
from codesign.workload import Workload

WORKLOAD = Workload.from_torch(build("vgg:8 M 16 M", (1, 8, 8), 10), torch.zeros(1, 1, 8, 8), batch=32)
RUN_COST = RunCost(
    workload=WORKLOAD,
    accelerator=load_accelerator("edge"),
    optimizer=Optimizer.MOMENTUM,
    dense_steps=10,
    steps=100,
    structure_images=70,
)
FP32 = uniform("fp32")
DENSE = DesignPoint.of(default=FP32)


def test_two_changes_are_each_given_the_mean_of_coming_first_and_of_coming_second():
    narrow = replace(FP32, weight=uniform("e2m1").weight)
    cut, both = ((DesignPoint.of(default=f, channels={"features.0": 5})) for f in (FP32, narrow))
    dense_s, narrow_s, cut_s, both_s = map(RUN_COST.latency_s, (DENSE, DesignPoint.of(default=narrow), cut, both))
    saved = gains_s(RUN_COST, DENSE, both)
    assert list(saved) == ["pruning", "weight"]
    assert saved["pruning"] == pytest.approx(((dense_s - cut_s) + (narrow_s - both_s)) / 2)
    assert saved["weight"] == pytest.approx(((dense_s - narrow_s) + (cut_s - both_s)) / 2)


def test_savings_add_up_and_what_is_the_same_in_both_saves_nothing():
    formats = {name: uniform("e4m3") for name in WORKLOAD.weight_layers}
    end = DesignPoint.of(default=FP32, channels={"features.0": 5, "features.4": 7}, formats=formats)
    saved = gains_s(RUN_COST, DENSE, end)
    assert list(saved) == ["pruning", "weight", "activation", "error", "gradient"]
    assert sum(saved.values()) == pytest.approx(RUN_COST.latency_s(DENSE) - RUN_COST.latency_s(end))
    assert gains_s(RUN_COST, DENSE, DENSE) == {}
