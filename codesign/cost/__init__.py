"""Seconds per layer and phase: what a design point costs on an accelerator."""

from codesign.cost import scalesim, verify
from codesign.cost.batch import simulate_batch
from codesign.cost.columns import machine_rows
from codesign.cost.explain import Lever, best_lever, levers
from codesign.cost.folds import folds_of
from codesign.cost.lower import Product, products
from codesign.cost.mac import FITS, mac_area_um2, mac_energy_pj, macs_per_256_cycles, native_area_um2
from codesign.cost.machine import accelerator_rows, area_um2, dataflow_mask, mac_columns, mac_unit, machines_of
from codesign.cost.memory import MemoryUse
from codesign.cost.options import OptionTable, option_table
from codesign.cost.report import Bound, Cost, CostReport, LayerCost
from codesign.cost.scales import NO_SCALES, Scales
from codesign.cost.simulate import simulate
from codesign.cost.steps import REFUSALS, StepWork, best_mappings, price_steps, step_work
from codesign.cost.work import IMAGE_COLUMNS, SIZE_COLUMNS, Lowering, lower

__all__ = [
    "FITS",
    "IMAGE_COLUMNS",
    "NO_SCALES",
    "REFUSALS",
    "SIZE_COLUMNS",
    "Bound",
    "Cost",
    "CostReport",
    "LayerCost",
    "Lever",
    "Lowering",
    "MemoryUse",
    "OptionTable",
    "Product",
    "Scales",
    "StepWork",
    "accelerator_rows",
    "area_um2",
    "best_lever",
    "best_mappings",
    "dataflow_mask",
    "folds_of",
    "levers",
    "lower",
    "mac_area_um2",
    "mac_columns",
    "mac_energy_pj",
    "mac_unit",
    "machine_rows",
    "machines_of",
    "macs_per_256_cycles",
    "native_area_um2",
    "option_table",
    "price_steps",
    "products",
    "scalesim",
    "simulate",
    "simulate_batch",
    "step_work",
    "verify",
]
