"""Seconds, bits and joules of one training step of a design point on an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.cost.mac import area_um2
from codesign.cost.memory import memory_use
from codesign.cost.report import CostReport
from codesign.cost.rows import Rows
from codesign.cost.scales import NO_SCALES, Scales
from codesign.cost.vector import Optimizer
from codesign.design import DesignPoint, LayerFormats
from codesign.hardware import Accelerator
from codesign.workload import Convolution, Layer, Linear, Phase, Workload

_PHASES = list(Phase)


def simulate(
    workload: Workload,
    point: DesignPoint,
    accelerator: Accelerator,
    *,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    scales: Scales = NO_SCALES,
) -> CostReport:
    """One training step of `workload`, with the channels and formats of `point`, on `accelerator`.

    A layer without formats of its own has those of the weight layer that it belongs to. Layers run one after the other,
    and every tensor passes through DRAM between them; nothing is fused.

    scales : extra bits of every operand for shared scale factors; none when left out

    Raises `CostError` naming layer and phase where a format is too wide for the machine or no tile fits, `ModelError`
    where the channels of the point do not fit the network.
    """
    network = workload.with_channels(dict(point.channels)) if point.channels else workload
    formats_of = formats_at(point)
    rows = Rows(accelerator, optimizer, scales)
    for layer in network.layers:
        rows.add(layer, formats_of(layer), network.batch)
    solved = rows.solve()
    order = sorted(
        range(len(solved.labels)), key=lambda i: (solved.labels[i][0], _PHASES.index(solved.labels[i][1]), i)
    )
    numbers = [solved.labels[i][0] for i in order]
    words = solved.mapping_words()
    return CostReport(
        workload=workload.name,
        accelerator=accelerator.name,
        mode="physical",
        layers=tuple(network.layers[number].name for number in numbers),
        owners=tuple(owner_of(network.layers[number]) for number in numbers),
        phases=tuple(solved.labels[i][1] for i in order),
        columns={name: column[np.array(order)] for name, column in solved.columns.items()},
        mappings=tuple(words[i] for i in order),
        area_um2=area_um2(accelerator),
        memory=memory_use(network, formats_of, optimizer, scales, accelerator.dram.capacity_bytes),
    )


def owner_of(layer: Layer) -> str:
    """The weight layer that a layer belongs to."""
    return layer.name if isinstance(layer, Convolution | Linear) else layer.owner


def formats_at(point: DesignPoint) -> Callable[[Layer], LayerFormats]:
    """Formats of each layer: its own, else its owner's, else the default."""
    named = dict(point.formats)
    return lambda layer: named.get(layer.name) or named.get(owner_of(layer)) or point.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of a training schedule: `steps` training steps of one network at one point.

    A pass without training, as the sampling of a structure search, is `forward_only`.
    """

    workload: Workload
    point: DesignPoint
    steps: int
    forward_only: bool = False


def schedule_latency_s(
    stages: Sequence[Stage],
    accelerator: Accelerator,
    *,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    scales: Scales = NO_SCALES,
) -> float:
    """Seconds of a whole run: the sum over stages of steps x step latency of that stage's network."""
    total = 0.0
    for stage in stages:
        report = simulate(stage.workload, stage.point, accelerator, optimizer=optimizer, scales=scales)
        step = report.by_phase()[Phase.FORWARD].latency_s if stage.forward_only else report.latency_s
        total += stage.steps * step
    return total
