"""Seconds per layer and phase: what a design point costs on an accelerator."""

from codesign.cost.batch import simulate_batch
from codesign.cost.explain import Lever, best_lever, levers
from codesign.cost.folds import folds_of
from codesign.cost.lower import Product, products
from codesign.cost.mac import FITS, mac_area_um2, mac_energy_pj, macs_per_256_cycles, native_area_um2
from codesign.cost.machine import area_um2, dataflow_mask, mac_columns, mac_unit, machines_of
from codesign.cost.memory import MemoryUse
from codesign.cost.options import OptionTable, option_table
from codesign.cost.report import Bound, Cost, CostReport, LayerCost, owner_of
from codesign.cost.scales import NO_SCALES, Scales
from codesign.cost.simulate import Stage, schedule_latency_s, simulate
from codesign.cost.vector import Optimizer
from codesign.cost.work import Lowering, lower

__all__ = [
    "FITS",
    "NO_SCALES",
    "Bound",
    "Cost",
    "CostReport",
    "LayerCost",
    "Lever",
    "Lowering",
    "MemoryUse",
    "Optimizer",
    "OptionTable",
    "Product",
    "Scales",
    "Stage",
    "area_um2",
    "best_lever",
    "dataflow_mask",
    "folds_of",
    "levers",
    "lower",
    "mac_area_um2",
    "mac_columns",
    "mac_energy_pj",
    "mac_unit",
    "machines_of",
    "macs_per_256_cycles",
    "native_area_um2",
    "option_table",
    "owner_of",
    "products",
    "schedule_latency_s",
    "simulate",
    "simulate_batch",
]
