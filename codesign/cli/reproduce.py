"""`codesign reproduce`: the experiments behind the methods, with their tables and figures."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codesign.cli.progress import progress

OUT = Path("runs/reproduce")  # default folder of results
_SUBJECTS = {  # of the configurations that come with codesign, in the order of the page
    "retraining": ("fashion", "digits"),
    "staged": ("fashion", "digits"),
    "quantization": ("fashion", "digits", "resnet", "resnet_digits"),
}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands; each experiment is a command of its own below `reproduce`."""
    command = commands.add_parser("reproduce", help="run the experiments behind the methods again", description=__doc__)
    experiments = command.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, text in (
        ("retraining", "M1 against a conventional prune and retrain: accuracy and time of retraining"),
        ("staged", "M2 against pruning at initialization: accuracy over compression"),
        ("quantization", "M3: networks quantized after training by every method, and trained in narrow formats"),
    ):
        experiment = experiments.add_parser(name, help=text, description=text)
        shipped = " and ".join(f"{name}_{subject}" for subject in _SUBJECTS[name])
        experiment.add_argument(
            "configs", metavar="CONFIG", nargs="*", help=f".toml files (default: {shipped}, which come with codesign)"
        )
        experiment.add_argument("--out", metavar="FOLDER", type=Path, default=OUT, help=f"results (default {OUT})")
        experiment.add_argument("--json", action="store_true", help="print every row instead of the page")
        experiment.set_defaults(execute=_reproduce)


def _reproduce(arguments: argparse.Namespace) -> int:
    """Run what is missing in <experiment>.csv, then write <experiment>.md and <experiment>.svg."""
    from codesign.reproduce import figures, pages, quantization, quantization_page, retraining, staged  # torch: seconds
    from codesign.reproduce.ledger import Ledger, TrainedNetwork, of_config
    from codesign.reproduce.settings import digest, load_retraining, load_staged, shipped

    name, out = arguments.experiment, arguments.out
    kinds: dict[str, tuple[Any, ...]] = {
        "retraining": (
            load_retraining, digest, TrainedNetwork, retraining.trainings, retraining.run, pages.retraining_page, figures.draw_retraining
        ),
        "staged": (load_staged, digest, TrainedNetwork, staged.trainings, staged.run, pages.staged_page, figures.draw_staged),
        "quantization": (
            quantization.load_quantization, quantization.digest_of, quantization.Result, quantization.parts_of,
            quantization.run, quantization_page.page, quantization_page.draw,
        ),
    }  # fmt: skip
    load, digest_of, row_kind, parts_of, run, page_of, draw = kinds[name]
    paths = arguments.configs or [shipped(f"{name}_{subject}") for subject in _SUBJECTS[name]]
    settings = [load(path) for path in paths]
    ledger: Ledger[Any] = Ledger(out / f"{name}.csv", row_kind)
    done = 0
    with progress(name, sum(map(parts_of, settings))) as update:

        def on_part(*_: object) -> None:
            nonlocal done
            done += 1
            update(done)

        for one in settings:
            run(one, ledger, on_part)
    parts = [(one, of_config(ledger.rows, digest_of(one))) for one in settings]
    configs = "".join(f" {path}" for path in arguments.configs)
    page = page_of(parts, f"codesign reproduce {name}{configs} --out {out}")
    draw(parts, out / f"{name}.svg")
    (out / f"{name}.md").write_text(page, encoding="utf-8")
    if arguments.json:
        rows = [asdict(row) for _, rows in parts for row in rows]
        print(json.dumps({"schema": f"codesign.reproduce.{name}/1", "rows": rows}, indent=1))
    else:
        print(page, end="")
    print(f"wrote {out / name}.md, .svg and .csv", file=sys.stderr)
    return 0
