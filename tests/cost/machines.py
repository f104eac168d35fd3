"""Machines of the C core, written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from codesign.cost.columns import MACHINE

_REST = {"sram_pj_per_bit": 0.0, "dram_pj_per_bit": 0.0, "lanes": 1, "clock_hz": 1.0, "area_um2": 0.0}


def machine_table(machines: Iterable[Mapping[str, float]]) -> np.ndarray:
    """Rows of `cs_machine`; energies, vector unit, clock and area need not be given."""
    return np.array([tuple((_REST | dict(each))[name] for name in MACHINE.names) for each in machines], MACHINE)
