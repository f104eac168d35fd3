"""Seconds, bits and joules of one training step of a design point on an accelerator."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.cost.lower import products
from codesign.cost.report import Cost, CostReport, LayerCost, Optimizer
from codesign.design import DesignPoint, LayerFormats
from codesign.errors import CostError
from codesign.hardware import Accelerator, Dataflow, ThroughputLaw
from codesign.workload import GemmShape, Layer, Phase, VectorKind, VectorOp, WeightLayer, Workload

_SGD_STATE_ACCESSES = {Optimizer.SGD: 2, Optimizer.MOMENTUM: 4, Optimizer.ADAM: 6}

# forward (reads of the inputs, writes of the outputs), backward (reads of inputs, reads of outputs, writes of inputs)
_PASSES = {
    VectorKind.BATCH_NORM: ((2, 1), (2, 2, 1)),
    VectorKind.LAYER_NORM: ((1, 1), (1, 1, 1)),
    VectorKind.ACTIVATION: ((1, 1), (1, 1, 1)),
    VectorKind.POOL: ((1, 1), (0, 1, 1)),
    VectorKind.ADD: ((1, 1), (1, 0, 0.5)),
    VectorKind.MULTIPLY: ((1, 1), (1, 1, 1)),
    VectorKind.CONCATENATE: ((1, 1), (0, 1, 1)),
    VectorKind.SOFTMAX: ((1, 1), (0, 2, 1)),
    VectorKind.DROPOUT: ((1, 1), (0, 1, 1)),
    VectorKind.LOSS: ((1, 0), (1, 0, 1)),
}


def simulate(
    workload: Workload, point: DesignPoint, accelerator: Accelerator, *, optimizer: Optimizer = Optimizer.MOMENTUM
) -> CostReport:
    """One training step of `workload`, with the channels and formats of `point`, on `accelerator`.

    Each layer's operands move between DRAM and the chip; nothing is kept on chip from one layer to the next.
    """
    network = workload.with_channels(dict(point.channels))
    named = dict(point.formats)
    rows: list[LayerCost] = []
    for layer in network.layers:
        owner = layer.owner if isinstance(layer, VectorOp) else layer.name
        formats = named.get(layer.name) or named.get(owner) or point.default
        rows += _rows(layer, formats, accelerator, network.batch, optimizer)
    return CostReport(
        workload=workload.name, accelerator=accelerator.name, mode="physical", rows=tuple(rows), area_um2=math.nan
    )


def macs_per_unit(accelerator: Accelerator, bits: int) -> float:
    """Multiply-accumulates per processing element and cycle for operands of `bits`."""
    law = accelerator.throughput
    match law.law:
        case ThroughputLaw.TABLE:
            widths = sorted(int(width) for width in law.table)
            for width in widths:
                if bits <= width:
                    return law.table[str(width)]
            raise CostError(
                f"operands of {bits} bits are too wide for '{accelerator.name}', which has {widths[-1]} at most"
            )
        case ThroughputLaw.PACKING | ThroughputLaw.ISO_AREA:
            return float(2.0 ** math.floor(math.log2(law.native_bits / bits)))


def _cycles(shape: GemmShape, repeats: int, rate: float, accelerator: Accelerator) -> float:
    """Cycles of `repeats` products with the best dataflow that the array has."""
    rows, cols = accelerator.array.rows, accelerator.array.cols
    m, n, k = shape.m, shape.n, math.ceil(shape.k / rate)
    times = []
    for dataflow in accelerator.array.dataflows:
        match dataflow:
            case Dataflow.OS:
                folds, each = math.ceil(m / rows) * math.ceil(n / cols), k + rows + cols - 2
            case Dataflow.WS:
                folds, each = math.ceil(k / rows) * math.ceil(n / cols), m + 2 * rows + cols - 2
            case Dataflow.IS:
                folds, each = math.ceil(k / rows) * math.ceil(m / cols), n + 2 * rows + cols - 2
        times.append(math.ceil(folds * repeats / accelerator.array.count) * each)
    return min(times)


def _rows(
    layer: Layer, formats: LayerFormats, accelerator: Accelerator, batch: int, optimizer: Optimizer
) -> list[LayerCost]:
    rows = []
    parameters = layer.parameters
    if isinstance(layer, VectorOp):
        (read, write), (reread, errors, back) = _PASSES[layer.kind]
        x, y = layer.in_elements * batch, layer.out_elements * batch
        a, e = formats.activation.bits, formats.error.bits
        forward = round((read * x + write * y) * a)
        backward = round(reread * x * a + errors * y * e + back * x * e)
        rows.append(_vector(layer.name, layer.owner, Phase.FORWARD, max(x, y), forward, accelerator))
        rows.append(_vector(layer.name, layer.owner, Phase.INPUT_GRAD, max(x, y), backward, accelerator))
    else:
        for product in products(layer, batch):
            first, second, result = {
                Phase.FORWARD: (formats.activation, formats.weight, formats.activation),
                Phase.INPUT_GRAD: (formats.error, formats.weight, formats.error),
                Phase.WEIGHT_GRAD: (formats.activation, formats.error, formats.gradient),
            }[product.phase]
            rate = macs_per_unit(accelerator, max(first.bits, second.bits))
            cycles = _cycles(product.gemm, product.repeats, rate, accelerator)
            bits = product.first * first.bits + product.second * second.bits + product.result * result.bits
            compute_s = cycles / accelerator.array.clock_hz
            memory_s = bits / 8 / accelerator.dram.bandwidth_bytes_per_s
            macs = product.gemm.macs * product.repeats
            latency_s = max(compute_s, memory_s) + accelerator.dram.latency_s
            rows.append(
                LayerCost(
                    layer=layer.name,
                    owner=layer.name,
                    phase=product.phase,
                    cost=Cost(
                        compute_s=compute_s,
                        memory_s=memory_s,
                        latency_s=latency_s,
                        traffic_bits=bits,
                        macs=macs,
                        energy_j=bits * accelerator.dram.energy_pj_per_bit * 1e-12,
                    ),
                    utilisation=macs / (latency_s * accelerator.peak_macs_per_s * rate),
                )
            )
    if parameters:
        owner = layer.owner if isinstance(layer, VectorOp) else layer.name
        state = _SGD_STATE_ACCESSES[optimizer] * formats.optimizer_state.bits
        bits = parameters * (state + formats.gradient.bits + formats.weight.bits)
        rows.append(_vector(layer.name, owner, Phase.UPDATE, parameters, bits, accelerator))
    return rows


def _vector(name: str, owner: str, phase: Phase, elements: int, bits: int, accelerator: Accelerator) -> LayerCost:
    vector_s = math.ceil(elements / accelerator.vector.lanes) / accelerator.array.clock_hz
    memory_s = bits / 8 / accelerator.dram.bandwidth_bytes_per_s
    cost = Cost(
        vector_s=vector_s,
        memory_s=memory_s,
        latency_s=max(vector_s, memory_s) + accelerator.dram.latency_s,
        traffic_bits=bits,
        energy_j=bits * accelerator.dram.energy_pj_per_bit * 1e-12,
    )
    return LayerCost(layer=name, owner=owner, phase=phase, cost=cost, utilisation=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionTable:
    """Cost of every option of every weight layer, its norms, activations and pools included.

    levels : channel group -> the channel counts of its options, in the order given
    formats : the format options
    seconds : weight layer -> array [in_group level, out_group level, format, phase in the order of `Phase`]
    traffic_bytes, energy_j : weight layer -> array of the same shape
    """

    levels: dict[str, tuple[int, ...]]
    formats: tuple[LayerFormats, ...]
    seconds: dict[str, np.ndarray]
    traffic_bytes: dict[str, np.ndarray]
    energy_j: dict[str, np.ndarray]


def option_table(
    workload: Workload,
    accelerator: Accelerator,
    *,
    levels: Mapping[str, Sequence[int]],
    formats: Sequence[LayerFormats],
    optimizer: Optimizer = Optimizer.MOMENTUM,
) -> OptionTable:
    """Every weight layer x (input level, output level, format option): seconds, bytes and joules per phase.

    levels : channel group -> channel counts to price; a group that is absent has one level, its present size.
        Where one group is both input and output of a layer (depthwise), only equal levels are priced, others are inf.

    The latency of a design point is the sum over weight layers of its options' seconds, as `simulate` gives it.
    """
    counts = {name: tuple(levels.get(name, (group.channels,))) for name, group in workload.channel_groups.items()}
    attached: dict[str, list[VectorOp]] = {}
    for layer in workload.layers:
        if isinstance(layer, VectorOp):
            attached.setdefault(layer.owner, []).append(layer)
    tables: tuple[dict[str, np.ndarray], ...] = ({}, {}, {})
    for name, layer in workload.weight_layers.items():
        ins, outs = counts[layer.in_group], counts[layer.out_group]
        arrays = [np.full((len(ins), len(outs), len(formats), len(Phase)), np.inf) for _ in tables]
        for (i, x), (o, y) in itertools.product(enumerate(ins), enumerate(outs)):
            if layer.in_group == layer.out_group and x != y:
                continue
            sizes = {layer.in_group: x, layer.out_group: y}
            parts: list[WeightLayer | VectorOp] = [layer.resized(sizes)]
            for op in attached.get(name, []):
                if not {group for group, _ in op.inputs.terms} <= sizes.keys():
                    raise CostError(f"layer '{op.name}' reads channels that '{name}' neither reads nor writes")
                parts.append(op.resized(sizes))
            for f, option in enumerate(formats):
                for array in arrays:
                    array[i, o, f] = 0.0
                for part in parts:
                    for row in _rows(part, option, accelerator, workload.batch, optimizer):
                        phase = list(Phase).index(row.phase)
                        arrays[0][i, o, f, phase] += row.cost.latency_s
                        arrays[1][i, o, f, phase] += row.cost.traffic_bits / 8
                        arrays[2][i, o, f, phase] += row.cost.energy_j
        for table, array in zip(tables, arrays, strict=True):
            table[name] = array
    return OptionTable(
        levels=counts, formats=tuple(formats), seconds=tables[0], traffic_bytes=tables[1], energy_j=tables[2]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of a training schedule: `steps` training steps of one network with one point's formats."""

    workload: Workload
    point: DesignPoint
    steps: int


def schedule_latency_s(stages: Sequence[Stage], accelerator: Accelerator, *, optimizer: Optimizer) -> float:
    """Seconds of a whole run: the sum over stages of steps x step latency."""
    return sum(
        stage.steps * simulate(stage.workload, stage.point, accelerator, optimizer=optimizer).latency_s
        for stage in stages
    )
