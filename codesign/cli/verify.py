"""`codesign verify TARGET`: prove what this package claims, here and now.

TARGET is a number format: all 2^32 float32 inputs are rounded to it and compared with the sorted list of its values.
TARGET is `scalesim`: every column that the mode of that name models, compared with 165 layers of SCALE-Sim 3.0.0.
TARGET is `mac`: the fits of area and energy, against published and synthesised arithmetic units.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from codesign.cli.progress import progress
from codesign.cost import verify
from codesign.formats import FloatFormat
from codesign.quantize import Rounding

_REFUTED = 1


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser(
        "verify", help="prove a number format's rounding, the cycle model, the area fits", description=__doc__
    )
    command.add_argument(
        "target", metavar="TARGET", help="a number format, for example e4m3fn (up to 20 bits); scalesim; mac"
    )
    command.add_argument(
        "--rounding",
        choices=[Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO],
        default=Rounding.NEAREST_EVEN,
        type=Rounding,
        help="of a number format; default: nearest-even",
    )
    command.add_argument("--data", type=Path, metavar="FILE", help="other reference data for scalesim or mac (CSV)")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    match arguments.target:
        case "scalesim":
            return _verify_scalesim(arguments.data, arguments.json)
        case "mac":
            return _verify_mac(arguments.data, arguments.json)
        case _:
            return _verify_format(FloatFormat.parse(arguments.target), arguments.rounding, arguments.json)


def _verify_format(fmt: FloatFormat, rounding: Rounding, as_json: bool) -> int:
    from codesign.quantize import proof as proofs

    start_s = time.process_time()
    with progress(f"verify {fmt}", proofs.INPUTS) as update:
        proof = proofs.prove(fmt, rounding, progress=update)
    cpu_s = time.process_time() - start_s
    if as_json:
        record = {
            "schema": "codesign.verify.format/1",
            "format": str(fmt),
            "rounding": str(rounding),
            "inputs": proof.inputs,
            "decisions": proof.decisions,
            "wrong": proof.wrong,
            "first_wrong_bits": proof.first_wrong,
            "holds": proof.holds,
            "cpu_s": round(cpu_s, 3),
        }
        print(json.dumps(record, indent=1))
    elif proof.holds:
        print(
            f"{fmt}, {rounding}: proven. All {proof.inputs:,} float32 inputs are rounded as the {proof.decisions:,} "
            f"decisions between its values demand ({cpu_s:.1f} CPU seconds)."
        )
    else:
        assert proof.first_wrong is not None
        bits = np.uint32(proof.first_wrong)
        print(
            f"{fmt}, {rounding}: REFUTED. {proof.wrong:,} of {proof.inputs:,} float32 inputs are rounded wrong, first "
            f"{float(bits.view(np.float32))!r} (bits {int(bits):#010x})."
        )
    return 0 if proof.holds else _REFUTED


def _verify_scalesim(data: Path | None, as_json: bool) -> int:
    rows = verify.read_rows(data or verify.REFERENCE / "scalesim_cycles.csv")
    found = verify.match_scalesim(rows)
    holds = not any(column.differing for column in found)
    if as_json:
        columns = [{name: getattr(column, name) for name in column.__slots__} for column in found]
        print(json.dumps({"schema": "codesign.verify.scalesim/1", "holds": holds, "columns": columns}, indent=1))
        return 0 if holds else _REFUTED
    print(f"{'column':20} {'equal':>6} {'different':>10} {'not modelled':>13}")
    for column in found:
        line = f"{column.column:20} {column.matching:6} {len(column.differing):10} {column.not_modelled:13}"
        print(line + (f"  case_id {', '.join(column.differing[:8])}" if column.differing else ""))
    print(
        f"{len(rows)} rows; not modelled: under a bandwidth limit, operands larger than half of their buffer, and total time with stalls"
    )
    return 0 if holds else _REFUTED


def _verify_mac(data: Path | None, as_json: bool) -> int:
    found = verify.match_mac(verify.read_rows(data or verify.REFERENCE / "mac_cost_points.csv"))
    if as_json:
        fits = [{name: getattr(fit, name) for name in fit.__slots__} for fit in found]
        print(json.dumps({"schema": "codesign.verify.mac/1", "fits": fits}, indent=1))
        return 0
    print(f"{'fit':26} {'quantity':14} {'points':>6} {'mean error':>11} {'largest':>8}  worst")
    for fit in found:
        print(f"{fit.fit:26} {fit.quantity:14} {fit.points:6} {fit.mean_error:11.1%} {fit.max_error:8.1%}  {fit.worst}")
    print("other points of the file (adders, multipliers, memories, whole machines) are not fitted; presets cite them")
    return 0
