"""Seconds per layer and phase: what a design point costs on an accelerator."""

from codesign.cost.batch import simulate_batch
from codesign.cost.explain import Lever, best_lever, levers
from codesign.cost.mac import FITS, area_um2, mac_area_um2, mac_energy_pj, macs_per_256_cycles
from codesign.cost.memory import MemoryUse
from codesign.cost.options import OptionTable, option_table
from codesign.cost.report import Bound, Cost, CostReport, LayerCost
from codesign.cost.scales import Scales
from codesign.cost.simulate import simulate

__all__ = [
    "FITS",
    "Bound",
    "Cost",
    "CostReport",
    "LayerCost",
    "Lever",
    "MemoryUse",
    "OptionTable",
    "Scales",
    "area_um2",
    "best_lever",
    "levers",
    "mac_area_um2",
    "mac_energy_pj",
    "macs_per_256_cycles",
    "option_table",
    "simulate",
    "simulate_batch",
]
