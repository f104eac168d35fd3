"""One training with pruning stages, from its configuration to a run directory. A killed one goes on where it stood."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from codesign.config import dump
from codesign.cost import Optimizer, Stage, schedule_latency_s
from codesign.design import DesignPoint
from codesign.errors import ConfigError, ModelError, RunDirectoryError, located
from codesign.hardware import Accelerator, load_accelerator
from codesign.loop.apply import CONFIG, load_applied, save_applied
from codesign.loop.cut import cost_of_counts, find_structure, importance
from codesign.loop.laboratory import fresh_network, load_data, one_after_the_other
from codesign.loop.provenance import provenance
from codesign.loop.run import write
from codesign.loop.schedule import CutSettings, FormatSettings, TrainingSettings
from codesign.loop.settings import pipeline_of
from codesign.loop.space import DEFAULT
from codesign.nn.checkpoint import Snapshot, load_snapshot, save_snapshot
from codesign.nn.data import Dataset
from codesign.nn.lowp import convert, strip
from codesign.nn.train import TrainingData, evaluate, make_optimizer, train
from codesign.prune import channel_groups, plan_from_counts, prune
from codesign.search.log import locked
from codesign.workload import Workload

SCHEMA = "codesign.training/1"
CHECKPOINT, RESULT, MODEL = "checkpoint.safetensors", "training.json", "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing done in a stage, and how the network stood afterwards.

    stage : counted from 1
    action : "train", "find structure" or "prune"
    top1, top5 : share of test images; None where nothing about the network has changed
    macs : multiply-accumulates of one image's forward pass
    cpu_s, wall_s : on this machine, without the evaluation; simulated_s : on the accelerator
    """

    stage: int
    action: str
    epochs: float
    steps: int
    top1: float | None
    top5: float | None
    parameters: int
    macs: int
    cpu_s: float
    wall_s: float
    simulated_s: float


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a training has come: the stage under way, its optimizer steps, whether its cut is done."""

    stage: int = 0
    steps: int = 0
    cut: bool = False
    cpu_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A training that is ready to run. `workload` and `point` belong to the network as it is before any cut."""

    settings: TrainingSettings
    dataset: Dataset
    data: TrainingData
    accelerator: Accelerator
    workload: Workload
    point: DesignPoint
    device: torch.device

    @property
    def steps(self) -> list[int]:
        """Optimizer steps of each stage."""
        return [self.data.steps(stage.epochs, self.settings.training.batch) for stage in self.settings.stages]

    def build(self) -> nn.Module:
        """The network as it is before any cut."""
        return _network(self.settings, self.dataset)[0]

    def schedule(self, stage: int) -> tuple[int, int]:
        """Steps of the learning-rate schedule under way before this stage, and in all."""
        starts = [0, *(n for n, settings in enumerate(self.settings.stages) if n and settings.restart)]
        begin = max(n for n in starts if n <= stage)
        end = min((n for n in starts if n > stage), default=len(self.steps))
        return sum(self.steps[begin:stage]), sum(self.steps[begin:end])


def prepare_training(settings: TrainingSettings, where: str) -> Prepared:
    """Load what the configuration names. A mistake names its place in the file `where`."""
    with located(f"{where}: accelerator"):
        accelerator = load_accelerator(settings.accelerator)
    with located(f"{where}: device"):
        device = _device(settings.device)
    with located(f"{where}: data"):
        dataset, data = load_data(settings.data)
        if settings.training.batch > data.count:
            raise ConfigError(f"{data.count} training images are fewer than a batch of {settings.training.batch}")
    with located(f"{where}: {'network' if settings.network else 'start'}"):
        network, point = _network(settings, dataset)
        workload = Workload.from_torch(
            network,
            torch.zeros(1, *dataset.image_shape),
            batch=settings.training.batch,
            name=settings.network.name if settings.network else str(settings.start),
        )
    if any(stage.cut for stage in settings.stages):
        with located(f"{where}: stages: cut"):
            _check_cut(network, torch.zeros(1, *dataset.image_shape))
    if settings.formats is not None or point is None:
        chosen = settings.formats or FormatSettings()
        point = DesignPoint.of(
            default=DEFAULT, formats={layer: chosen.of(layer) for layer in {*workload.weight_layers, *chosen.layers}}
        )
    with located(f"{where}: formats"):
        convert(network, point)
    return Prepared(
        settings=settings,
        dataset=dataset,
        data=data.to(device),
        accelerator=accelerator,
        workload=workload,
        point=replace(point, channels=()),
        device=device,
    )


def _check_cut(network: nn.Module, example: torch.Tensor) -> None:
    """That there is something to cut, before anything is trained."""
    groups = channel_groups(network, example)
    if not groups.channels:
        reasons = "; ".join(f"'{', '.join(group.layers)}': {group.why_fixed}" for group in groups.groups)
        raise ModelError(f"no layer can lose channels: {reasons}")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"'{name}' cannot be used here ({str(error).splitlines()[0]}); use cpu") from error
    return device


