"""`codesign report`: the page of a finished search again, or its front as a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from codesign.cli.compare import read_run


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser("report", help="one self-contained HTML file of a run", description=__doc__)
    command.add_argument("run", metavar="RUN", type=Path, help="the directory of a search")
    command.add_argument("--figure", metavar="FILE", type=Path, help="draw the front instead: .svg, .png, .pdf")
    command.add_argument("--json", action="store_true", help="print what the page shows")
    command.set_defaults(execute=_report)


def _report(arguments: argparse.Namespace) -> int:
    from codesign.report import draw_front, render

    run = read_run(arguments.run)
    if arguments.json:
        print(json.dumps(run, indent=1))
        return 0
    target = arguments.figure or arguments.run / "report.html"
    if arguments.figure:
        draw_front(run, target)
    else:
        target.write_text(render(run), encoding="utf-8")
    print(f"wrote {target}", file=sys.stderr)
    return 0
