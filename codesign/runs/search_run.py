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
from codesign.optimizers import Optimizer
from codesign.errors import ConfigError, located
from codesign.hardware import load_accelerator
from codesign.runs.report_data import document
from codesign.runs.machines import HardwareLoop, Machine, machines_of, rows_of, to_csv
from codesign.runs.trainer import Trainer
from codesign.runs.run_cost import RunCost
from codesign.runs.provenance import provenance
from codesign.runs.search_settings import Settings
from codesign.runs.space import baseline_points, channel_levels, layer_costs, search_space
from codesign.report import render
from codesign.search import Budget, Metric, SearchResult, Space, Trial, TrialLog, search
from codesign.search.run import Evaluate, checked_ladder
from codesign.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A search that is ready to run."""

    settings: Settings
    trainer: Trainer
    run_cost: RunCost
    space: Space
    machines: tuple[Machine, ...]


def prepare(settings: Settings, where: str) -> Prepared:
    """Load what the configuration names and find the channel levels. A mistake names its place in the file `where`."""
    torch.set_num_threads(1)
    with located(f"{where}: search"):
        checked_ladder(settings.search.ladder)
    with located(f"{where}: accelerator"):
        accelerator = load_accelerator(settings.accelerator)
    trainer = Trainer(settings=settings)
    with located(f"{where}: data"):
        example = torch.zeros(1, *trainer.dataset.image_shape)
    with located(f"{where}: search"):
        _check_rungs(trainer)
    with located(f"{where}: network"):
        workload = Workload.from_torch(
            trainer.build(), example, batch=settings.training.batch, name=settings.network.name
        )
    run_cost = RunCost(
        workload=workload,
        accelerator=accelerator,
        optimizer=settings.training.optimizer,
        dense_steps=trainer.dense_steps,
        steps=trainer.steps,
        structure_images=0 if settings.space.keep else settings.space.structure_images,
    )
    machines: tuple[Machine, ...] = ()
    if settings.hardware is not None:
        with located(f"{where}: hardware"):
            baselines = baseline_points(workload, settings.space)
            machines = machines_of(run_cost, settings.hardware, settings.limits, baselines)
    with located(f"{where}: training"):
        levels = channel_levels(trainer, workload)
    space = search_space(workload, levels, settings.space)
    return Prepared(settings=settings, trainer=trainer, run_cost=run_cost, space=space, machines=machines)


def _check_rungs(trainer: Trainer) -> None:
    steps = [trainer.dense_steps, *trainer.rungs(), trainer.steps]
    if len(steps) > 2 and any(a >= b for a, b in itertools.pairwise(steps)):
        raise ConfigError(
            f"ladder: its rungs are {steps[1:-1]} of {steps[-1]} steps; they must rise, and lie after the cut at step "
            f"{steps[0]}: before it no design has lost a channel"
        )


def run_search(
    prepared: Prepared,
    directory: Path,
    *,
    method: str,
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
    made_with = provenance(seed=settings.search.seed, data_sha256=prepared.trainer.dataset.sha256)
    identity = {name: value for name, value in asdict(settings).items() if name not in ("title", "search", "hardware")}
    identity |= {"data_sha256": prepared.trainer.dataset.sha256, "C sources": native.source_sha256()}
    paused = directory / "paused"
    with TrialLog(directory, fresh=fresh) as log:
        if fresh:
            shutil.rmtree(paused, ignore_errors=True)
        trainer = prepared.trainer
        if len(settings.search.ladder) > 1:
            paused.mkdir(exist_ok=True)
            trainer = replace(trainer, paused=paused.resolve())
        if on_resume is not None:
            on_resume(sum(trial.trainings for trial in log.trials))
        result = search(
            prepared.space,
            latency=run_cost.latency_s,
            accuracy=trainer.accuracy,
            budget=Budget(trainings=settings.search.trainings),
            method=method,
            seed=settings.search.seed,
            ladder=settings.search.ladder,
            layer_latency=layers["latency_s"],
            metrics={
                name: Metric(cost=cost, limit=getattr(settings.limits, name), layer_cost=layers.get(name))
                for name, cost in run_cost.metrics().items()
            },
            accuracy_floor=settings.limits.accuracy,
            latency_limit_s=settings.limits.latency_s,
            baselines=baselines,
            further=None if loop is None else loop.ideas,
            log=log,
            identity=identity,
            evaluate=evaluate,
            on_trial=on_trial,
        )
        write(directory / "config.toml", dump(settings))
        write(directory / "provenance.json", json.dumps(made_with, indent=1) + "\n")
        write(directory / "front.json", result.front.to_json())
        write(directory / "front.csv", result.front.to_csv())
        rows: list[dict[str, Any]] = []
        if loop is not None:
            rows = rows_of(loop.verdicts(result.trials), list(baselines)[-1])
            write(directory / "hardware.csv", to_csv(rows))
        run = _document(prepared, method, result, made_with) | {"hardware": rows}
        write(directory / "run.json", json.dumps(run, indent=1) + "\n")
        write(directory / "report.html", render(run))
    return result


def _document(prepared: Prepared, method: str, result: SearchResult, made_with: dict[str, Any]) -> dict[str, Any]:
    settings = prepared.settings
    return document(
        title=settings.title,
        network=settings.network.name,
        data=settings.data.name,
        method=method,
        baselines=baseline_points(prepared.run_cost.workload, settings.space),
        result=result,
        run_cost=prepared.run_cost,
        provenance=made_with,
    )


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
