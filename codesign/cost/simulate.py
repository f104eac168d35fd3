"""Seconds, bits and joules of one training step of a design point on an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from codesign.cost.columns import RowError, cost_columns, row_columns
from codesign.cost.machine import OUT_OF_RANGE, mac_columns, machines_of
from codesign.cost.report import CostReport, formats_at
from codesign.cost.scales import NO_SCALES, Scales
from codesign.cost.work import PHASES, Columns, Ints, Lowering, lower
from codesign.design import DesignPoint
from codesign.errors import CostError
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
    work = lower(((layer, formats_of(layer)) for layer in network.layers), network.batch, optimizer)
    priced = price(work, accelerator, scales)
    order = np.lexsort((priced.phase_numbers, priced.layer_numbers))
    return CostReport(
        network=network,
        point=point,
        accelerator=accelerator,
        optimizer=optimizer,
        scales=scales,
        mode="physical",
        layer_numbers=priced.layer_numbers[order],
        phase_numbers=priced.phase_numbers[order],
        columns={name: column[order] for name, column in priced.columns.items()},
        mappings={name: column[order] for name, column in priced.mappings.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PricedWork:
    """Costs of all rows of a lowering: products first, then passes.

    layer_numbers, phase_numbers : index into the lowering's layers, and into `Phase`
    columns : field of `Cost` -> array
    mappings : columns of `cs_mappings`; -1 for passes
    """

    layer_numbers: Ints
    phase_numbers: Ints
    columns: Columns
    mappings: Columns


def price(work: Lowering, accelerator: Accelerator, scales: Scales, *, threads: int = 1) -> PricedWork:
    """Every product under its best mapping, and every pass, in one call of the core.

    Raises `CostError` naming layer and phase of the first product that cannot run.
    """
    machines = machines_of([accelerator])
    rate, mac_pj = mac_columns(work, accelerator)
    products = {
        **work.sizes,
        **work.width_columns(),
        "rate": rate,
        "mac_pj": mac_pj,
        "machine": np.zeros(1, np.int64),
        "scale_block": np.array([scales.block if scales.bits else 0]),
        "scale_bits": np.array([scales.bits]),
    }
    passes = {
        "operations": work.pass_operations.astype(np.float64),
        "traffic_bits": work.pass_traffic_bits(scales),
    }
    try:
        mappings, costs = cost_columns(machines, products, threads=threads)
        columns = row_columns(machines, products, costs, passes)
    except RowError as error:
        raise _explained(error, work, accelerator) from error
    no_mapping = np.full(len(work.pass_layers), -1)
    return PricedWork(
        layer_numbers=np.concatenate((work.product_layers, work.pass_layers)),
        phase_numbers=np.concatenate((work.product_phases, work.pass_phases)),
        columns=columns,
        mappings={name: np.concatenate((column, no_mapping)) for name, column in mappings.items()},
    )


def _explained(error: RowError, work: Lowering, machine: Accelerator) -> CostError:
    if error.reason == "machine":
        return CostError(f"accelerator '{machine.name}' {OUT_OF_RANGE}")
    layer = work.layers[work.product_layers[error.row]]
    m, n, k = (int(work.sizes[name][error.row]) for name in "mnk")
    where = f"layer '{layer.name}' ({PHASES[work.product_phases[error.row]]}): product {m} x {n} x {k}"
    match error.reason:
        case "capacity":
            return CostError(
                f"{where}: not even the smallest tile fits into the {machine.sram.capacity_bytes} bytes of on-chip "
                f"memory of '{machine.name}'; enlarge sram.capacity_bytes or use a smaller array than "
                f"{machine.array.rows} x {machine.array.cols}"
            )
        case "overflow":
            return CostError(
                f"{where}: more than 2^55 multiply-accumulates, or 2^61 bits or cycles; use a smaller batch"
            )
        case "range":
            return CostError(f"{where}: out of the core's range")
        case _:
            assert_never(error.reason)
