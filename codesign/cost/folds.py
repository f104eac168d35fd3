"""How often a product fills an array, and how full it then is."""

from __future__ import annotations

import math

from codesign.cost.lower import Product
from codesign.cost.mac import macs_per_256_cycles
from codesign.cost.machine import DATAFLOWS
from codesign.cost.report import CostReport
from codesign.cost.work import format_of
from codesign.hardware import Dataflow

# Dimensions along the rows and the columns of the array, and the one that passes in time.
_SPREAD = {Dataflow.OS: ("m", "n", "k"), Dataflow.WS: ("k", "n", "m"), Dataflow.IS: ("k", "m", "n")}


def folds_of(report: CostReport, product: Product, row: int) -> tuple[int, float]:
    """(folds, mean share of the elements in use) of a product in the default formats, under the mapping of `row`.

    Multiply-accumulates that an element does together (a rate above 1) are one step along k.
    """
    machine, formats = report.accelerator, report.point.default
    first, second = (format_of(formats, role) for role in product.roles[:2])
    rate = macs_per_256_cycles(machine, first, second, formats.accumulator)
    tile = {d: int(report.mappings[f"tile_{d}"][row]) for d in "mnk"}
    lengths = {d: [min(tile[d], size - at) for at in range(0, size, tile[d])] for d, size in _sizes(product).items()}
    lengths["k"] = [math.ceil(length * 256 / rate) for length in lengths["k"]]
    down, across, streamed = _SPREAD[DATAFLOWS[report.mappings["dataflow"][row]]]
    rows, cols = machine.array.rows, machine.array.cols
    filled = sum(math.ceil(x / rows) for x in lengths[down]) * sum(math.ceil(x / cols) for x in lengths[across])
    share = sum(lengths[down]) * sum(lengths[across]) / (filled * rows * cols)
    return filled * len(lengths[streamed]) * product.repeats, share


def _sizes(product: Product) -> dict[str, int]:
    return {"m": product.gemm.m, "n": product.gemm.n, "k": product.gemm.k}
