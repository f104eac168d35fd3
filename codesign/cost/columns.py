"""Columns in, columns out: the C cost core called on structures of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal

import numpy as np

from codesign.native import ffi, lib

Columns = dict[str, np.ndarray]

_SCALARS: dict[str, type[np.generic]] = {"int64_t": np.int64, "int32_t": np.int32, "double": np.float64}


def struct_columns(struct: str) -> dict[str, type[np.generic]]:
    """The columns of a C struct, with their numpy types."""
    return {
        name: _SCALARS[field.type.item.cname.replace("const ", "")]
        for name, field in ffi.typeof(struct).fields
        if field.type.kind == "pointer"
    }


def _row_dtype(struct: Any) -> np.dtype[np.void]:
    """A C struct of numbers, and of such structs, as a row of a numpy array."""
    fields = struct.fields
    return np.dtype(
        {
            "names": [name for name, _ in fields],
            "formats": [
                _row_dtype(field.type) if field.type.kind == "struct" else _SCALARS[field.type.cname]
                for _, field in fields
            ],
            "offsets": [field.offset for _, field in fields],
            "itemsize": ffi.sizeof(struct),
        }
    )


ACCELERATOR = _row_dtype(ffi.typeof("cs_accelerator"))
MACHINE = _row_dtype(ffi.typeof("cs_machine"))
PRODUCT_COLUMNS = struct_columns("cs_products")
MAPPING_COLUMNS = struct_columns("cs_mappings")
COST_COLUMNS = struct_columns("cs_costs")
ROW_COLUMNS = struct_columns("cs_rows")
_READ_BY_ROWS = ("m", "n", "k", "repeats", "rate", "mac_pj")  # of cs_products, by cs_product_rows
ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")  # names of cs_mappings.order, outermost loop first


Reason = Literal["range", "overflow", "capacity", "machine"]

_REASONS: dict[int, Reason] = {
    lib.CS_ERR_RANGE: "range",
    lib.CS_ERR_OVERFLOW: "overflow",
    lib.CS_ERR_CAPACITY: "capacity",
    lib.CS_ERR_MACHINE: "machine",
}


class RowError(Exception):
    """A row that the core refuses. Callers add what the row stands for.

    row : its index; that of the machine where the reason is "machine"
    reason : "range", "overflow", "capacity" or "machine"
    """

    def __init__(self, row: int, reason: Reason) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row = row
        self.reason = reason


def machine_rows(accelerators: np.ndarray) -> np.ndarray:
    """Rows of `cs_machine` for rows of `cs_accelerator`, worked out by the core."""
    rows = np.ascontiguousarray(accelerators)
    machines = np.empty(len(rows), MACHINE)
    lib.cs_machines_of(
        ffi.from_buffer("cs_accelerator[]", rows), len(rows), ffi.from_buffer("cs_machine[]", machines, True)
    )
    return machines


def cost_columns(
    machines: np.ndarray,
    products: Mapping[str, np.ndarray],
    *,
    mappings: Mapping[str, np.ndarray] | None = None,
    threads: int = 1,
) -> tuple[Columns, Columns]:
    """Cost of every row of `products`, under the given mappings or under the best ones.

    machines : rows of `cs_machine` (csrc/codesign.h)
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
    machine_array = ffi.from_buffer("cs_machine[]", np.ascontiguousarray(machines))

    def solve(start: int, stop: int) -> None:
        keep: list[object] = []
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
            reason = _REASONS[status]
            raise RowError(int(bad[0]) + (0 if reason == "machine" else start), reason)

    if threads == 1 or count < 2 * threads:
        solve(0, count)
    else:
        edges = np.linspace(0, count, threads + 1).astype(int)
        with ThreadPoolExecutor(threads) as pool:  # the call releases the interpreter
            list(pool.map(solve, edges[:-1].tolist(), edges[1:].tolist()))
    return chosen, costs


def row_columns(machine: np.ndarray, products: Mapping[str, np.ndarray], costs: Columns, passes: Columns) -> Columns:
    """Seconds, bits and joules on one machine: the columns of `cs_rows`, products first, then passes.

    machine : one row of `cs_machine`
    products, costs : as given to, and as returned by, `cost_columns` for this machine
    passes : the columns of `cs_passes`
    """
    count, pass_count = len(costs["cycles"]), len(passes["operations"])
    rows = {name: np.empty(count + pass_count, dtype) for name, dtype in ROW_COLUMNS.items()}
    read = {name: _filled(products[name], count, PRODUCT_COLUMNS[name], name) for name in _READ_BY_ROWS}
    keep: list[object] = []
    c_machine = ffi.from_buffer("cs_machine[]", np.ascontiguousarray(machine))
    c_products = fill_struct("cs_products", read, slice(None), keep)
    c_products.count = count
    c_costs = fill_struct("cs_costs", costs, slice(None), keep)
    c_passes = fill_struct("cs_passes", passes, slice(None), keep)
    c_passes.count = pass_count
    status = lib.cs_product_rows(c_machine, c_products, c_costs, fill_struct("cs_rows", rows, slice(0, count), keep))
    if status == lib.CS_OK:
        status = lib.cs_pass_rows(c_machine, c_passes, fill_struct("cs_rows", rows, slice(count, None), keep))
    if status != lib.CS_OK:
        raise RowError(0, "machine")
    return rows


def _filled(column: np.ndarray, count: int, dtype: type[np.generic], name: str) -> np.ndarray:
    if column.shape not in ((count,), (1,)):
        raise ValueError(f"column '{name}' must have {count} rows or one, got shape {column.shape}")
    if len(column) != count:
        column = np.broadcast_to(column, (count,))
    return np.ascontiguousarray(column, dtype)


def fill_struct(name: str, columns: Columns, part: slice, keep: list[object]) -> Any:
    """A struct of pointers into `part` of the columns; `keep` holds what they point to."""
    struct, arrays = ffi.new(f"{name} *"), _array_types(name)
    for column, values in columns.items():
        pointer = ffi.from_buffer(arrays[column], values[part])
        keep.append(pointer)
        setattr(struct, column, pointer)
    return struct


@cache
def _array_types(struct: str) -> dict[str, Any]:
    """The columns of a C struct, as types of arrays."""
    return {
        name: ffi.typeof(field.type.item.cname.replace("const ", "") + "[]")
        for name, field in ffi.typeof(struct).fields
        if field.type.kind == "pointer"
    }
