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
from codesign.cost import Optimizer
from codesign.errors import ConfigError, located
from codesign.hardware import load_accelerator
from codesign.loop.document import document
from codesign.loop.hardware import HardwareLoop, Machine, machines_of, rows_of, to_csv
from codesign.loop.laboratory import Laboratory
from codesign.loop.pricing import Pricing
from codesign.loop.provenance import provenance
from codesign.loop.settings import Settings
from codesign.loop.space import baseline_points, channel_levels, layer_costs, search_space
from codesign.report import render
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
class Prepared:
    """A search that is ready to run."""

    settings: Settings
    laboratory: Laboratory
    pricing: Pricing
    space: Space
    machines: tuple[Machine, ...]


def prepare(settings: Settings, where: str) -> Prepared:
    """Load what the configuration names and find the channel levels. A mistake names its place in the file `where`."""
    torch.set_num_threads(1)
    with located(f"{where}: search"):
        checked_ladder(settings.search.ladder)
    with located(f"{where}: accelerator"):
        accelerator = load_accelerator(settings.accelerator)
    laboratory = Laboratory(settings=settings)
    with located(f"{where}: data"):
        example = torch.zeros(1, *laboratory.dataset.image_shape)
    with located(f"{where}: search"):
        _check_rungs(laboratory)
    with located(f"{where}: network"):
        workload = Workload.from_torch(
            laboratory.build(), example, batch=settings.training.batch, name=settings.network.name
        )
    pricing = Pricing(
        workload=workload,
        accelerator=accelerator,
        optimizer=Optimizer(settings.training.optimizer.value),
        dense_steps=laboratory.dense_steps,
        steps=laboratory.steps,
        structure_images=0 if settings.space.keep else settings.space.structure_images,
    )
    machines: tuple[Machine, ...] = ()
    if settings.hardware is not None:
        with located(f"{where}: hardware"):
            baselines = baseline_points(workload, settings.space)
            machines = machines_of(pricing, settings.hardware, settings.limits, baselines)
    with located(f"{where}: training"):
        levels = channel_levels(laboratory, workload)
    space = search_space(workload, levels, settings.space)
    return Prepared(settings=settings, laboratory=laboratory, pricing=pricing, space=space, machines=machines)


def _check_rungs(laboratory: Laboratory) -> None:
    steps = [laboratory.dense_steps, *laboratory.rungs(), laboratory.steps]
    if len(steps) > 2 and any(a >= b for a, b in itertools.pairwise(steps)):
        raise ConfigError(
            f"ladder: its rungs are {steps[1:-1]} of {steps[-1]} steps; they must rise, and lie after the cut at step "
            f"{steps[0]}: before it no design has lost a channel"
        )


def run_search(
    prepared: Prepared,
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
    settings, pricing = prepared.settings, prepared.pricing
    baselines = baseline_points(pricing.workload, settings.space)
    loop = None
    if settings.hardware is not None:
        loop = HardwareLoop(
            machines=prepared.machines,
            space=prepared.space,
            limits=settings.limits,
            baselines=baselines,
            trainings=settings.hardware.trainings,
        )
    layers = layer_costs(pricing, prepared.space)
    made_with = provenance(seed=settings.search.seed, data_sha256=prepared.laboratory.dataset.sha256)
    identity = {name: value for name, value in asdict(settings).items() if name not in ("title", "search", "hardware")}
    identity |= {"data_sha256": prepared.laboratory.dataset.sha256, "C sources": native.source_sha256()}
    paused = directory / "paused"
    with TrialLog(directory, fresh=fresh) as log:
        if fresh:
            shutil.rmtree(paused, ignore_errors=True)
        laboratory = prepared.laboratory
        if len(settings.search.ladder) > 1:
            paused.mkdir(exist_ok=True)
            laboratory = replace(laboratory, paused=paused.resolve())
        if on_resume is not None:
            on_resume(sum(trial.trainings for trial in log.trials))
        limits = {name: getattr(settings.limits, name) for name in pricing.metrics()}
        result = search(
            prepared.space,
            Objective(
                latency=pricing.latency_s,
                accuracy=laboratory.accuracy,
                layer_latency=layers["latency_s"],
                metrics={n: Metric(cost=cost, layer_cost=layers.get(n)) for n, cost in pricing.metrics().items()},
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
        run = _document(prepared, method, result, made_with) | {"hardware": rows}
        write(directory / "run.json", json.dumps(run, indent=1) + "\n")
        write(directory / "report.html", render(run))
    return result


def _document(prepared: Prepared, method: Method, result: SearchResult, made_with: dict[str, Any]) -> dict[str, Any]:
    settings = prepared.settings
    return document(
        title=settings.title,
        network=settings.network.name,
        data=settings.data.name,
        method=method,
        baselines=baseline_points(prepared.pricing.workload, settings.space),
        result=result,
        pricing=prepared.pricing,
        provenance=made_with,
    )


def write(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
