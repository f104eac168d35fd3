"""`codesign train`: one training run with pruning stages and low-precision formats, from a configuration."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser(
        "train", help="train with pruning stages and low-precision formats", description=__doc__
    )
    command.add_argument("config", metavar="CONFIG", help="a .toml file, such as configs/training/m1_digits.toml")
    command.add_argument("--out", metavar="RUN", type=Path, help="run directory (default runs/<name of CONFIG>)")
    command.add_argument("--fresh", action="store_true", help="discard what RUN holds; the default is to go on from it")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_train)


def _train(arguments: argparse.Namespace) -> int:
    from codesign.runs import load_training_settings

    settings = load_training_settings(arguments.config)
    from codesign.cli.progress import progress
    from codesign.runs import MODEL, prepare_training, run_training  # imports torch, which takes seconds

    prepared = prepare_training(settings, arguments.config)
    directory = arguments.out or Path("runs") / Path(arguments.config).stem
    with progress("training", sum(prepared.steps)) as update:
        result = run_training(
            prepared,
            directory,
            fresh=arguments.fresh,
            on_step=update,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        _print_stages(result)
    print(f"trained network: {directory / MODEL}", file=sys.stderr)
    return 0


def _print_stages(result: dict[str, Any]) -> None:
    heads = ("stage", "done", "top-1 %", "top-5 %", "parameters", "MACs", "CPU s", "wall s", "simulated s")
    widths = (5, 16, 8, 8, 11, 12, 8, 8, 11)
    rows = []
    for record in result["records"]:
        done = f"train {record['epochs']:g} epochs" if record["action"] == "train" else record["action"]
        shares = ["" if record[key] is None else f"{100 * record[key]:.2f}" for key in ("top1", "top5")]
        sizes = [f"{record['parameters']:,}", f"{record['macs']:,}"]
        times = [f"{record['cpu_s']:.2f}", f"{record['wall_s']:.2f}", f"{record['simulated_s']:.4g}"]
        rows.append([str(record["stage"]), done, *shares, *sizes, *times])
    totals = [sum(record[key] for record in result["records"]) for key in ("cpu_s", "wall_s", "simulated_s")]
    rows.append(["total", "", "", "", "", "", f"{totals[0]:.2f}", f"{totals[1]:.2f}", f"{totals[2]:.4g}"])
    for row in (heads, *rows):
        cells = (
            f"{cell:<{w}}" if n == 1 else f"{cell:>{w}}" for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
