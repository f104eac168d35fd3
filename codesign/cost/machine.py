"""Accelerators as the C core sees them, and what one multiply-accumulate is worth on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from codesign.cost.columns import ACCELERATOR, machine_rows
from codesign.cost.mac import mac_energy_pj, macs_per_256_cycles, native_area_um2
from codesign.cost.work import PHASES, ROLES, Ints, Lowering
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator, Dataflow

OUT_OF_RANGE = (
    "is out of the core's range: 1 to 65536 rows, cols and arrays, less than 2^52 bytes of on-chip memory, 2^-20 to 2^40 "
    "DRAM bits per cycle, at most 2^30 cycles of DRAM latency"
)
DATAFLOWS = (Dataflow.OS, Dataflow.WS, Dataflow.IS)  # their numbers in the core


def dataflow_mask(dataflows: Iterable[Dataflow]) -> int:
    """The set as `cs_machine.dataflows` has it: bit d for dataflow d."""
    return sum(1 << DATAFLOWS.index(dataflow) for dataflow in set(dataflows))


def accelerator_rows(accelerators: Sequence[Accelerator]) -> np.ndarray:
    """Rows of `cs_accelerator`, filled by name: fields of an accelerator's file, and two that follow from it."""
    rows = [
        _row(
            ACCELERATOR, each, {"element_um2": native_area_um2(each), "dataflows": dataflow_mask(each.array.dataflows)}
        )
        for each in accelerators
    ]
    try:
        return np.array(rows, ACCELERATOR)
    except OverflowError as error:
        names = ", ".join(f"'{each.name}'" for each in accelerators)
        raise CostError(f"accelerator {names} {OUT_OF_RANGE}") from error


def _row(dtype: np.dtype[np.void], record: object, derived: dict[str, float]) -> tuple[object, ...]:
    fields: list[object] = []
    for name in dtype.names or ():
        if name in derived:
            fields.append(derived[name])
        elif dtype[name].names:
            fields.append(_row(dtype[name], getattr(record, name), {}))
        else:
            fields.append(getattr(record, name))
    return tuple(fields)


def machines_of(accelerators: Sequence[Accelerator]) -> np.ndarray:
    """Rows of `cs_machine`, one for each accelerator."""
    return machine_rows(accelerator_rows(accelerators))


def area_um2(accelerator: Accelerator) -> float:
    """Area of arrays and on-chip memory at the machine's node; control, vector unit and wires are not modelled."""
    return float(machines_of([accelerator])["area_um2"][0])


def mac_unit(
    accelerator: Accelerator, first: FloatFormat, second: FloatFormat, accumulator: FloatFormat
) -> tuple[int, float]:
    """(multiply-accumulates per element in 256 cycles, picojoules of one) of operands in these formats."""
    mac = accelerator.mac
    energy_pj = mac_energy_pj(mac.model, first, second, accumulator) * mac.energy_scale
    return macs_per_256_cycles(accelerator, first, second, accumulator), energy_pj


def mac_columns(work: Lowering, accelerator: Accelerator) -> tuple[Ints, npt.NDArray[np.float64]]:
    """The columns `rate` and `mac_pj` of `cs_products`; each set of formats is worked out once.

    Raises `CostError` naming layer and phase of the first product whose operands the machine cannot multiply.
    """
    roles = work.product_roles
    key = (work.product_formats * len(ROLES) + roles[:, 0]) * len(ROLES) + roles[:, 1]
    _, first_row, place = np.unique(key, return_index=True, return_inverse=True)
    rates, energies = np.zeros(len(first_row), np.int64), np.zeros(len(first_row))
    for i in np.argsort(first_row).tolist():
        row = int(first_row[i])
        try:
            rates[i], energies[i] = mac_unit(accelerator, *work.operands(row))
        except CostError as error:
            layer, phase = work.layers[work.product_layers[row]], PHASES[work.product_phases[row]]
            raise CostError(f"layer '{layer.name}' ({phase}): {error}") from error
    return rates[place], energies[place]
