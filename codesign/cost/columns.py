"""Columns in, columns out: the C cost core called on structures of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from codesign.native import ffi, lib

Columns = dict[str, np.ndarray]

_DTYPES = {"int64_t *": np.int64, "int32_t *": np.int32, "double *": np.float64}


def struct_columns(struct: str) -> dict[str, Any]:
    """The columns of a C struct, with their numpy types."""
    return {
        name: _DTYPES[field.type.item.cname.replace("const ", "") + " *"]
        for name, field in ffi.typeof(struct).fields
        if field.type.kind == "pointer"
    }


PRODUCT_COLUMNS = struct_columns("cs_products")
MAPPING_COLUMNS = struct_columns("cs_mappings")
COST_COLUMNS = struct_columns("cs_costs")
ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")  # names of cs_mappings.order, outermost loop first


class RowError(Exception):
    """A row that the core refuses. Callers add what the row stands for.

    row : its index; that of the machine where the reason is "machine"
    reason : "range", "overflow", "capacity" or "machine"
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason


def cost_columns(
    machines: Sequence[Mapping[str, Any]],
    products: Mapping[str, np.ndarray],
    *,
    mappings: Mapping[str, np.ndarray] | None = None,
    threads: int = 1,
) -> tuple[Columns, Columns]:
    """Cost of every row of `products`, under the given mappings or under the best ones.

    machines : fields of `cs_machine` (csrc/codesign.h) by name
    products : one array per column of `cs_products`, all of one length, or of length 1 for a constant
    mappings : one array per column of `cs_mappings`; searched when left out
    threads : rows are split evenly; the result does not depend on it

    Returns (mappings, costs). Raises `RowError` for the first row that is refused.
    """
    count = max((len(column) for column in products.values()), default=0)
    rows = {name: _filled(np.asarray(products[name]), count, dtype, name) for name, dtype in PRODUCT_COLUMNS.items()}
    chosen = {
        name: np.empty(count, dtype) if mappings is None else _filled(np.asarray(mappings[name]), count, dtype, name)
        for name, dtype in MAPPING_COLUMNS.items()
    }
    costs = {name: np.empty(count, dtype) for name, dtype in COST_COLUMNS.items()}
    machine_array = ffi.new("cs_machine[]", [dict(machine) for machine in machines])

    def solve(start: int, stop: int) -> None:
        keep: list[Any] = []
        part = slice(start, stop)
        c_products = fill_struct("cs_products", rows, part, keep)
        c_products.count = stop - start
        c_mappings = fill_struct("cs_mappings", chosen, part, keep)
        c_costs = fill_struct("cs_costs", costs, part, keep)
        bad = ffi.new("size_t *")
        if mappings is None:
            slots = np.empty(1 << (2 * (stop - start)).bit_length(), np.int64)
            status = lib.cs_cost_searched(
                machine_array, len(machines), c_products, c_mappings, c_costs,
                ffi.from_buffer("int64_t[]", slots), len(slots), bad,
            )  # fmt: skip
        else:
            status = lib.cs_cost_mapped(machine_array, len(machines), c_products, c_mappings, c_costs, bad)
        if status != lib.CS_OK:
            if status == lib.CS_ERR_MACHINE:
                raise RowError(int(bad[0]), "machine")
            reasons = {lib.CS_ERR_RANGE: "range", lib.CS_ERR_OVERFLOW: "overflow", lib.CS_ERR_CAPACITY: "capacity"}
            raise RowError(start + int(bad[0]), reasons[status])

    if threads == 1 or count < 2 * threads:
        solve(0, count)
    else:
        edges = np.linspace(0, count, threads + 1).astype(int)
        with ThreadPoolExecutor(threads) as pool:  # the call releases the interpreter
            list(pool.map(solve, edges[:-1].tolist(), edges[1:].tolist()))
    return chosen, costs


def _filled(column: np.ndarray, count: int, dtype: Any, name: str) -> np.ndarray:
    if column.shape not in ((count,), (1,)):
        raise ValueError(f"column '{name}' must have {count} rows or one, got shape {column.shape}")
    if len(column) != count:
        column = np.broadcast_to(column, (count,))
    return np.ascontiguousarray(column, dtype)


def fill_struct(name: str, columns: Columns, part: slice, keep: list[Any]) -> Any:
    """A struct of pointers into `part` of the columns; `keep` holds what they point to."""
    struct = ffi.new(f"{name} *")
    for column, values in columns.items():
        kind = ffi.typeof(name).fields
        pointer = ffi.from_buffer(dict(kind)[column].type.item.cname.replace("const ", "") + "[]", values[part])
        keep.append(pointer)
        setattr(struct, column, pointer)
    return struct
