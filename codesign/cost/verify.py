"""The model held against reference data: which columns match on how many rows, and how far the fits are off."""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from codesign.cost.mac import FITS, block_dot_adders, mac_area_um2, mac_energy_pj
from codesign.cost.scalesim import WITHOUT_STALLS, ScaleSimCase, ScaleSimConvolution, ScaleSimCounts, counts_of
from codesign.errors import DataError
from codesign.formats import FloatFormat
from codesign.hardware import Dataflow, MacModel
from codesign.workload import GemmShape

REFERENCE = Path(__file__).parent / "reference"

# Column of the reference file -> field of ScaleSimCounts.
_COLUMNS = {
    "compute_cycles": "compute_cycles",
    "total_cycles": "total_cycles",
    "mapping_eff_pct": "mapping_efficiency_pct",
    "compute_util_pct": "compute_utilisation_pct",
    "overall_util_pct": "overall_utilisation_pct",
    "sram_ifmap_reads": "sram_ifmap_reads",
    "sram_filter_reads": "sram_filter_reads",
    "sram_ofmap_writes": "sram_ofmap_writes",
    "dram_ifmap_reads": "dram_ifmap_reads",
    "dram_filter_reads": "dram_filter_reads",
    "dram_ofmap_writes": "dram_ofmap_writes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMatch:
    """One column of the reference file: rows that match, rows that do not (their case_id), rows that are not modelled."""

    column: str
    matching: int
    differing: tuple[str, ...]
    not_modelled: int


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def case_of(row: dict[str, str]) -> ScaleSimCase:
    """The layer and array of one row of the reference file."""
    try:
        layer: GemmShape | ScaleSimConvolution
        if row["layer_kind"] == "conv":
            layer = ScaleSimConvolution(
                in_rows=int(row["ifmap_h"]),
                in_cols=int(row["ifmap_w"]),
                channels=int(row["channels"]),
                kernel_rows=int(row["filt_h"]),
                kernel_cols=int(row["filt_w"]),
                stride=int(row["stride"]),
                filters=int(row["num_filt"]),
            )
        else:
            layer = GemmShape(m=int(row["M"]), n=int(row["N"]), k=int(row["K"]))
        return ScaleSimCase(
            layer=layer,
            dataflow=Dataflow(row["dataflow"]),
            rows=int(row["rows"]),
            cols=int(row["cols"]),
            ifmap_kb=int(row["ifmap_sram_kb"]),
            filter_kb=int(row["filter_sram_kb"]),
            ofmap_kb=int(row["ofmap_sram_kb"]),
            bandwidth=int(row["dram_bandwidth_cfg"]) if row.get("bw_mode") == "USER" else None,
        )
    except (KeyError, ValueError) as error:
        raise DataError(
            f"row {row.get('case_id', '?')}: {error}; columns as in the reference file are needed"
        ) from error


def _is_modelled(row: dict[str, str], result: ScaleSimCounts, column: str) -> bool:
    """Under a bandwidth limit total time is that without limit wherever the array did not stall."""
    if _COLUMNS[column] in WITHOUT_STALLS and row.get("bw_mode") == "USER":
        return row["stall_cycles"] == "0"
    return getattr(result, _COLUMNS[column]) is not None


def match_scalesim(rows: list[dict[str, str]]) -> list[ColumnMatch]:
    """Every column that is modelled, compared with every row: counts exactly, percentages to their six decimals."""
    results = counts_of([case_of(row) for row in rows])
    found = []
    for column, field in _COLUMNS.items():
        modelled = [
            (row, result) for row, result in zip(rows, results, strict=True) if _is_modelled(row, result, column)
        ]
        differing = tuple(row["case_id"] for row, result in modelled if not _equal(row[column], result, field))
        found.append(
            ColumnMatch(
                column=column,
                matching=len(modelled) - len(differing),
                differing=differing,
                not_modelled=len(rows) - len(modelled),
            )
        )
    return found


def _equal(text: str, result: ScaleSimCounts, field: str) -> bool:
    value = getattr(result, field)
    if isinstance(value, int):
        return value == int(text)
    return math.isclose(value, float(text), rel_tol=0, abs_tol=1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitError:
    """A fit against the points that it is about: relative errors of the model."""

    fit: str
    quantity: str
    points: int
    mean_error: float
    max_error: float
    worst: str


_FORMAT = re.compile(r"E(\d)M(\d+)|INT(\d+)")


def _format(text: str) -> FloatFormat | None:
    match = _FORMAT.fullmatch(text)
    if match is None:
        return None
    if match[3]:
        return FloatFormat.parse(f"e0m{min(23, int(match[3]) - 1)}")
    return FloatFormat.parse(f"e{match[1]}m{match[2]}")


def _units(rows: Iterable[dict[str, str]], node: int, clock: str) -> list[tuple[dict[str, str], list[FloatFormat]]]:
    """Multiply-accumulate units of one node with formats that can be parsed; clock as it stands in the note."""
    found = []
    for row in rows:
        if row["technology_nm"] != str(node) or row["operation"] not in ("fp_mac_single_cycle", "int_mac"):
            continue
        if not row["note"].startswith(clock):
            continue
        first, _, second = row["format"].partition("x")
        formats = [_format(first), _format(second or first), _format(row["accumulator"])]
        known = [x for x in formats if x is not None]
        if len(known) == 3:
            found.append((row, known))
    return found


def match_mac(rows: list[dict[str, str]]) -> list[FitError]:
    """Every fit against its points in the reference file."""
    found = []
    published, synthesised = MacModel.PUBLISHED_28NM, MacModel.SYNTHESISED_45NM
    plans: list[tuple[str, MacModel, int, str, str, str, Callable[..., float]]] = [
        ("float", published, 28, "500 MHz", "fp_mac_single_cycle", "area_um2", mac_area_um2),
        ("integer", published, 28, "750 MHz", "int_mac", "area_um2", mac_area_um2),
        ("float", published, 28, "750 MHz", "fp_mac_single_cycle", "energy_pj", mac_energy_pj),
        ("integer", published, 28, "750 MHz", "int_mac", "energy_pj", mac_energy_pj),
        ("float", synthesised, 45, "", "fp_mac_single_cycle", "area_um2", mac_area_um2),
        ("integer", synthesised, 45, "", "int_mac", "area_um2", mac_area_um2),
    ]
    for kind, model, node, clock, operation, column, function in plans:
        errors = {}
        for row, (first, second, accumulator) in _units(rows, node, clock):
            if row["operation"] == operation:
                name = f"{row['format']} into {row['accumulator']}"
                errors[name] = _of_wide(function, model, first, second, accumulator, row) / float(row[column]) - 1
        found.append(_summary(f"{model}, {kind}", column, errors))
    found.append(_summary(str(MacModel.BLOCK_DOT), "relative area", _block_errors(rows)))
    return found


def _of_wide(
    function: Callable[..., float],
    model: MacModel,
    first: FloatFormat,
    second: FloatFormat,
    accumulator: FloatFormat,
    row: dict[str, str],
) -> float:
    """The model's value; integer accumulators wider than our formats are extended by the fit's own slope per bit."""
    value = function(model, first, second, accumulator)
    if row["accumulator"].startswith("INT"):
        narrower = FloatFormat.parse(f"e0m{accumulator.mantissa_bits - 1}")
        slope = value - function(model, first, second, narrower)
        value += (int(row["accumulator"][3:]) - accumulator.bits) * slope
    return value


def _block_errors(rows: list[dict[str, str]]) -> dict[str, float]:
    units = {"MXFP8": ("e4m3", 32), "MXINT8": ("e0m7", 32), "NVFP4": ("e2m1", 16), "NVINT4": ("e0m3", 16)}
    adders = {}
    for name, (text, lanes) in units.items():
        fmt = FloatFormat.parse(text)
        adders[name] = block_dot_adders(fmt, fmt, lanes)
    points = {row["format"]: float(row["relative_area"]) for row in rows if row["operation"] == "block_dot_lane"}
    return {name: adders[name] / adders["MXFP8"] / points[name] - 1 for name in units if name in points}


def _summary(fit: str, quantity: str, errors: dict[str, float]) -> FitError:
    if not errors:
        raise DataError(f"no point for {fit}, {quantity} in the file; columns as in the reference file are needed")
    worst = max(errors, key=lambda name: abs(errors[name]))
    return FitError(
        fit=fit,
        quantity=quantity,
        points=len(errors),
        mean_error=statistics.fmean(abs(error) for error in errors.values()),
        max_error=abs(errors[worst]),
        worst=worst,
    )


__all__ = ["FITS", "REFERENCE", "ColumnMatch", "FitError", "match_mac", "match_scalesim", "read_rows"]
