"""One training step. Costs are worked out by hand in comments."""

import dataclasses
import math

import numpy as np
import pytest

from codesign import DesignPoint, load_accelerator, simulate, uniform
from codesign.cost import Bound, Scales, option_table, simulate_batch
from codesign.design import LayerFormats
from codesign.errors import CostError, ModelError
from codesign.formats import FloatFormat
from codesign.hardware import Dataflow
from codesign.optimizers import Optimizer
from codesign.workload import (
    Linear,
    Phase,
    VectorKind,
    VectorOp,
    builtin_workload,
    single_convolution,
    single_linear,
)

BF16 = DesignPoint.of(default=uniform("bf16"))


def small_machine(**array):
    """4 x 4 output-stationary elements at 1 GHz, 16 bits a cycle from DRAM without latency, 2 lanes."""
    edge = load_accelerator("edge")
    return dataclasses.replace(
        edge,
        array=dataclasses.replace(edge.array, **{"rows": 4, "cols": 4, "dataflows": (Dataflow.OS,)} | array),
        dram=dataclasses.replace(edge.dram, bandwidth_bytes_per_s=2e9, latency_s=0.0, energy_pj_per_bit=10.0),
        vector=dataclasses.replace(edge.vector, lanes=2),
    )


def cycles(cost):
    return round(cost.latency_s * 1e9)


def test_a_product_in_one_tile():
    # Y[4,4] = X[4,8] W[8,4] in bf16: load 32 + 32 numbers of 16 bits in 64 cycles; 8 + 4 + 4 - 2 cycles of computing and 4
    # to leave; store 16 numbers in 16 cycles. Smaller tiles of k cannot win: memory is busy for 80 cycles in any case,
    # and 18 cycles of computing can overlap with loads. Tiles of 4 along k: load 16 + 16 numbers (32 cycles), then
    # max(4 + 10, 32), then 14, then store 16: 94 < 98.
    report = simulate(single_linear(rows=4, in_features=8, out_features=4, batch=1), BF16, small_machine())
    forward = report.by_phase()[Phase.FORWARD]
    assert cycles(forward) == 32 + 32 + 14 + 16
    assert round(forward.compute_s * 1e9) == 28  # two tiles of 14
    assert round(forward.memory_s * 1e9) == 80
    assert forward.macs == 128
    assert (forward.first_bits, forward.second_bits, forward.result_bits) == (32 * 16, 32 * 16, 16 * 16)
    assert forward.traffic_bits == 80 * 16
    assert forward.dram_j == pytest.approx(80 * 16 * 10e-12)
    assert forward.utilisation == pytest.approx(128 / 16 / 94)
    assert forward.bound is Bound.MEMORY


def test_the_update_moves_states_gradients_and_copies():
    # 32 weights, FP32 state, BF16 gradient and copy: 12, 20, 28 bytes each, at 2 bytes a cycle
    workload = single_linear(rows=4, in_features=8, out_features=4, batch=1)
    for optimizer, bytes_each in ((Optimizer.SGD, 12), (Optimizer.MOMENTUM, 20), (Optimizer.ADAM, 28)):
        update = simulate(workload, BF16, small_machine(), optimizer=optimizer).by_phase()[Phase.UPDATE]
        assert update.traffic_bits == 32 * bytes_each * 8
        assert cycles(update) == 32 * bytes_each / 2  # more than 32 parameters x 10 operations on 2 lanes


def test_vector_work_is_bound_by_memory_or_by_its_lanes():
    machine = small_machine()
    workload = builtin_workload("vgg-digits", batch=1)
    report = simulate(workload, BF16, machine)
    relu = report.by_layer()["features.2"]  # 16 x 8 x 8 numbers
    # forward reads and writes 1024 numbers, backward reads output and error and writes an error: 5 x 1024 cycles;
    # 1 + 1 operations on 2 lanes take 1024
    assert cycles(relu) == 5 * 1024
    assert relu.bound is Bound.MEMORY
    fast = dataclasses.replace(machine, dram=dataclasses.replace(machine.dram, bandwidth_bytes_per_s=2e12))
    assert simulate(workload, BF16, fast).by_layer()["features.2"].bound is Bound.VECTOR


