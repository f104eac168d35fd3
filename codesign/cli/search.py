"""`codesign search`: the co-design loop, from a configuration to a run directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from codesign.cli.progress import TrainingProgress
from codesign.errors import ConfigError

METHODS = ("dp", "nsga2", "tpe", "random")
PARTIAL = 4  # exit status: some training runs failed


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser("search", help="find the shortest training run for an accuracy", description=__doc__)
    command.add_argument("config", metavar="CONFIG", help="a .toml file, such as configs/searches/digits.toml")
    command.add_argument("--out", metavar="RUN", type=Path, help="run directory (default runs/<name of CONFIG>)")
    command.add_argument("--workers", metavar="N", type=int, default=1, help="training processes (default 1)")
    command.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler, tcp://host:8786")
    command.add_argument("--method", choices=METHODS, default="dp", help="how designs are proposed (default dp)")
    command.add_argument("--dry-run", action="store_true", help="check everything, say how large the search is, stop")
    command.add_argument("--fresh", action="store_true", help="discard what RUN holds; the default is to go on from it")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_search)


def _search(arguments: argparse.Namespace) -> int:
    from codesign.runs import load_settings

    settings = load_settings(arguments.config)
    if arguments.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {arguments.workers}")
    from codesign.runs import kept_whole, prepare, run_search, training_processes  # imports torch, which takes seconds
    from codesign.search import Method

    beyond = settings.hardware.trainings if settings.hardware is not None else 0
    progress = TrainingProgress("training runs", settings.search.trainings + beyond)
    prepared = prepare(settings, arguments.config)
    space = prepared.space
    progress.say(
        f"{settings.title}: {len(space.groups)} channel groups, {len(space.layers)} layers, 10^{space.log10_designs:.1f} designs; "
        f"{settings.search.trainings} training runs of {prepared.designs.steps} steps"
    )
    if prepared.machines:
        progress.say(
            f"then {len(prepared.machines)} machines, and up to {beyond} training runs of what is best on one of them"
        )
    if arguments.dry_run:
        if arguments.json:
            print(json.dumps({"schema": "codesign.search-plan/1", "space": space.to_json()}, indent=1))
        else:
            for group in space.groups:
                print(f"{group.name:24} channels {', '.join(map(str, group.levels))}")
            workload = prepared.run_cost.workload
            for name, why in kept_whole(workload).items():
                print(f"{name:24} channels {workload.channel_groups[name].channels}, fixed: {why}")
        return 0
    directory = arguments.out or Path("runs") / Path(arguments.config).stem
    with training_processes(arguments.workers, arguments.scheduler) as evaluate, progress:
        result = run_search(
            prepared,
            directory,
            method=Method(arguments.method),
            fresh=arguments.fresh,
            evaluate=evaluate,
            on_trial=progress.trial,
            on_resume=progress.resumed,
        )
    run = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    if arguments.json:
        print((directory / "front.json").read_text(encoding="utf-8"), end="")
    else:
        _print_front(run)
        if run["hardware"]:
            _print_machines(run)
    for note in result.notes:
        progress.say(f"note: {note}")
    progress.say(
        f"{result.trainings:g} training runs, {result.training_cpu_s:.0f} CPU s; search itself {result.own_cpu_s:.1f} CPU s; "
        f"report: {directory / 'report.html'}"
    )
    return PARTIAL if run["failed"] else 0


def _print_front(run: dict[str, Any]) -> None:
    base = next(p for p in run["points"] if p["label"] == run["reference"])
    print(f"{'design':>12}  {'training s':>11}  {'speed-up':>8}  {'accuracy %':>16}  {'bits':>5}  {'parameters':>10}")
    for p in sorted(run["points"], key=lambda p: p["latency_s"]):
        if not (p["leading"] or p["kind"] == "baseline"):
            continue
        name = p["label"] or f"trial {p['trial']}"
        margin = 50 * (p["accuracy_high"] - p["accuracy_low"])
        print(
            f"{name:>12}  {p['latency_s']:11.4g}  {base['latency_s'] / p['latency_s']:7.2f}x  "
            f"{100 * p['accuracy']:8.2f} ± {margin:5.2f}  {p['mean_bits']:5.1f}  {p['parameters']:10,}"
            f"{'  uniform' if p['kind'] == 'baseline' else ''}"
        )
    print(run["headline"])


def _print_machines(run: dict[str, Any]) -> None:
    """Machines that none of at most their area beats."""
    leading = [row for row in run["hardware"] if row["leading"]]
    keys = list(leading[0])[: list(leading[0]).index("area_um2")] if leading else []
    widths = [max(12, len(key)) for key in keys]
    print(f"\nOf {len(run['hardware'])} machines, those that none of at most their area beats:")
    heads = "  ".join(f"{key:>{width}}" for key, width in zip(keys, widths, strict=True))
    print(f"{heads}  {'area mm2':>9}  {'training s':>11}  {'accuracy %':>10}  {'design':>10}")
    for row in leading:
        values = "  ".join(f"{row[key]!s:>{width}}" for key, width in zip(keys, widths, strict=True))
        print(
            f"{values}  {row['area_um2'] / 1e6:9.4g}  {row['latency_s']:11.4g}  {100 * row['accuracy']:10.2f}  "
            f"{'trial ' + str(row['trial']):>10}"
        )