def _network(settings: TrainingSettings, dataset: Dataset) -> tuple[nn.Module, DesignPoint | None]:
    if settings.start is not None:
        return load_applied(Path(settings.start))
    assert settings.network is not None  # checked by the settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return fresh_network(settings.network, dataset), None


def run_training(
    prepared: Prepared,
    directory: Path,
    *,
    fresh: bool = False,
    on_step: Callable[[int], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train, and write config.toml, provenance.json, training.json, stages.csv and the folder `model`.

    checkpoint.safetensors is written after every pass over the images and every cut; a run that finds one of the same
    configuration goes on from it. The folder `model` is what `codesign apply` writes: another training can start there.

    on_step : called with the optimizer steps done, of all stages; say : called with one line or table of news
    """
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        _claim(prepared, directory, fresh)
        run = _Run(prepared, directory / CHECKPOINT, on_step or (lambda _: None), say)
        with run.converted():
            for stage in range(run.progress.stage, len(prepared.steps)):
                run.do(stage)
        result = {
            "schema": SCHEMA,
            "title": prepared.settings.title,
            "accelerator": prepared.accelerator.name,
            "records": [asdict(record) for record in run.records],
            "structures": run.structures,
            "channels": dict(run.point.channels),
        }
        origin = _origin(prepared)
        save_applied(run.network, run.point, origin, directory / MODEL)
        write(directory / RESULT, json.dumps(result, indent=1) + "\n")
        write(directory / "stages.csv", pd.DataFrame([asdict(record) for record in run.records]).to_csv(index=False))
    return result


def _claim(prepared: Prepared, directory: Path, fresh: bool) -> None:
    """The directory is ours when it is empty, starts over, or holds the same configuration and the same data."""
    config, source = directory / CONFIG, directory / "provenance.json"
    text = dump(prepared.settings)
    if fresh:
        (directory / CHECKPOINT).unlink(missing_ok=True)
    elif config.is_file():
        same_data = source.is_file() and json.loads(source.read_text())["data (SHA-256)"] == prepared.dataset.sha256
        if config.read_text(encoding="utf-8") != text or not same_data:
            raise RunDirectoryError(
                f"{directory} holds a training of another configuration or of other data; name another --out, or "
                "start over with --fresh"
            )
        return
    made_with = provenance(seed=prepared.settings.seed, data_sha256=prepared.dataset.sha256)
    write(source, json.dumps(made_with, indent=1) + "\n")
    write(config, text)


def _origin(prepared: Prepared) -> str:
    """TOML with the tables from which the dense network is made."""
    settings = prepared.settings
    if settings.start is not None:
        return (Path(settings.start) / CONFIG).read_text(encoding="utf-8")
    return dump(settings)


class _Run:
    """A training under way: what changes with every step and cut."""

    def __init__(
        self, prepared: Prepared, checkpoint: Path, on_step: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        self.prepared, self.settings = prepared, prepared.settings
        self.checkpoint, self.on_step, self.say = checkpoint, on_step, say
        self.workload, self.point = prepared.workload, prepared.point
        self.optimizer_kind = Optimizer(self.settings.training.optimizer.value)
        self.transform = one_after_the_other(pipeline_of(self.settings.transforms))
        self.progress = Progress()
        self.records: list[Record] = []
        self.structures: list[dict[str, Any]] = []
        if checkpoint.is_file():
            self._resume()
            return
        self.network = prepared.build().to(prepared.device)
        self.optimizer = make_optimizer(self.network, self.settings.training)
        self.generator = torch.Generator().manual_seed(self.settings.seed)

    def _resume(self) -> None:
        prepared = self.prepared
        snapshot = load_snapshot(self.checkpoint, prepared.build, self.settings.training, prepared.device)
        self.network, self.optimizer, self.generator = snapshot.network, snapshot.optimizer, snapshot.generator
        held = snapshot.progress
        self.progress = Progress(**held["progress"])
        self.records = [Record(**record) for record in held["records"]]
        self.structures = held["structures"]
        self._keep(held["channels"])
        done = sum(prepared.steps[: self.progress.stage]) + self.progress.steps
        self.on_step(done)
        self.say(f"going on from {self.checkpoint}: {done} of {sum(prepared.steps)} steps are done")

    def _save(self) -> None:
        with self.stripped():
            save_snapshot(
                Snapshot(
                    network=self.network,
                    optimizer=self.optimizer,
                    generator=self.generator,
                    progress={
                        "progress": asdict(self.progress),
                        "records": [asdict(record) for record in self.records],
                        "structures": self.structures,
                        "channels": dict(self.point.channels),
                    },
                ),
                self.checkpoint,
            )

    @contextmanager
    def converted(self) -> Iterator[None]:
        """The network computes in its formats inside the block, in float32 after it."""
        convert(self.network, self.prepared.point)
        try:
            yield
        finally:
            strip(self.network)

    @contextmanager
    def stripped(self) -> Iterator[None]:
        """The network has plain float32 layers inside the block."""
        strip(self.network)
        yield
        convert(self.network, self.prepared.point)

    def _keep(self, channels: dict[str, int]) -> None:
        self.point = replace(self.point, channels=tuple(sorted(channels.items())))
        self.workload = self.prepared.workload.with_channels(channels)

    def do(self, stage: int) -> None:
        """The cut of a stage, if it has one and it is not done, and the rest of its steps."""
        cut = self.settings.stages[stage].cut
        if cut is not None and not self.progress.cut:
            with located(f"stages[{stage}]: cut"):
                self._cut(stage, cut)
            self.progress.cut = True
            self._save()
        steps, a_pass = self.prepared.steps[stage], self.prepared.data.count // self.settings.training.batch
        while self.progress.steps < steps:
            self._train(stage, min(steps - self.progress.steps, a_pass))
            if self.progress.steps < steps:
                self._save()
        progress = self.progress
        self._record(
            stage,
            "train",
            epochs=self.settings.stages[stage].epochs,
            steps=steps,
            cpu_s=progress.cpu_s,
            wall_s=progress.wall_s,
        )
        self.progress = Progress(stage=stage + 1)
        self._save()

    def _train(self, stage: int, steps: int) -> None:
        """At most one pass over the images."""
        before = sum(self.prepared.steps[:stage])
        first, total = self.prepared.schedule(stage)
        cost, finite = train(
            self.network,
            self.prepared.data,
            self.settings.training,
            steps=steps,
            generator=self.generator,
            optimizer=self.optimizer,
            first_step=first + self.progress.steps,
            total_steps=total,
            transform=self.transform,
            on_step=lambda step, _: self.on_step(before - first + step),
        )
        if not finite:
            raise ConfigError(
                f"stages[{stage}]: the loss is not finite after {before + self.progress.steps + cost.steps} steps; "
                "use a smaller learning_rate or formats with more bits, and start over with --fresh"
            )
        self.progress.steps += cost.steps
        self.progress.cpu_s += cost.cpu_s
        self.progress.wall_s += cost.wall_s

    def _cut(self, stage: int, settings: CutSettings) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        seed = self.settings.seed
        cost = cost_of_counts(self.workload, self.point, self.prepared.accelerator, self.optimizer_kind)
        with self.stripped():
            groups = channel_groups(self.network, self.prepared.data.train_images[:1])
            found = find_structure(
                self.network, groups, self.prepared.data.train_images, settings, seed, cost if settings.align else None
            )
        self._record(
            stage,
            "find structure",
            steps=-(-settings.images // self.settings.training.batch),
            cpu_s=time.process_time() - cpu,
            wall_s=time.perf_counter() - wall,
        )
        self.structures.append({"stage": stage + 1, **found.to_json()})
        self.say(str(found))
        cpu, wall = time.process_time(), time.perf_counter()
        with self.stripped():
            scores = importance(self.network, groups, settings.ranking, seed)
            plan = plan_from_counts(self.network, groups, found.counts, scores)
            self.network = prune(self.network, plan, self.optimizer, inplace=True)
        cost_s = time.process_time() - cpu, time.perf_counter() - wall
        for name, _ in plan.keep:
            if name not in self.workload.weight_layers:
                raise ModelError(f"layer '{name}' lost channels, but is priced as a part of another layer")
        self._keep(dict(self.point.channels) | {name: len(kept) for name, kept in plan.keep})
        for name, layer in self.workload.weight_layers.items():
            priced, left = layer.out_channels, plan.counts.get(name)
            if left not in (None, priced):
                raise ModelError(f"layer '{name}' keeps {left} channels, but would be priced with {priced}")
        self._record(stage, "prune", cpu_s=cost_s[0], wall_s=cost_s[1])

    def _record(
        self, stage: int, action: str, *, cpu_s: float, wall_s: float, epochs: float = 0.0, steps: int = 0
    ) -> None:
        """Note what was done. A structure search is a forward pass of `steps` batches; a cut costs no simulated time."""
        searching = action == "find structure"
        accuracy = None if searching else evaluate(self.network, self.prepared.data)
        part = Stage(
            workload=self.workload, point=replace(self.point, channels=()), steps=steps, forward_only=searching
        )
        record = Record(
            stage=stage + 1,
            action=action,
            epochs=epochs,
            steps=0 if searching else steps,
            top1=accuracy.top1 if accuracy else None,
            top5=accuracy.top5 if accuracy else None,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            macs=self.workload.macs,
            cpu_s=cpu_s,
            wall_s=wall_s,
            simulated_s=schedule_latency_s([part], self.prepared.accelerator, optimizer=self.optimizer_kind),
        )
        self.records.append(record)