def test_a_report_adds_up_in_every_direction():
    report = simulate(builtin_workload("vgg16-cifar", batch=8), BF16, load_accelerator("edge"))
    total = report.total
    for parts in (report.by_layer(), report.by_owner(), report.by_phase()):
        assert sum(cost.latency_s for cost in parts.values()) == pytest.approx(total.latency_s, rel=1e-12)
        assert sum(cost.energy_j for cost in parts.values()) == pytest.approx(total.energy_j, rel=1e-12)
    frame = report.to_frame()
    assert frame["latency_s"].sum() == pytest.approx(report.latency_s, rel=1e-12)
    assert frame["traffic_bits"].sum() == report.traffic_bits
    assert set(frame["phase"]) == {phase.value for phase in Phase}
    assert "features.0" not in set(frame.loc[frame["phase"] == "input-grad", "layer"])  # its input is data
    assert (report.by_phase()[Phase.FORWARD].macs, total.macs) == (
        8 * builtin_workload("vgg16-cifar").macs,
        8 * (3 * builtin_workload("vgg16-cifar").macs - 32 * 32 * 9 * 3 * 64),  # without the first input gradient
    )
    assert total.mac_j + total.sram_j + total.dram_j == total.energy_j
    doubled = 2 * total
    assert (doubled.latency_s, doubled.macs) == (2 * total.latency_s, 2 * total.macs)


def test_a_strided_input_gradient_multiplies_no_inserted_zero():
    workload = single_convolution(
        size=(8, 8), in_channels=4, out_channels=6, kernel=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1),
        groups=1, batch=2,
    )  # fmt: skip
    phases = simulate(workload, BF16, load_accelerator("edge")).by_phase()
    # 4 x 4 outputs: forward 16 x 9 taps; backward the 64 inputs meet 4, 2, 2 or 1 taps, 16 inputs each: 16 x 9
    assert phases[Phase.INPUT_GRAD].macs == phases[Phase.FORWARD].macs == 2 * 16 * 9 * 4 * 6


def test_channels_and_formats_of_a_point_are_used():
    workload, machine = builtin_workload("vgg-digits", batch=4), load_accelerator("edge")
    point = DesignPoint.of(
        default=uniform("bf16"), channels={"features.0": 8}, formats={"features.3": uniform("e4m3fn")}
    )
    report = simulate(workload, point, machine)
    plain = simulate(workload, BF16, machine)
    layer = report.network.weight_layers["features.3"]
    assert (layer.in_channels, layer.out_channels) == (8, 16)
    assert report.latency_s < plain.latency_s
    # the norm and activation after features.3 have its formats: half the bits
    assert report.by_layer()["features.5"].traffic_bits * 2 == plain.by_layer()["features.5"].traffic_bits
    own = DesignPoint.of(default=uniform("bf16"), formats={"features.5": uniform("e4m3fn")})
    assert simulate(workload, own, machine).by_layer()["features.5"] == report.by_layer()["features.5"]


def test_scales_cost_their_bits():
    workload = single_linear(rows=64, in_features=64, out_features=64, batch=1)
    machine, point = load_accelerator("edge"), DesignPoint.of(default=uniform("e2m1"))
    plain = simulate(workload, point, machine)
    scaled = simulate(workload, point, machine, scales=Scales(block=32, bits=8))
    # 4 bits and 8 / 32 more: three tensors of 4096 numbers in each of three phases
    assert scaled.traffic_bits - plain.traffic_bits == 9 * 4096 / 32 * 8 + 2 * 4096 / 32 * 8  # and g, w of the update
    assert scaled.memory.stash_bytes == plain.memory.stash_bytes + 4096 // 32


def test_the_options_of_a_point_add_up_to_its_latency():
    workload, machine = builtin_workload("vgg16-cifar", batch=8), load_accelerator("edge")
    levels = {"features.0": (64, 48), "features.3": (64, 32)}
    formats = (uniform("bf16"), uniform("e4m3fn"))
    point = DesignPoint.of(
        channels={"features.0": 48, "features.3": 32}, formats={"features.3": formats[1]}, default=formats[0]
    )
    report = simulate(workload, point, machine)
    for threads in (1, 2):
        table = option_table(workload, machine, levels=levels, formats=formats, threads=threads)
        chosen = []
        for name, layer in workload.weight_layers.items():
            i, o = (1 if group in levels else 0 for group in (layer.in_group, layer.out_group))
            chosen.append((name, i, o, 1 if name == "features.3" else 0))
        assert np.isclose(sum(table.seconds[n][i, o, f].sum() for n, i, o, f in chosen), report.latency_s, rtol=1e-12)
        assert np.isclose(sum(table.energy_j[n][i, o, f].sum() for n, i, o, f in chosen), report.energy_j, rtol=1e-12)
        moved = sum(table.traffic_bytes[n][i, o, f].sum() for n, i, o, f in chosen)
        assert np.isclose(moved * 8, report.traffic_bits, rtol=1e-12)


