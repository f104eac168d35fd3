"""Levers: each gain is that of a second simulation, by hand where one thing bounds everything."""

import dataclasses

import pytest

from codesign import DesignPoint, load_accelerator, simulate, uniform
from codesign.cost import best_lever, levers
from codesign.workload import Phase, VectorKind, VectorOp, builtin_workload

MACHINE = load_accelerator("tpuv1")
REPORT = simulate(builtin_workload("resnet18-imagenet", batch=4), DesignPoint.of(default=uniform("bf16")), MACHINE)
FOUND = {lever.name: lever for lever in levers(REPORT)}


def test_a_lever_is_the_step_simulated_again():
    fast = dataclasses.replace(
        MACHINE, dram=dataclasses.replace(MACHINE.dram, bandwidth_bytes_per_s=2 * MACHINE.dram.bandwidth_bytes_per_s)
    )
    again = simulate(REPORT.network, REPORT.point, fast)
    lever = FOUND["twice the DRAM bandwidth"]
    assert lever.latency_s == again.latency_s < REPORT.latency_s
    assert lever.row_latency_s["conv1", Phase.FORWARD] == next(
        row.cost.latency_s for row in again.rows if (row.layer, row.phase) == ("conv1", Phase.FORWARD)
    )


def test_levers_of_more_hardware_never_lengthen_the_step_and_come_best_first():
    times = [lever.latency_s for lever in levers(REPORT)]
    assert times == sorted(times)
    for name in ("twice the DRAM bandwidth", "twice the arrays", "twice the on-chip memory", "all three dataflows"):
        assert FOUND[name].latency_s <= REPORT.latency_s


def test_fusing_leaves_out_just_the_elementwise_rows():
    kinds = (VectorKind.ACTIVATION, VectorKind.ADD, VectorKind.DROPOUT)
    names = {x.name for x in REPORT.network.layers if isinstance(x, VectorOp) and x.kind in kinds}
    left_out = sum(row.cost.latency_s for row in REPORT.rows if row.layer in names)
    assert FOUND["elementwise work fused"].latency_s == pytest.approx(REPORT.latency_s - left_out, rel=1e-12)


def test_formats_that_the_machine_cannot_run_are_no_lever_and_wide_ones_are_narrowed():
    assert "tensors of at most 8 bits" in FOUND
    assert "tensors of at most 16 bits" not in FOUND  # they have 16 already
    narrow = simulate(REPORT.network, DesignPoint.of(default=uniform("e2m1")), MACHINE)
    assert {lever.name for lever in levers(narrow)}.isdisjoint(
        {"tensors of at most 8 bits", "tensors of at most 4 bits"}
    )


def test_the_best_lever_of_memory_bound_work_is_traffic():
    row = next(row for row in REPORT.rows if (row.layer, row.phase) == ("bn1", Phase.FORWARD))
    name, saved = best_lever(list(FOUND.values()), "bn1", Phase.FORWARD, row.cost.latency_s)
    assert name == "tensors of at most 4 bits"
    assert saved == pytest.approx(0.75 * row.cost.latency_s, rel=1e-3)  # a quarter of the bits
    assert best_lever([], "bn1", Phase.FORWARD, 1.0) == ("none", 0.0)


def test_a_point_with_channels_is_not_cut_twice():
    workload = builtin_workload("vgg-digits", batch=4)
    point = DesignPoint.of(default=uniform("bf16"), channels={"features.0": 7})
    report = simulate(workload, point, load_accelerator("edge"))
    assert min(lever.latency_s for lever in levers(report)) < report.latency_s
