"""`codesign compare RUN RUN ...`: searches of one problem side by side, at equal training time."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.errors import ConfigError, RunDirectoryError
from codesign.report import SCHEMA


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add this family's commands."""
    command = commands.add_parser("compare", help="searches of one problem side by side", description=__doc__)
    command.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="directories of finished searches")
    command.add_argument("--figure", metavar="FILE", type=Path, help="hypervolume over training time: .svg, .png, .pdf")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_compare)


def read_run(directory: Path) -> dict[str, Any]:
    """run.json of a finished search."""
    path = directory / "run.json"
    if not path.is_file():
        raise RunDirectoryError(f"{directory} holds no run.json; name the directory of a finished search")
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if run.get("schema") != SCHEMA:
        raise RunDirectoryError(
            f"{path}: schema {run.get('schema')!r} is not {SCHEMA!r}; `codesign search` on the same directory writes it anew"
        )
    return run


def _compare(arguments: argparse.Namespace) -> int:
    from codesign.report.compare import DROPS_POINTS, compare_runs, draw_comparison
    from codesign.search import read_trials

    if len(arguments.runs) < 2:
        raise ConfigError("compare needs at least two runs")
    runs = [read_run(directory) for directory in arguments.runs]
    names = [str(directory) for directory in arguments.runs]
    found = compare_runs(names, runs, [read_trials(directory) for directory in arguments.runs])
    if arguments.figure:
        draw_comparison(found, arguments.figure)
        print(f"wrote {arguments.figure}", file=sys.stderr)
    if arguments.json:
        records = [each.record() for each in found]
        print(
            json.dumps({"schema": "codesign.compare/1", "reference": runs[0]["reference"], "runs": records}, indent=1)
        )
        return 0
    most = max(each.hypervolume for each in found) or 1.0
    final = max(each.final_hypervolume for each in found) or 1.0
    table = Table(title=f"{runs[0]['network']} on {runs[0]['accelerator']}, {runs[0]['data']}")
    table.add_column("run", overflow="fold")
    for head in ("method", "trainings", "CPU s", f"hypervolume at {found[0].budget_cpu_s:.0f} CPU s", "in the end"):
        table.add_column(head, justify="left" if head == "method" else "right")
    for drop in DROPS_POINTS:
        table.add_column(f"speed-up, <= {drop:g} points lost", justify="right")
    for each in found:
        table.add_row(
            each.name,
            each.method,
            f"{each.trainings:g}",
            f"{each.training_cpu_s:.0f}",
            f"{100 * each.hypervolume / most:.1f} %",
            f"{100 * each.final_hypervolume / final:.1f} %",
            *("none" if (ratio := each.speed_up[drop]) is None else f"{ratio:.2f}x" for drop in DROPS_POINTS),
        )
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    console.print(
        f"hypervolume in % of the best run's; speed-up (simulated) over uniform {runs[0]['reference']} of the same run; "
        "points lost against the most accurate baseline; accuracies are single measurements or means over few seeds",
        highlight=False,
    )
    return 0
