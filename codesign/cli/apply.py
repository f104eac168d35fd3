"""`codesign apply`: one design of a search as a trained, pruned network."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser("apply", help="take a design of a search out as a network", description=__doc__)
    command.add_argument("run", metavar="RUN", type=Path, help="the directory of a search")
    command.add_argument("point", metavar="POINT", type=int, help="number of the trial, as the front names it")
    command.add_argument("--out", metavar="MODEL", type=Path, required=True, help="folder to write")
    command.add_argument("--onnx", action="store_true", help="write MODEL/network.onnx as well: pruned, in float32")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_apply)


def _apply(arguments: argparse.Namespace) -> int:
    from codesign.runs import apply_point, export_onnx, trial_of  # imports torch, which takes seconds

    trial_of(arguments.run, arguments.point)
    print(f"training trial {arguments.point} again, from its seed", file=sys.stderr)
    applied = apply_point(arguments.run, arguments.point, arguments.out)
    exported = export_onnx(arguments.out) if arguments.onnx else None
    measured = applied.trial.measurement
    trial_accuracy = measured.accuracy if measured else None
    if arguments.json:
        record = {
            "schema": "codesign.apply/1",
            "folder": str(arguments.out),
            "accuracy": applied.accuracy,
            "trial_accuracy": trial_accuracy,
            "point": applied.trial.point.to_json(),
            "onnx": None if exported is None else str(exported),
        }
        print(json.dumps(record, indent=1))
        return 0
    print(f"{arguments.out}: accuracy {100 * applied.accuracy:.2f} % as loaded back", end="")
    if trial_accuracy == applied.accuracy:
        print(", as in the trial")
    elif trial_accuracy is None:
        print(f"; the trial itself failed: {applied.trial.failure}")
    else:
        print(f"; {100 * trial_accuracy:.2f} % in the trial, which ran on another machine or with other libraries")
    if exported is not None:
        print(f"{exported}: the same network in float32")
    return 0