@pytest.mark.parametrize("name", ["resnet18-imagenet", "mobilenet-v3-large", "gpt-small"])
def test_the_options_of_tied_and_attached_layers_add_up(name):
    workload, machine = builtin_workload(name, batch=2), load_accelerator("tpuv4")
    free = [group for group in workload.groups if not group.pinned][:3]
    levels = {group.name: (group.channels, group.channels // 2) for group in free}
    table = option_table(workload, machine, levels=levels, formats=[uniform("bf16")])
    point = DesignPoint.of(
        default=uniform("bf16"), channels={group.producers[0]: group.channels // 2 for group in free}
    )
    expected = simulate(workload, point, machine).latency_s
    total = 0.0
    for layer_name, layer in workload.weight_layers.items():
        i, o = (1 if group in levels else 0 for group in (layer.in_group, layer.out_group))
        total += table.seconds[layer_name][i, o, 0].sum()
        if layer.in_group == layer.out_group and layer.in_group in levels:
            assert math.isinf(table.seconds[layer_name][0, 1, 0, 0])
    assert total == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"features.1": (3,)}, "workload 'vgg16-cifar' has no channel group 'features.1'; did you mean"),
        (
            {"classifier": (10, 5)},
            "channel group 'classifier' keeps its 10 channels: they are an output of the network",
        ),
        ({"features.0": (64, 0)}, "channel group 'features.0': level 0 is not within 1 to 64"),
    ],
)
def test_levels_that_cannot_be_are_refused(levels, message):
    with pytest.raises(CostError, match=message):
        option_table(
            builtin_workload("vgg16-cifar"), load_accelerator("edge"), levels=levels, formats=[uniform("bf16")]
        )


def test_memory_is_counted_by_hand_on_one_layer_and_says_where_it_does_not_fit():
    # 6 x 4 weights and no bias; 10 rows; the input is kept for the weight gradient
    workload = single_linear(rows=5, in_features=6, out_features=4, batch=2)
    formats = LayerFormats.parse(
        {"weight": "e4m3", "activation": "bf16", "error": "e5m2", "gradient": "bf16", "optimizer_state": "fp32"}
    )
    report = simulate(workload, DesignPoint.of(default=formats), load_accelerator("edge"), optimizer=Optimizer.ADAM)
    memory = report.memory
    assert memory.weights_bytes == 24
    assert memory.optimizer_bytes == 24 * 3 * 4
    assert memory.gradients_bytes == 24 * 2
    assert memory.stash_bytes == 60 * 2
    assert memory.workspace_bytes == (60 + 40) * (2 + 1)  # inputs, outputs and their errors
    assert memory.peak_bytes == 24 + 288 + 48 + 120 + 300
    assert memory.fits
    huge = simulate(builtin_workload("resnet50-imagenet", batch=1024), BF16, load_accelerator("edge")).memory
    assert not huge.fits


def test_a_tensor_that_two_layers_keep_is_kept_once():
    # input 64 numbers for conv 0; 16 maps of 8 x 8: conv 0's output for the norm; the ReLU's output for itself and conv 3
    workload = builtin_workload("vgg-digits", batch=1)
    first = [
        layer for layer in workload.layers if layer.name in ("features.0", "features.1", "features.2", "features.3")
    ]
    kept = simulate(dataclasses.replace(workload, layers=tuple(first)), BF16, load_accelerator("edge")).memory
    assert kept.stash_bytes == 2 * (64 + 1024 + 1024)


