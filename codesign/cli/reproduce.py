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


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add this family's commands; each experiment is a command of its own below `reproduce`."""
    command = commands.add_parser("reproduce", help="run the experiments behind the methods again", description=__doc__)
    experiments = command.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, text in (
        ("retraining", "M1 against a conventional prune and retrain: accuracy and time of retraining"),
        ("staged", "M2 against pruning at initialization: accuracy over compression"),
    ):
        experiment = experiments.add_parser(name, help=text, description=text)
        shipped = f"{name}_fashion and {name}_digits, which come with codesign"
        experiment.add_argument("configs", metavar="CONFIG", nargs="*", help=f".toml files (default: {shipped})")
        experiment.add_argument("--out", metavar="FOLDER", type=Path, default=OUT, help=f"results (default {OUT})")
        experiment.add_argument("--json", action="store_true", help="print every row instead of the page")
        experiment.set_defaults(execute=_pruning)
    text = "M3: networks quantized after training by every method, and trained in short formats"
    quantization = experiments.add_parser("quantization", help=text, description=text)
    shipped = "quantization_fashion, _digits and _resnet, which come with codesign"
    quantization.add_argument("configs", metavar="CONFIG", nargs="*", help=f".toml files (default: {shipped})")
    quantization.add_argument("--out", metavar="FOLDER", type=Path, default=OUT, help=f"results (default {OUT})")
    quantization.add_argument("--json", action="store_true", help="print every row instead of the page")
    quantization.set_defaults(execute=_quantization)


def _pruning(arguments: argparse.Namespace) -> int:
    """Run what is missing in <experiment>.csv, then write <experiment>.md and <experiment>.svg."""
    from codesign.reproduce import figures, pages, retraining, staged  # imports torch, which takes seconds
    from codesign.reproduce.ledger import Ledger, Row, of_config
    from codesign.reproduce.settings import digest, load_retraining, load_staged, shipped

    name, out = arguments.experiment, arguments.out
    kinds: dict[str, tuple[Any, Any, Any, Any]] = {
        "retraining": (load_retraining, retraining, pages.retraining_page, figures.draw_retraining),
        "staged": (load_staged, staged, pages.staged_page, figures.draw_staged),
    }
    load, experiment, page_of, draw = kinds[name]
    paths = arguments.configs or [shipped(f"{name}_{data}") for data in ("fashion", "digits")]
    settings = [load(path) for path in paths]
    ledger = Ledger(out / f"{name}.csv", Row)
    done = 0
    with progress(name, sum(map(experiment.trainings, settings))) as update:

        def on_row(row: Row) -> None:
            nonlocal done
            done += 1
            update(done)

        for one in settings:
            experiment.run(one, ledger, on_row)
    parts = [(one, of_config(ledger.rows, digest(one))) for one in settings]
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


def _quantization(arguments: argparse.Namespace) -> int:
    """Run what is missing in quantization.csv, then write quantization.md and .svg."""
    from codesign.reproduce import quantization, quantization_page  # imports torch, which takes seconds
    from codesign.reproduce.ledger import Ledger, of_config
    from codesign.reproduce.settings import shipped

    out = arguments.out
    paths = arguments.configs or [shipped(f"quantization_{name}") for name in ("fashion", "digits", "resnet")]
    settings = [quantization.load_quantization(path) for path in paths]
    ledger = Ledger(out / "quantization.csv", quantization.Result)
    done = 0
    with progress("quantization", sum(map(quantization.parts_of, settings))) as update:

        def on_part() -> None:
            nonlocal done
            done += 1
            update(done)

        for one in settings:
            quantization.run(one, ledger, on_part)
    parts = [(one, of_config(ledger.rows, quantization.digest_of(one))) for one in settings]
    configs = "".join(f" {path}" for path in arguments.configs)
    page = quantization_page.page(parts, f"codesign reproduce quantization{configs} --out {out}")
    quantization_page.draw(parts, out / "quantization.svg")
    (out / "quantization.md").write_text(page, encoding="utf-8")
    if arguments.json:
        rows = [asdict(row) for _, rows in parts for row in rows]
        print(json.dumps({"schema": "codesign.reproduce.quantization/1", "rows": rows}, indent=1))
    else:
        print(page, end="")
    print(f"wrote {out / 'quantization'}.md, .svg and .csv", file=sys.stderr)
    return 0
