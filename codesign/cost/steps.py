"""Whole steps by the hundred thousand: a few works on many machines, priced by one call of the C core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.cost.columns import MAPPING_COLUMNS, PRODUCT_COLUMNS, cost_columns, fill_struct, struct_columns
from codesign.cost.machine import mac_columns, machines_of
from codesign.cost.scales import NO_SCALES
from codesign.cost.work import IMAGE_COLUMNS, SIZE_COLUMNS, Columns, Lowering
from codesign.errors import CostError
from codesign.hardware import Accelerator
from codesign.native import ffi, lib

# Why a step is refused, by the status of csrc/codesign.h.
REFUSALS = {
    lib.CS_OK: "",
    lib.CS_ERR_RANGE: "a size is out of the core's range",
    lib.CS_ERR_OVERFLOW: "more than 2^55 multiply-accumulates",
    lib.CS_ERR_CAPACITY: "no tile fits into the on-chip memory",
    lib.CS_ERR_MACHINE: "the machine is out of the core's range",
}
_STEP_COLUMNS = struct_columns("cs_steps")
_PRODUCT_FIELDS = (*SIZE_COLUMNS, *IMAGE_COLUMNS, "a_bits", "b_bits", "c_bits", "accumulator_bits", "rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """Equal products and equal passes of a step, each once, with how often they occur; `why` it cannot run, or empty.

    products : fields in the order of `_PRODUCT_FIELDS`, and picojoules of a multiply-accumulate
    passes : operations, traffic bits
    mappings : columns of `cs_mappings` for each product; None to search
    """

    products: dict[tuple[tuple[int, ...], float], int]
    passes: dict[tuple[int, float], int]
    mappings: Columns | None = None
    why: str = ""


def step_work(work: Lowering, accelerator: Accelerator) -> StepWork:
    """The work of a step on machines whose multiply-accumulate units are those of `accelerator`."""
    try:
        rate, mac_pj = mac_columns(work, accelerator)
    except CostError as error:
        return StepWork(products={}, passes={}, why=str(error))
    columns = work.sizes | work.width_columns() | {"rate": rate}
    table = np.stack([columns[name] for name in _PRODUCT_FIELDS], axis=1)
    products = Counter(zip(map(tuple, table.tolist()), mac_pj.tolist(), strict=True))
    traffic_bits = work.pass_traffic_bits(NO_SCALES)
    passes = Counter(zip(work.pass_operations.tolist(), traffic_bits.tolist(), strict=True))
    return StepWork(products=dict(products), passes=dict(passes))


def best_mappings(work: StepWork, accelerator: Accelerator) -> Columns | None:
    """The best mapping of each product on one machine. None where there is nothing to run."""
    if not work.products:
        return None
    mappings, _ = cost_columns(machines_of([accelerator]), _product_columns([work]))
    return mappings


def _product_columns(works: Sequence[StepWork]) -> Columns:
    keys = [key for work in works for key in work.products]
    table = np.array([fields for fields, _ in keys], np.int64).reshape(len(keys), len(_PRODUCT_FIELDS))
    columns = {name: np.ascontiguousarray(table[:, i], PRODUCT_COLUMNS[name]) for i, name in enumerate(_PRODUCT_FIELDS)}
    columns["mac_pj"] = np.array([energy for _, energy in keys])
    return columns | {name: np.zeros(len(keys), np.int32) for name in ("machine", "scale_block", "scale_bits")}


def price_steps(works: Sequence[StepWork], machines: np.ndarray, work: np.ndarray) -> Columns:
    """Sums over a step for each point: the columns of `cs_steps` in csrc/codesign.h.

    machines : rows of `cs_machine`
    work : index into `works` for each of them
    """
    count = len(machines)
    keep: list[object] = []
    products = _product_columns(works)
    c_products = fill_struct("cs_products", products, slice(None), keep)
    c_products.count = len(products["m"])
    passes = [key for each in works for key in each.passes]
    columns = {
        "first_product": np.cumsum([0, *(len(each.products) for each in works)]),
        "first_pass": np.cumsum([0, *(len(each.passes) for each in works)]),
        "product_times": np.array([times for each in works for times in each.products.values()], np.int64),
        "pass_times": np.array([times for each in works for times in each.passes.values()], np.int64),
    }
    pass_columns = {
        "operations": np.array([operations for operations, _ in passes], np.float64),
        "traffic_bits": np.array([bits for _, bits in passes], np.float64),
    }
    c_passes = fill_struct("cs_passes", pass_columns, slice(None), keep)
    c_passes.count = len(passes)
    c_works = fill_struct("cs_works", columns, slice(None), keep)
    c_works.count = len(works)
    c_mappings = ffi.NULL
    if all(each.mappings is not None for each in works if each.products):
        parts = [each.mappings for each in works if each.mappings is not None]
        joined = {
            name: np.concatenate([np.asarray(part[name], dtype) for part in parts]) if parts else np.zeros(0, dtype)
            for name, dtype in MAPPING_COLUMNS.items()
        }
        c_mappings = fill_struct("cs_mappings", joined, slice(None), keep)
    steps = {name: np.zeros(count, dtype) for name, dtype in _STEP_COLUMNS.items()}
    c_steps = fill_struct("cs_steps", steps, slice(None), keep)
    status = lib.cs_step_costs(
        ffi.from_buffer("cs_machine[]", np.ascontiguousarray(machines)),
        ffi.from_buffer("int64_t[]", np.ascontiguousarray(work, np.int64)),
        count, c_works, c_products, c_passes, c_mappings, c_steps,
    )  # fmt: skip
    if status != lib.CS_OK:
        raise CostError(f"a column of the steps is out of the core's range (status {status})")
    return steps