def test_a_fork_adds_the_gradients_of_its_readers():
    workload = builtin_workload("resnet18-imagenet", batch=1)
    forks = [layer for layer in workload.layers if isinstance(layer, VectorOp) and layer.kind is VectorKind.FORK]
    assert forks[0].name == "maxpool.fork"
    report = simulate(workload, BF16, load_accelerator("edge"))
    # 64 x 56 x 56 numbers: two errors read, their sum written
    assert report.by_layer()["maxpool.fork"].traffic_bits == 3 * 64 * 56 * 56 * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sram": {"capacity_bytes": 64}},
            r"layer 'linear' \(forward\): product 64 x 64 x 64: not even the smallest tile",
        ),
        ({"array": {"rows": 70000}}, "accelerator 'edge' is out of the core's range"),
    ],
)
def test_a_machine_that_cannot_run_a_layer_is_one_error(change, message):
    machine = load_accelerator("edge")
    for part, values in change.items():
        machine = dataclasses.replace(machine, **{part: dataclasses.replace(getattr(machine, part), **values)})
    with pytest.raises(CostError, match=message):
        simulate(single_linear(rows=64, in_features=64, out_features=64, batch=1), BF16, machine)


def test_a_format_too_wide_for_a_table_machine_names_layer_and_phase():
    with pytest.raises(
        CostError,
        match=r"layer 'features.0' \(forward\): operands of 32 bits are too wide for accelerator 'tpuv1', whose ",
    ):
        simulate(
            builtin_workload("vgg-digits", batch=1), DesignPoint.of(default=uniform("fp32")), load_accelerator("tpuv1")
        )


def test_a_batch_that_overflows_the_counts_is_refused():
    with pytest.raises(CostError, match=r"layer 'linear' \(forward\).*more than 2\^55 multiply-accumulates"):
        simulate(
            single_linear(rows=2**30, in_features=2**20, out_features=2**10, batch=1), BF16, load_accelerator("edge")
        )


def test_a_layer_that_lost_its_channels_is_one_error():
    with pytest.raises(
        ModelError, match=r"layer 'features.0': 0 output channels; a layer cannot lose all its channels"
    ):
        simulate(
            builtin_workload("vgg-digits"),
            DesignPoint.of(default=uniform("bf16"), channels={"features.0": 0}),
            load_accelerator("edge"),
        )


def test_the_batch_interface_gives_what_simulate_gives():
    machine, bf16 = load_accelerator("edge"), FloatFormat.parse("bf16")
    workload = single_linear(rows=100, in_features=80, out_features=60, batch=3)
    phases = simulate(workload, BF16, machine).by_phase()
    columns = {
        "m": np.array([300, 300, 80]),
        "n": np.array([60, 80, 60]),
        "k": np.array([80, 60, 300]),
        **{name: np.array([0]) for name in ("first", "second", "result")},
        "accumulator": np.array([1]),
    }
    found = simulate_batch([machine], [bf16, FloatFormat.parse("fp32")], columns)
    for i, phase in enumerate((Phase.FORWARD, Phase.INPUT_GRAD, Phase.WEIGHT_GRAD)):
        cost = phases[phase]
        assert found["latency_s"][i] == cost.latency_s
        assert found["traffic_bits"][i] == cost.traffic_bits
        assert found["energy_j"][i] == pytest.approx(cost.energy_j, rel=1e-12)
        assert found["utilisation"][i] == pytest.approx(cost.utilisation, rel=1e-12)
    again = simulate_batch([machine], [bf16, FloatFormat.parse("fp32")], columns, mappings=found, threads=2)
    for name, values in found.items():
        assert np.array_equal(values, again[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": np.array([2])}, "column 'first' must lie within 0 to 1"),
        ({"mm": np.array([2])}, "unknown column 'mm'; known: m, n, k"),
        ({"m": np.array([5, 0])}, "row 1: product 5? ?.*is not positive"),
    ],
)
def test_a_bad_column_is_named(change, message):
    columns = {name: np.array([4]) for name in "mnk"} | {
        name: np.array([0]) for name in ("first", "second", "result", "accumulator")
    }
    formats = [FloatFormat.parse("bf16"), FloatFormat.parse("fp32")]
    with pytest.raises(CostError, match=message.replace("5? ?.*", "0 x 4 x 4: a size ")):
        simulate_batch([load_accelerator("edge")], formats, columns | change)


def test_a_missing_column_is_named():
    with pytest.raises(CostError, match="column 'first' is missing"):
        simulate_batch([load_accelerator("edge")], [], {name: np.array([4]) for name in "mnk"})


def test_linear_layers_of_one_shape_cost_the_same_wherever_they_are():
    workload = builtin_workload("gpt-small", batch=1)
    report = simulate(workload, BF16, load_accelerator("tpuv4"))
    costs = report.by_layer()
    linear = [x.name for x in workload.layers if isinstance(x, Linear) and x.name.endswith("mlp.0")]
    assert len({costs[name].latency_s for name in linear}) == 1
