"""An accelerator as the C core sees it: cycles, bits and picojoules."""

from __future__ import annotations

import math
from typing import Any

from codesign.cost.mac import mac_energy_pj, macs_per_256_cycles
from codesign.design import LayerFormats, Role
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator, Dataflow

OUT_OF_RANGE = (
    "is out of the core's range: 1 to 65536 rows, cols and arrays, less than 2^52 bytes of on-chip memory, 2^-20 to 2^40 "
    "DRAM bits per cycle, at most 2^30 cycles of DRAM latency"
)
DATAFLOWS = (Dataflow.OS, Dataflow.WS, Dataflow.IS)  # their numbers in the core


def machine_of(accelerator: Accelerator) -> dict[str, Any]:
    """The fields of `cs_machine`."""
    array, dram = accelerator.array, accelerator.dram
    return {
        "rows": array.rows,
        "cols": array.cols,
        "arrays": array.count,
        "dataflows": sum(1 << DATAFLOWS.index(dataflow) for dataflow in set(array.dataflows)),
        "sram_bits": accelerator.sram.capacity_bytes * 8,
        "dram_bits_per_cycle": dram.bandwidth_bytes_per_s * 8 / array.clock_hz,
        "dram_latency_cycles": math.ceil(dram.latency_s * array.clock_hz),
        "sram_pj_per_bit": accelerator.sram.energy_pj_per_bit,
        "dram_pj_per_bit": dram.energy_pj_per_bit,
    }


class UnitCosts:
    """Rate and energy of a multiply-accumulate on one accelerator; each set of formats is worked out once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._known: dict[tuple[FloatFormat, FloatFormat, FloatFormat], tuple[int, float]] = {}

    def of(self, first: FloatFormat, second: FloatFormat, accumulator: FloatFormat) -> tuple[int, float]:
        """(multiply-accumulates per element in 256 cycles, picojoules of one)."""
        key = (first, second, accumulator)
        if key not in self._known:
            mac = self._accelerator.mac
            energy = mac_energy_pj(mac.model, first, second, accumulator) * mac.energy_scale
            self._known[key] = (macs_per_256_cycles(self._accelerator, first, second, accumulator), energy)
        return self._known[key]


def format_of(formats: LayerFormats, role: Role) -> FloatFormat:
    """The format of one role."""
    found: FloatFormat = getattr(formats, role.value)
    return found
