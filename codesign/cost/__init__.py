"""Seconds per layer and phase: what a design point costs on an accelerator."""

from codesign.cost.report import Bound, Cost, CostReport, LayerCost, Optimizer
from codesign.cost.simulate import OptionTable, Stage, option_table, schedule_latency_s, simulate

__all__ = [
    "Bound",
    "Cost",
    "CostReport",
    "LayerCost",
    "Optimizer",
    "OptionTable",
    "Stage",
    "option_table",
    "schedule_latency_s",
    "simulate",
]
