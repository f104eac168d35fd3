"""`codesign whatif`: a sweep over keys of machine, formats and channels; or a page with sliders."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.cli.progress import progress
from codesign.cli.units import si
from codesign.design import uniform
from codesign.errors import ConfigError
from codesign.hardware import load_accelerator
from codesign.optimizers import Optimizer
from codesign.whatif import (
    OBJECTIVES,
    Sink,
    SweepPlan,
    check_objectives,
    pareto,
    sink_of,
    sweep_plan,
    top,
    what_if_page,
)
from codesign.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20  # rows of a table on the terminal
IN_MEMORY = 10_000_000  # points that are kept for the terminal or as JSON; files take any number
_TRIED = 2000  # points that `--dry-run` prices to tell the time


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser(
        "whatif",
        help="a grid of machines, formats and channels; or a page with sliders",
        description="One training step at every combination of the values that are varied. Without --vary: a page whose "
        "sliders simulate the step again (--out FILE.html).",
        epilog="Keys: those of an accelerator's file (macs.rows, dram.bandwidth_bytes_per_s, ...), dataflow (os, os+ws), "
        "format, format.weight and the other roles, keep, batch.",
    )
    command.add_argument("workload", metavar="WORKLOAD", help="a built-in network, or module:function")
    command.add_argument("--accelerator", "-a", metavar="A", required=True, help="a preset or a .toml file")
    command.add_argument("--vary", metavar="KEY=V1,V2,...", action="append", default=[], help="may be given many times")
    command.add_argument("--batch", type=int, metavar="N", help="examples per step (default 128)")
    command.add_argument("--format", metavar="F", default="bf16", help="of every layer (default bf16)")
    command.add_argument("--optimizer", type=Optimizer, choices=list(Optimizer), default=Optimizer.MOMENTUM)
    command.add_argument(
        "--mapping",
        choices=("searched", "fixed"),
        default="searched",
        help="the best mapping of every point (default), or that of the machine as it is wherever it fits: faster",
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=".csv, .parquet (shards in a folder when there are many points), .html",
    )
    command.add_argument("--top", type=int, metavar="N", help="only the N best points")
    command.add_argument("--by", metavar="OBJECTIVE", default="latency_s", help=f"for --top: {', '.join(OBJECTIVES)}")
    command.add_argument("--pareto", metavar="A,B,...", help="only points that no other beats in these objectives")
    command.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers share the work")
    command.add_argument("--dry-run", action="store_true", help="how many points, how long, how large; nothing else")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_execute)


def _execute(arguments: argparse.Namespace) -> int:
    from codesign.cli.cost import workload_of

    accelerator = load_accelerator(arguments.accelerator)
    network = workload_of(arguments.workload, arguments.batch)
    if not arguments.vary:
        return _page(arguments, network)
    vary: dict[str, list[str]] = {}
    for text in arguments.vary:
        key, equals, values = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--vary '{text}': write KEY=V1,V2,...")
        if key in vary:
            raise ConfigError(f"--vary '{text}': '{key}' is given twice")
        vary[key] = [value.strip() for value in values.split(",") if value.strip()]
    plan = sweep_plan(
        network,
        accelerator,
        vary,
        formats=uniform(arguments.format),
        optimizer=arguments.optimizer,
        mapping=arguments.mapping,
    )
    if arguments.top is not None and arguments.top < 1:
        raise ConfigError(f"--top must be positive, got {arguments.top}")
    objectives = arguments.pareto.split(",") if arguments.pareto else []
    check_objectives([arguments.by, *objectives])
    return _dry_run(arguments, plan) if arguments.dry_run else _sweep(arguments, plan, objectives)


def _page(arguments: argparse.Namespace, network: Workload) -> int:
    if arguments.out is None or arguments.out.suffix != ".html":
        raise ConfigError("nothing is varied; give --vary KEY=V1,V2,... for a sweep, or --out FILE.html for the page")
    page = what_if_page(
        network,
        load_accelerator(arguments.accelerator),
        formats=uniform(arguments.format),
        optimizer=arguments.optimizer,
    )
    arguments.out.write_text(page, encoding="utf-8")
    size = len(page.encode())
    record = {"schema": "codesign.whatif.page/1", "out": str(arguments.out), "bytes": size}
    print(json.dumps(record) if arguments.json else f"{arguments.out}: {si(size, 'B')}; open it in a browser")
    return 0


def _dry_run(arguments: argparse.Namespace, plan: SweepPlan) -> int:
    began = time.perf_counter()
    plan.frame(0, 1)  # the network, its formats and mappings: once
    once_s = time.perf_counter() - began
    middle, tried = plan.points // 2, min(_TRIED, plan.points)
    start = max(0, middle - tried // 2)
    began = time.perf_counter()
    frame = plan.frame(start, start + tried)
    point_s = (time.perf_counter() - began) / tried
    total_s = once_s + point_s * plan.points
    size = int(frame.memory_usage(index=False).sum() / tried * plan.points)
    record = {
        "schema": "codesign.whatif.plan/1",
        "points": plan.points,
        "estimated_s": total_s,
        "estimated_bytes": size,
    }
    if arguments.json:
        print(json.dumps(record, indent=1))
    else:
        print(f"{plan.points} points, about {si(total_s, 's')} on one core, about {si(size, 'B')} uncompressed")
    return 0


def _sweep(arguments: argparse.Namespace, plan: SweepPlan, objectives: list[str]) -> int:
    import pandas as pd

    if not arguments.out and plan.points > IN_MEMORY and not (arguments.top or objectives):
        raise ConfigError(
            f"{plan.points} points are too many to show; give --out FILE.parquet, --top N or --pareto A,B"
        )

    chosen = bool(objectives or arguments.top)
    sink = sink_of(arguments.out, plan.points) if arguments.out else None
    kept: list[pd.DataFrame] = []
    cannot = 0
    with progress("whatif", plan.points) as update, _results(plan, arguments.scheduler) as results:
        done = 0
        for frame in results:
            done += len(frame)
            cannot += int((frame["why"] != "").sum())
            if chosen:  # the best of the best so far and of this chunk
                kept = [_reduced(kept, frame, objectives, arguments)]
            elif sink:
                sink.add(frame)
            else:
                kept.append(frame)
            update(done)
    if kept:
        frame = pd.concat(kept, ignore_index=True)
        if objectives and arguments.top:
            frame = top(frame, arguments.top, arguments.by).reset_index(drop=True)
        if sink:
            sink.add(frame)
        else:
            _show(arguments, plan, frame, cannot)
    if sink:
        _tell(arguments, plan, sink, cannot)
    if cannot == plan.points:
        return 3
    return 0


def _reduced(
    kept: list[pd.DataFrame], frame: pd.DataFrame, objectives: list[str], arguments: argparse.Namespace
) -> pd.DataFrame:
    import pandas as pd

    both = pd.concat([*kept, frame], ignore_index=True)
    return pareto(both, objectives) if objectives else top(both, arguments.top, arguments.by)


@contextmanager
def _results(plan: SweepPlan, scheduler: str | None) -> Iterator[Iterator[pd.DataFrame]]:
    """Frames of all chunks, in order."""
    if scheduler is None:
        yield (plan.frame(start, stop) for start, stop in plan.chunks)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(f"--scheduler needs Dask ({error}); pip install 'codesign[dask]'") from error
    connect: Callable[..., Any] = Client  # Dask has no types
    try:
        client = connect(scheduler, timeout=30)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--scheduler {scheduler}: no scheduler answers ({error})") from error
    with client:
        whole = client.scatter(plan, broadcast=True)
        futures = [client.submit(SweepPlan.frame, whole, start, stop, retries=2) for start, stop in plan.chunks]
        yield (futures.pop(0).result() for _ in plan.chunks)


def _tell(arguments: argparse.Namespace, plan: SweepPlan, sink: Sink, cannot: int) -> None:
    sink.close()
    record = {
        "schema": "codesign.whatif/1",
        "points": plan.points,
        "rows": sink.rows,
        "cannot_run": cannot,
        "out": str(sink.path),
    }
    if arguments.json:
        print(json.dumps(record, indent=1))
    else:
        note = f"; {cannot} points cannot run, see column why" if cannot else ""
        print(f"{sink.path}: {sink.rows} of {plan.points} points{note}")


def _show(arguments: argparse.Namespace, plan: SweepPlan, frame: pd.DataFrame, cannot: int) -> None:
    if arguments.json:
        records = [
            {name: None if value != value else value for name, value in row.items()} for row in frame.to_dict("records")
        ]
        record = {"schema": "codesign.whatif/1", "points": plan.points, "cannot_run": cannot, "rows": records}
        print(json.dumps(record, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    keys = [axis.key for axis in plan.axes]
    for name in keys:
        table.add_column(name, justify="right", overflow="fold")
    for name in ("latency", "energy", "area", "traffic", "utilisation"):
        table.add_column(name, justify="right")
    for row in frame.head(SHOWN).to_dict("records"):
        table.add_row(*(_cell(row[key]) for key in keys), *_quantities(row))
    Console().print(table)
    more = len(frame) - SHOWN
    if more > 0:
        print(f"and {more} more; --top N, --pareto A,B, or --out FILE for all")
    if cannot:
        print(f"{cannot} of {plan.points} points cannot run")


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quantities(row: dict[Any, Any]) -> list[str]:
    if row["why"]:
        return [row["why"], "", "", "", ""]
    return [
        si(row["latency_s"], "s"),
        si(row["energy_j"], "J"),
        f"{row['area_um2'] / 1e6:.3g} mm²",
        si(row["traffic_bits"] / 8, "B"),
        f"{100 * row['utilisation']:.1f} %",
    ]
