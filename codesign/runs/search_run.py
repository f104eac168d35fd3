"""One search from configuration to run directory. Resumes whatever the directory holds of the same configuration."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from codesign import native
from codesign.config import dump
from codesign.errors import ConfigError, located
from codesign.hardware import load_accelerator
from codesign.report import render
from codesign.runs.designs import Designs
from codesign.runs.machines import HardwareLoop, Machine, machines_of, rows_of, to_csv
from codesign.runs.provenance import provenance
from codesign.runs.report_data import report_data
from codesign.runs.run_cost import RunCost
from codesign.runs.search_settings import Settings
from codesign.runs.space import baseline_points, channel_levels, layer_costs, search_space
from codesign.search import (
    Budget,
    Evaluate,
    Execution,
    Limits,
    Method,
    Metric,
    Objective,
    Schedule,
    SearchResult,
    Space,
    Trial,
    TrialLog,
    checked_ladder,
    search,
)
from codesign.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSearch:
    """A search that is ready to run."""

    settings: Settings
    designs: Designs
    run_cost: RunCost
    space: Space
    machines: tuple[Machine, ...]


def prepare(settings: Settings, where: str) -> PreparedSearch:
    """Load what the configuration names and find the channel levels. A mistake names its place in the file `where`."""
    torch.set_num_threads(1)
    with located(f"{where}: search"):
        checked_ladder(settings.search.ladder)
    with located(f"{where}: accelerator"):
        accelerator = load_accelerator(settings.accelerator)
    designs = Designs(settings=settings)
    with located(f"{where}: data"):
        example = torch.zeros(1, *designs.dataset.image_shape)
    with located(f"{where}: search"):
        _check_rungs(designs)
    with located(f"{where}: network"):
        workload = Workload.from_torch(
            designs.fresh(settings.search.seed), example, batch=settings.training.batch, name=settings.network.name
        )
    run_cost = RunCost(
        workload=workload,
        accelerator=accelerator,
        optimizer=settings.training.optimizer,
        dense_steps=designs.dense_steps,
        steps=designs.steps,
        structure_images=0 if settings.space.keep else settings.space.structure_images,
    )
    machines: tuple[Machine, ...] = ()
    if settings.hardware is not None:
        with located(f"{where}: hardware"):
            baselines = baseline_points(workload, settings.space)
            machines = machines_of(run_cost, settings.hardware, settings.limits, baselines)
    with located(f"{where}: training"):
        levels = channel_levels(designs, workload)
    space = search_space(workload, levels, settings.space)
    return PreparedSearch(settings=settings, designs=designs, run_cost=run_cost, space=space, machines=machines)


def _check_rungs(designs: Designs) -> None:
    steps = [designs.dense_steps, *designs.rungs, designs.steps]
    if len(steps) > 2 and any(a >= b for a, b in itertools.pairwise(steps)):
        raise ConfigError(
            f"ladder: its rungs are {steps[1:-1]} of {steps[-1]} steps; they must rise, and lie after the cut at step "
            f"{steps[0]}: before it no design has lost a channel"
        )


def run_search(
    prepared: PreparedSearch,
    directory: Path,
    *,
    method: Method,
    fresh: bool,
    evaluate: Evaluate = map,
    on_trial: Callable[[Trial], None] | None = None,
    on_resume: Callable[[float], None] | None = None,
) -> SearchResult:
    """Search, and write config.toml, provenance.json, trials.jsonl, front.json, front.csv, report.html, and hardware.csv
    where machines are varied."""
    settings, run_cost = prepared.settings, prepared.run_cost
    baselines = baseline_points(run_cost.workload, settings.space)
    loop = None
    if settings.hardware is not None:
        loop = HardwareLoop(
            machines=prepared.machines,
            space=prepared.space,
            limits=settings.limits,
            baselines=baselines,
            trainings=settings.hardware.trainings,
        )
    layers = layer_costs(run_cost, prepared.space)
    made_with = provenance(seed=settings.search.seed, data_sha256=prepared.designs.dataset.sha256)
    identity = {name: value for name, value in asdict(settings).items() if name not in ("title", "search", "hardware")}
    identity |= {"data_sha256": prepared.designs.dataset.sha256, "C sources": native.source_sha256()}
    paused = directory / "paused"
    with TrialLog(directory, fresh=fresh) as log:
        if fresh:
            shutil.rmtree(paused, ignore_errors=True)
        designs = prepared.designs
        if len(settings.search.ladder) > 1:
            paused.mkdir(exist_ok=True)
            designs = replace(designs, paused=paused.resolve())
        if on_resume is not None:
            on_resume(sum(trial.trainings for trial in log.trials))
        limits = {name: getattr(settings.limits, name) for name in run_cost.metrics()}
        result = search(
            prepared.space,
            Objective(
                latency=run_cost.latency_s,
                accuracy=designs.accuracy,
                layer_latency=layers["latency_s"],
                metrics={n: Metric(cost=cost, layer_cost=layers.get(n)) for n, cost in run_cost.metrics().items()},
            ),
            Schedule(
                budget=Budget(trainings=settings.search.trainings),
                method=method,
                seed=settings.search.seed,
                ladder=settings.search.ladder,
                baselines=baselines,
            ),
            Limits(
                accuracy_floor=settings.limits.accuracy,
                latency_s=settings.limits.latency_s,
                metrics={name: limit for name, limit in limits.items() if limit is not None},
            ),
            Execution(
                log=log,
                identity=identity,
                evaluate=evaluate,
                on_trial=on_trial,
                further=None if loop is None else loop.ideas,
            ),
        )
        write(directory / "config.toml", dump(settings))
        write(directory / "provenance.json", json.dumps(made_with, indent=1) + "\n")
        write(directory / "front.json", result.front.to_json())
        write(directory / "front.csv", result.front.to_csv())
        rows: list[dict[str, Any]] = []
        if loop is not None:
            rows = rows_of(loop.verdicts(result.trials), list(baselines)[-1])
            write(directory / "hardware.csv", to_csv(rows))
        run = report_data(settings, method, result, run_cost, baselines, made_with) | {"hardware": rows}
        write(directory / "run.json", json.dumps(run, indent=1) + "\n")
        write(directory / "report.html", render(run))
    return result


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
