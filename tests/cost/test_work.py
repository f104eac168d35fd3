"""Lowering to columns, and the one door from accelerators and rows to the C core."""

from dataclasses import replace

import numpy as np
import pytest

from codesign import DesignPoint, LayerFormats, load_accelerator, simulate, uniform
from codesign.cost import FITS, Scales, lower, machines_of
from codesign.cost.columns import ROW_COLUMNS
from codesign.cost.report import COST_FIELDS
from codesign.errors import CostError
from codesign.hardware import MacModel
from codesign.optimizers import Optimizer
from codesign.workload import builtin_workload, single_linear

EDGE = load_accelerator("edge")


def test_rows_of_the_core_are_the_fields_of_a_cost():
    assert tuple(ROW_COLUMNS) == COST_FIELDS


def test_every_model_of_a_unit_says_where_it_comes_from():
    assert set(FITS) == set(MacModel)


def test_a_linear_layer_by_hand():
    formats = LayerFormats.parse(uniform("e4m3").names() | {"error": "e5m2", "weight": "e2m1"})
    work = lower(
        [(single_linear(rows=2, in_features=3, out_features=5, batch=7).layers[0], formats)], 7, Optimizer.ADAM
    )
    # y[14,5] = x[14,3] w[3,5]; dx[14,3] = dy[14,5] w'[5,3]; dw[3,5] = x'[3,14] dy[14,5]
    assert [work.sizes[name].tolist() for name in "mnk"] == [[14, 14, 3], [5, 3, 5], [3, 5, 14]]
    widths = work.width_columns()
    assert [widths[name].tolist() for name in ("a_bits", "b_bits", "c_bits")] == [[8, 8, 8], [4, 4, 8], [8, 8, 8]]
    # the update of 15 weights: 3 states of 32 bits read and written, a gradient read, a copy of 4 bits written
    assert work.pass_operations.tolist() == [150]
    assert work.pass_traffic_bits(Scales(block=1, bits=0)).tolist() == [15 * (6 * 32 + 8 + 4)]
    # a scale of 8 bits for every 4 gradients and every 4 weights, none for the states
    assert work.pass_traffic_bits(Scales(block=4, bits=8)).tolist() == [15 * (6 * 32 + 8 + 4) + 2 * 4 * 8]


def test_layers_and_formats_are_numbered_as_they_come():
    network = builtin_workload("vgg-digits", batch=4)
    wide, narrow = uniform("bf16"), uniform("e4m3")
    layers = [(layer, narrow if i % 2 else wide) for i, layer in enumerate(network.layers)]
    work = lower(layers, 4, Optimizer.SGD)
    assert work.formats == (wide, narrow)
    assert work.layers == network.layers
    assert (work.product_formats == work.product_layers % 2).all()
    assert (np.diff(work.product_layers * 4 + work.product_phases) >= 0).all()
    assert (np.diff(work.pass_layers * 4 + work.pass_phases) > 0).all()


def test_a_machine_is_worked_out_from_its_own_units():
    machine = replace(
        EDGE,
        array=replace(EDGE.array, rows=3, cols=5, count=2, clock_hz=2e9),
        dram=replace(EDGE.dram, bandwidth_bytes_per_s=1e9, latency_s=1.1e-9),
    )
    (row,) = machines_of([machine])
    assert (row["rows"], row["cols"], row["arrays"], row["clock_hz"]) == (3, 5, 2, 2e9)
    assert row["sram_bits"] == 8 * EDGE.sram.capacity_bytes
    assert row["dram_bits_per_cycle"] == 4.0
    assert row["dram_latency_cycles"] == 3  # 2.2 cycles, rounded up
    assert row["lanes"] == EDGE.vector.lanes


@pytest.mark.parametrize("part, field, value", [("dram", "latency_s", 1e30), ("sram", "capacity_bytes", 2**62),
                                                ("sram", "capacity_bytes", 2**70), ("array", "rows", 2**70)])  # fmt: skip
def test_a_quantity_that_no_machine_has_is_an_error(part, field, value):
    machine = replace(EDGE, **{part: replace(getattr(EDGE, part), **{field: value})})
    with pytest.raises(CostError, match="accelerator 'edge' is out of the core's range"):
        simulate(builtin_workload("vgg-digits", batch=4), DesignPoint.of(default=uniform("bf16")), machine)


def test_sizes_that_cannot_be_counted_are_an_error():
    with pytest.raises(CostError, match="use a smaller batch"):
        simulate(builtin_workload("vgg-digits", batch=2**62), DesignPoint.of(default=uniform("bf16")), EDGE)
