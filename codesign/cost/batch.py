"""Many matrix products at once: structures of arrays in and out, for studies of a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codesign.cost.columns import MAPPING_COLUMNS, RowError, cost_columns
from codesign.cost.machine import OUT_OF_RANGE, mac_unit, machines_of
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator

Columns = dict[str, np.ndarray]

# Columns that every product needs; those of an image are in `cs_products` of csrc/codesign.h and default to none.
NEEDED = ("m", "n", "k", "first", "second", "result", "accumulator")
DEFAULTS = {"machine": 0, "repeats": 1, "scale_block": 0, "scale_bits": 0, "image": 0} | dict.fromkeys(
    ("out_rows", "out_cols", "in_rows", "in_cols", "row_step", "row_span", "taps"), 1
)


def simulate_batch(
    accelerators: Sequence[Accelerator],
    formats: Sequence[FloatFormat],
    columns: Mapping[str, np.ndarray],
    *,
    mappings: Mapping[str, np.ndarray] | None = None,
    threads: int = 1,
) -> Columns:
    """Cost of every row: a product of m x n x k on one of the accelerators.

    columns : arrays of one length (or of length 1, for all rows). `m`, `n`, `k`; `first`, `second`, `result`,
        `accumulator`: index into `formats` of operand A, operand B, C and partial sums; optional: `machine` (index into
        `accelerators`), `repeats`, `scale_block`, `scale_bits`, and an image (see `cs_products` in csrc/codesign.h)
    mappings : the mapping columns of an earlier result, to price the same mappings again; searched when left out
    threads : the result does not depend on it

    Returns `latency_s`, `compute_s`, `memory_s`, `utilisation`, `traffic_bits`, `sram_bits`, `energy_j`, `area_um2` and the
    mapping columns: `dataflow`, `order` (numbers of csrc/codesign.h), `tile_m`, `tile_n`, `tile_k`, `tile_repeats`.
    """
    for name in columns:
        if name not in NEEDED and name not in DEFAULTS:
            raise CostError(f"unknown column '{name}'; known: {', '.join((*NEEDED, *DEFAULTS))}")
    for name in NEEDED:
        if name not in columns:
            raise CostError(f"column '{name}' is missing")
    given = {name: np.asarray(values) for name, values in columns.items()}
    count = max(len(values) for values in given.values())
    rows = {name: np.array([value]) for name, value in DEFAULTS.items()} | given
    rate, mac_pj = _units(accelerators, formats, rows, count)
    products = {name: rows[name] for name in DEFAULTS} | {name: rows[name] for name in "mnk"}
    bits = np.array([fmt.bits for fmt in formats])
    widths = (("a_bits", "first"), ("b_bits", "second"), ("c_bits", "result"), ("accumulator_bits", "accumulator"))
    products |= {column: bits[rows[role]] for column, role in widths} | {"rate": rate, "mac_pj": mac_pj}
    machines = machines_of(accelerators)
    try:
        chosen, costs = cost_columns(
            machines,
            products,
            mappings=None if mappings is None else {name: mappings[name] for name in MAPPING_COLUMNS},
            threads=threads,
        )
    except RowError as error:
        raise CostError(_explained(error, rows)) from error
    clock = machines["clock_hz"][rows["machine"]]
    elements = np.array([accelerator.array.elements for accelerator in accelerators])[rows["machine"]]
    macs = rows["m"].astype(float) * rows["n"] * rows["k"] * rows["repeats"]
    return {
        "latency_s": costs["cycles"] / clock,
        "compute_s": costs["compute_cycles"] / clock,
        "memory_s": costs["transfer_cycles"] / clock,
        "utilisation": macs * 256 / (rate * elements * costs["cycles"]),
        "traffic_bits": costs["a_bits"] + costs["b_bits"] + costs["c_bits"],
        "sram_bits": costs["sram_bits"],
        "energy_j": costs["energy_pj"] * 1e-12,
        "area_um2": np.broadcast_to(machines["area_um2"][rows["machine"]], (count,)),
        **chosen,
    }


def _units(
    accelerators: Sequence[Accelerator], formats: Sequence[FloatFormat], rows: Columns, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rate and energy of every row, worked out once for each combination that occurs."""
    parts = [rows[name] for name in ("machine", "first", "second", "accumulator")]
    for name, part, known in zip(
        ("machine", "first", "second", "accumulator"), parts, (accelerators, *[formats] * 3), strict=True
    ):
        if part.min() < 0 or part.max() >= len(known):
            raise CostError(f"column '{name}' must lie within 0 to {len(known) - 1}")
    size = len(formats)
    key = ((parts[0] * size + parts[1]) * size + parts[2]) * size + parts[3]
    present = np.flatnonzero(np.bincount(np.atleast_1d(key), minlength=1))
    rates = np.zeros(len(accelerators) * size**3, np.int64)
    energies = np.zeros(len(rates))
    for code in present.tolist():
        rest, accumulator = divmod(code, size)
        rest, second = divmod(rest, size)
        machine, first = divmod(rest, size)
        rates[code], energies[code] = mac_unit(
            accelerators[machine], formats[first], formats[second], formats[accumulator]
        )
    spread = np.broadcast_to(key, (count,))
    return rates[spread], energies[spread]


def _explained(error: RowError, rows: Columns) -> str:
    if error.reason == "machine":
        return f"accelerator {error.row} {OUT_OF_RANGE}"
    m, n, k = (int(np.broadcast_to(rows[name], (error.row + 1,))[error.row]) for name in "mnk")
    why = {
        "capacity": "no tile fits into the on-chip memory",
        "overflow": "more than 2^55 multiply-accumulates, or 2^61 bits or cycles",
        "range": "a size is not positive, or out of the core's range",
    }[error.reason]
    return f"row {error.row}: product {m} x {n} x {k}: {why}"
