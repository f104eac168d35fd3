"""Seconds, bits and joules of one training step of a design point on an accelerator."""

from __future__ import annotations

import numpy as np

from codesign.cost.report import CostReport, formats_at
from codesign.cost.rows import Rows
from codesign.cost.scales import NO_SCALES, Scales
from codesign.design import DesignPoint
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.workload import Workload


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
    order = np.lexsort((solved.phase_numbers, solved.layer_numbers))
    return CostReport(
        network=network,
        point=point,
        accelerator=accelerator,
        optimizer=optimizer,
        scales=scales,
        mode="physical",
        layer_numbers=solved.layer_numbers[order],
        phase_numbers=solved.phase_numbers[order],
        columns={name: column[order] for name, column in solved.columns.items()},
        mappings={name: column[order] for name, column in solved.mappings.items()},
    )
