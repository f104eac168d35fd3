"""Steps by the hundred thousand: the works of a sweep as columns, priced by one call of the C core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.cost.columns import MAPPING_COLUMNS, PRODUCT_COLUMNS, Columns, cost_columns, fill_struct, struct_columns
from codesign.cost.lower import Product
from codesign.cost.machine import UnitCosts, machine_of
from codesign.cost.vector import VectorWork
from codesign.design import LayerFormats
from codesign.errors import CostError
from codesign.hardware import Accelerator
from codesign.native import ffi, lib
from codesign.optimizers import Optimizer
from codesign.whatif.work import IMAGE_COLUMNS, bits_of, rows_of, sizes_of
from codesign.workload import Workload

MACHINE = np.dtype(
    {
        "names": [name for name, _ in ffi.typeof("cs_machine").fields],
        "formats": [
            {"int64_t": np.int64, "int32_t": np.int32, "double": np.float64}[field.type.cname]
            for _, field in ffi.typeof("cs_machine").fields
        ],
        "offsets": [field.offset for _, field in ffi.typeof("cs_machine").fields],
        "itemsize": ffi.sizeof("cs_machine"),
    }
)
_STEP_COLUMNS = struct_columns("cs_steps")
_PRODUCT_FIELDS = ("m", "n", "k", "repeats", *IMAGE_COLUMNS, "a_bits", "b_bits", "c_bits", "accumulator_bits", "rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Equal products and equal passes of a step, each once, with how often they occur; `why` it cannot run, or empty.

    products : fields in the order of `_PRODUCT_FIELDS`, and picojoules of a multiply-accumulate
    passes : operations, traffic bits
    mappings : columns of `cs_mappings` for each product; None to search
    """

    products: dict[tuple[tuple[int, ...], float], int]
    passes: dict[tuple[int, int], int]
    mappings: Columns | None = None
    why: str = ""


def work_of(network: Workload, formats: LayerFormats, units: UnitCosts, optimizer: Optimizer) -> Work:
    """The work of a step on machines whose multiply-accumulate units are those of `units`."""
    products: Counter[tuple[tuple[int, ...], float]] = Counter()
    passes: Counter[tuple[int, int]] = Counter()
    try:
        for row in rows_of(network, formats, optimizer):
            if isinstance(row.work, VectorWork):
                passes[row.work.operations, row.work.traffic_bits] += 1
            else:
                products[_product(row.work, formats, units)] += 1
    except CostError as error:
        return Work(products={}, passes={}, why=str(error))
    return Work(products=dict(products), passes=dict(passes))


def _product(product: Product, formats: LayerFormats, units: UnitCosts) -> tuple[tuple[int, ...], float]:
    first, second = (getattr(formats, role.value) for role in product.roles[:2])
    rate, energy = units.of(first, second, formats.accumulator)
    widths = (*(bits_of(formats, role) for role in product.roles), formats.accumulator.bits)
    return (*sizes_of(product), *widths, rate), energy


def best_mappings(work: Work, accelerator: Accelerator) -> Columns | None:
    """The best mapping of each product on one machine. None where there is nothing to run."""
    if not work.products:
        return None
    mappings, _ = cost_columns([machine_of(accelerator)], _product_columns([work]))
    return mappings


def _product_columns(works: Sequence[Work]) -> Columns:
    keys = [key for work in works for key in work.products]
    table = np.array([fields for fields, _ in keys], np.int64).reshape(len(keys), len(_PRODUCT_FIELDS))
    columns = {name: np.ascontiguousarray(table[:, i], PRODUCT_COLUMNS[name]) for i, name in enumerate(_PRODUCT_FIELDS)}
    columns["mac_pj"] = np.array([energy for _, energy in keys])
    return columns | {name: np.zeros(len(keys), np.int32) for name in ("machine", "scale_block", "scale_bits")}


def price_steps(works: Sequence[Work], machines: np.ndarray, lanes: np.ndarray, work: np.ndarray) -> Columns:
    """Sums over a step for each point: the columns of `cs_steps` in csrc/codesign.h.

    machines : of dtype MACHINE; lanes, work : of the same length; `work` is an index into `works`
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
        "pass_operations": np.array([operations for operations, _ in passes], np.float64),
        "pass_traffic_bits": np.array([bits for _, bits in passes], np.float64),
    }
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
    machines = np.ascontiguousarray(machines)
    status = lib.cs_step_costs(
        ffi.cast("cs_machine *", ffi.from_buffer(machines)),
        ffi.from_buffer("int64_t[]", np.ascontiguousarray(lanes, np.int64)),
        ffi.from_buffer("int64_t[]", np.ascontiguousarray(work, np.int64)),
        count, c_works, c_products, c_mappings, c_steps,
    )  # fmt: skip
    if status != lib.CS_OK:
        raise CostError(f"a column of the sweep is out of the core's range (status {status})")
    return steps
