"""The price of a whole run: stages added up by hand, and the tables of the search against it."""

import itertools
import math

import pytest
import torch

from codesign import DesignPoint, uniform
from codesign.cost import simulate
from codesign.hardware import load_accelerator
from codesign.nn.networks import build
from codesign.optimizers import Optimizer
from codesign.runs.run_cost import STRUCTURE_SEARCH, RunCost
from codesign.workload import Phase, Workload

NETWORK = build("vgg:8 M 16 M", (1, 8, 8), 10)
WORKLOAD = Workload.from_torch(NETWORK, torch.zeros(1, 1, 8, 8), batch=32)
RUN_COST = RunCost(
    workload=WORKLOAD,
    accelerator=load_accelerator("edge"),
    optimizer=Optimizer.MOMENTUM,
    dense_steps=10,
    steps=100,
    structure_images=70,
)


def step_s(point: DesignPoint) -> float:
    return simulate(WORKLOAD, point, RUN_COST.accelerator, optimizer=Optimizer.MOMENTUM).latency_s


def test_a_run_without_a_cut_is_its_steps():
    point = DesignPoint.of(default=uniform("bf16"))
    assert RUN_COST.latency_s(point) == pytest.approx(100 * step_s(point))
    assert RUN_COST.parts(point)[STRUCTURE_SEARCH].latency_s == 0


def test_a_run_with_a_cut_is_dense_steps_then_cut_steps_and_one_forward_pass_of_the_sample():
    point = DesignPoint.of(default=uniform("bf16"), channels={"features.0": 5})
    dense = DesignPoint.of(default=uniform("bf16"))
    forward = simulate(WORKLOAD, dense, RUN_COST.accelerator, optimizer=Optimizer.MOMENTUM).by_phase()[Phase.FORWARD]
    expected = 10 * step_s(dense) + 90 * step_s(point) + 3 * forward.latency_s  # 70 images are 3 batches of 32
    assert RUN_COST.latency_s(point) == pytest.approx(expected)


def test_layer_tables_add_up_to_the_run_for_every_design():
    levels = {name: g for name, g in WORKLOAD.channel_groups.items() if not g.pinned}
    choices = {name: (g.channels, 5, 3) for name, g in levels.items()}
    formats = [uniform("fp32"), uniform("e4m3"), uniform("e2m1")]
    tables = RUN_COST.layer_tables(choices, formats)["latency_s"]
    layers = WORKLOAD.weight_layers
    offsets = []
    for cut in itertools.product(range(3), repeat=len(choices)):
        level = dict(zip(choices, cut, strict=True))
        for picked in itertools.product(range(3), repeat=len(layers)):
            total = sum(
                tables[name][level.get(layer.in_group, 0), level.get(layer.out_group, 0), f]
                for (name, layer), f in zip(layers.items(), picked, strict=True)
            )
            point = DesignPoint.of(
                default=uniform("fp32"),
                formats={name: formats[f] for name, f in zip(layers, picked, strict=True)},
                channels={
                    name: choices[layer.out_group][level[layer.out_group]]
                    for name, layer in layers.items()
                    if level.get(layer.out_group)
                },
            )
            sample_s = RUN_COST.parts(point)[STRUCTURE_SEARCH].latency_s
            offsets.append(RUN_COST.latency_s(point) - sample_s - total)
    # what is left is the loss, which belongs to no layer and is the same for all
    assert max(offsets) - min(offsets) < 1e-9 * max(offsets) + 1e-12
    assert math.isfinite(offsets[0])


def test_memory_is_that_of_the_step_before_the_cut_and_area_that_of_the_machine():
    narrow = DesignPoint.of(default=uniform("e4m3"), channels={"features.0": 4})
    metrics = RUN_COST.metrics()
    report = simulate(
        WORKLOAD, DesignPoint.of(default=uniform("e4m3")), RUN_COST.accelerator, optimizer=Optimizer.MOMENTUM
    )
    assert metrics["peak_memory_bytes"](narrow) == report.memory.peak_bytes
    assert metrics["area_um2"](narrow) == report.area_um2
    assert metrics["energy_j"](narrow) == RUN_COST.energy_j(narrow)
