"""Every row of a sweep is a step as `simulate` has it; what cannot run says why; the best are the best."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import DesignPoint, simulate
from codesign.design import LayerFormats, uniform
from codesign.errors import ConfigError
from codesign.hardware import load_accelerator
from codesign.whatif import kept_network, pareto, sweep, sweep_plan, top
from codesign.workload import builtin_workload

EDGE = load_accelerator("edge")
NETWORK = builtin_workload("vgg11-cifar", batch=32)
VARY = {
    "macs.rows": [8, 24],
    "array.clock_hz": ["7e8"],
    "dram.bandwidth_bytes_per_s": [1e10, 5e10],
    "sram.capacity_bytes": [300_000, 2_000_000],
    "dram.latency_s": [0, 1.3e-7],
    "vector.lanes": [16],
    "mac.area_scale": [0.5],
    "dataflow": ["os", "ws+is"],
    "format": ["bf16", "fp8-hybrid"],
    "format.weight": ["e2m1"],
    "keep": [1, 0.6],
    "batch": [4, 32],
}


def simulated(row: pd.Series) -> dict[str, float]:
    """The point of one row, built by hand."""
    machine = replace(
        EDGE,
        array=replace(
            EDGE.array, rows=int(row["array.rows"]), clock_hz=7e8, dataflows=tuple(row["dataflow"].split("+"))
        ),
        dram=replace(
            EDGE.dram, bandwidth_bytes_per_s=row["dram.bandwidth_bytes_per_s"], latency_s=row["dram.latency_s"]
        ),
        sram=replace(EDGE.sram, capacity_bytes=int(row["sram.capacity_bytes"])),
        vector=replace(EDGE.vector, lanes=16),
        mac=replace(EDGE.mac, area_scale=0.5),
    )
    formats = LayerFormats.parse(uniform(row["format"]).names() | {"weight": "e2m1"})
    network = kept_network(NETWORK, row["keep"]).with_batch(int(row["batch"]))
    report = simulate(network, DesignPoint.of(default=formats), machine)
    return {
        "latency_s": report.latency_s,
        "energy_j": report.energy_j,
        "area_um2": report.area_um2,
        "traffic_bits": report.traffic_bits,
        "utilisation": report.total.utilisation,
    }


def test_each_point_is_the_step_that_simulate_has():
    frame = sweep(NETWORK, EDGE, VARY)
    points = list(itertools.product(*VARY.values()))
    assert frame["array.rows"].tolist() == [point[0] for point in points]
    assert frame["batch"].tolist() == [point[-1] for point in points]
    for _, row in frame.iloc[:: len(frame) // 25].iterrows():
        assert row["why"] == ""
        for name, value in simulated(row).items():
            assert row[name] == pytest.approx(value, rel=1e-12), name


def test_a_fixed_mapping_is_that_of_the_machine_as_it_is():
    here = {
        "dram.bandwidth_bytes_per_s": [EDGE.dram.bandwidth_bytes_per_s, 1e9],
        "sram.capacity_bytes": [50_000, 1 << 21],
    }
    fixed, searched = (sweep(NETWORK, EDGE, here, mapping=mapping) for mapping in ("fixed", "searched"))
    assert (fixed["latency_s"] >= searched["latency_s"] * (1 - 1e-12)).all()
    assert (fixed["remapped"] > 0).tolist() == [True, False, True, False]  # in 50 kB the tiles do not fit
    as_it_is = sweep(NETWORK, EDGE, {"vector.lanes": [EDGE.vector.lanes]}, mapping="fixed")
    assert as_it_is["latency_s"][0] == pytest.approx(sweep(NETWORK, EDGE, {"vector.lanes": [64]})["latency_s"][0])


def test_what_cannot_run_says_why():
    frame = sweep(NETWORK, EDGE, {"sram.capacity_bytes": [10, 1 << 20]})
    assert frame["why"].tolist() == ["no tile fits into the on-chip memory", ""]
    assert frame["latency_s"].isna().tolist() == [True, False]
    machine = load_accelerator("tpuv2")
    narrow = replace(machine, throughput=replace(machine.throughput, table={"16": 1.0}))
    wide = sweep(NETWORK, narrow, {"format": ["bf16", "fp32"]})
    assert wide["why"][0] == ""
    assert "too wide" in wide["why"][1]


@pytest.mark.parametrize("mapping", ["fixed", "searched"])
def test_the_points_beside_a_point_change_nothing(mapping, monkeypatch):
    vary = VARY | {"keep": [0.6], "dram.latency_s": [1e-7]}
    whole = sweep(NETWORK, EDGE, vary, mapping=mapping)
    monkeypatch.setattr("codesign.whatif.plan.CHUNK", 1)
    assert len(sweep_plan(NETWORK, EDGE, vary).chunks) == len(whole) > 1
    pd.testing.assert_frame_equal(sweep(NETWORK, EDGE, vary, mapping=mapping), whole)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("macs.rws", [1], "did you mean 'array.rows'"),
        ("array.rows", [8, -1], "value '-1'.*must be positive"),
        ("array.rows", ["8.5"], "whole number"),
        ("array.rows", [], "no values"),
        ("array.rows", [8, "8"], "given twice"),
        ("dram.latency_s", ["soon"], "value 'soon': is not a number"),
        ("format", ["e4m33"], "value 'e4m33'"),
        ("keep", [0], "above 0"),
        ("batch", [1.5], "positive whole number"),
        ("dataflow", ["xs"], "one of os, ws, is"),
        ("throughput.law", ["fast"], "value 'fast'"),
    ],
)
def test_a_mistake_is_one_line_that_names_key_and_value(key, values, message):
    with pytest.raises(ConfigError, match=message):
        sweep(NETWORK, EDGE, {key: values})


def test_a_key_under_two_names_is_given_twice():
    with pytest.raises(ConfigError, match="given twice"):
        sweep(NETWORK, EDGE, {"macs.rows": [8], "array.rows": [16]})


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_the_front_is_what_no_row_beats(values):
    frame = pd.DataFrame(values, columns=["latency_s", "energy_j", "utilisation"]).assign(why="")
    kept = set(pareto(frame, ["latency_s", "energy_j", "utilisation"]).index)
    signed = [(a, b, -c) for a, b, c in values]
    expected = {
        i
        for i, x in enumerate(signed)
        if not any(all(q <= p for p, q in zip(x, y, strict=True)) and x != y for y in signed)
    }
    assert kept == expected


def test_the_best_come_first_and_what_cannot_run_does_not_come():
    frame = pd.DataFrame({"latency_s": [3.0, 1.0, np.nan, 2.0], "why": ["", "", "no tile", ""]})
    assert top(frame, 2, "latency_s").index.tolist() == [1, 3]
    with pytest.raises(ConfigError, match="did you mean 'latency_s'"):
        top(frame, 2, "latency")
