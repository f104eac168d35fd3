"""One training run with pruning stages, from its configuration to a run directory. A killed one goes on where it stood."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import nn

from codesign.config import dump
from codesign.design import DesignPoint
from codesign.errors import ConfigError, ModelError, RunDirectoryError, located
from codesign.hardware import Accelerator, load_accelerator
from codesign.nn import Dataset, convert
from codesign.prune import ChannelGroups, PrunePlan, channel_groups
from codesign.runs.export import CONFIG, load_applied, save_applied
from codesign.runs.provenance import provenance
from codesign.runs.pruning import cost_of_counts, find_structure, removal, sample
from codesign.runs.run_cost import PricedStage, latency_s_of
from codesign.runs.search_run import write
from codesign.runs.search_settings import pipeline_of
from codesign.runs.space import DEFAULT
from codesign.runs.trainer import Removal, Stage, Trainer, fresh_network, load_data, one_after_the_other
from codesign.runs.training_settings import CutSettings, FormatSettings, TrainingSettings
from codesign.search import locked
from codesign.workload import Workload

Action = Literal["train", "find structure", "prune"]
SCHEMA = "codesign.training/1"
CHECKPOINT, RESULT, MODEL = "checkpoint.safetensors", "training.json", "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing done in a stage, and how the network stood afterwards.

    stage : counted from 1
    top1, top5 : share of test images; None where nothing about the network has changed
    macs : multiply-accumulates of one image's forward pass
    cpu_s, wall_s : on this machine, without the evaluation; simulated_s : on the accelerator
    """

    stage: int
    action: Action
    epochs: float
    steps: int
    top1: float | None
    top5: float | None
    parameters: int
    macs: int
    cpu_s: float
    wall_s: float
    simulated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedTraining:
    """A training run that is ready. `workload` and `point` belong to the network as it is before any cut."""

    settings: TrainingSettings
    dataset: Dataset
    trainer: Trainer
    accelerator: Accelerator
    workload: Workload
    point: DesignPoint
    device: torch.device

    @property
    def steps(self) -> list[int]:
        """Optimizer steps of each stage."""
        return [self.trainer.steps(stage.epochs) for stage in self.settings.stages]

    def build(self) -> nn.Module:
        """The network as it is before any cut."""
        return _network(self.settings, self.dataset)[0]

    def schedule(self, stage: int) -> tuple[int, int]:
        """Steps of the learning-rate schedule under way before this stage, and in all."""
        begin = self._begin(stage)
        end = next((n for n in range(stage + 1, len(self.steps)) if self._begin(n) == n), len(self.steps))
        return sum(self.steps[begin:stage]), sum(self.steps[begin:end])

    def learning_rate(self, stage: int) -> float | None:
        """Highest learning rate of the schedule under way, where it is not that of the recipe."""
        return self.settings.stages[self._begin(stage)].learning_rate

    def _begin(self, stage: int) -> int:
        """The stage with which the schedule under way began."""
        return max(n for n in range(stage + 1) if n == 0 or self.settings.stages[n].restart)


def prepare_training(settings: TrainingSettings, where: str) -> PreparedTraining:
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
    return PreparedTraining(
        settings=settings,
        dataset=dataset,
        trainer=Trainer(
            images=data.to(device),
            recipe=settings.training,
            transform=one_after_the_other(pipeline_of(settings.transforms)),
        ),
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
    return fresh_network(settings.network, dataset, settings.seed), None


def run_training(
    prepared: PreparedTraining,
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
        run = _Stages(prepared, directory / CHECKPOINT, on_step or (lambda _: None), say)
        run.finish()
        result = {
            "schema": SCHEMA,
            "title": prepared.settings.title,
            "accelerator": prepared.accelerator.name,
            "records": [asdict(record) for record in run.records],
            "structures": run.structures,
            "channels": dict(run.point.channels),
        }
        origin = _origin(prepared)
        with run.run.state.plain() as network:
            save_applied(network, run.point, origin, directory / MODEL)
        write(directory / RESULT, json.dumps(result, indent=1) + "\n")
        write(directory / "stages.csv", pd.DataFrame([asdict(record) for record in run.records]).to_csv(index=False))
    return result


def _claim(prepared: PreparedTraining, directory: Path, fresh: bool) -> None:
    """The directory is ours when it is empty, starts over, or holds the same configuration and the same data."""
    config, source = directory / CONFIG, directory / "provenance.json"
    text = dump(prepared.settings)
    if fresh:
        (directory / CHECKPOINT).unlink(missing_ok=True)
    elif config.is_file():
        same_data = source.is_file() and json.loads(source.read_text())["data (SHA-256)"] == prepared.dataset.sha256
        if config.read_text(encoding="utf-8") != text or not same_data:
            raise RunDirectoryError(
                f"{directory} holds a training run of another configuration or of other data; name another --out, or "
                "start over with --fresh"
            )
        return
    made_with = provenance(seed=prepared.settings.seed, data_sha256=prepared.dataset.sha256)
    write(source, json.dumps(made_with, indent=1) + "\n")
    write(config, text)


def _origin(prepared: PreparedTraining) -> str:
    """TOML with the tables from which the dense network is made."""
    settings = prepared.settings
    if settings.start is not None:
        return (Path(settings.start) / CONFIG).read_text(encoding="utf-8")
    return dump(settings)


class _Stages:
    """A training run under way, with a record of everything that was done."""

    def __init__(
        self, prepared: PreparedTraining, checkpoint: Path, on_step: Callable[[int], None], say: Callable[[str], None]
    ) -> None:
        self.prepared, self.settings, self.trainer = prepared, prepared.settings, prepared.trainer
        self.checkpoint, self.on_step, self.say = checkpoint, on_step, say
        self.point = prepared.point
        self.records: list[Record] = []
        self.structures: list[dict[str, Any]] = []
        if checkpoint.is_file():
            self._resume()
            return
        network = prepared.build().to(prepared.device)
        self.run = self.trainer.begin(network, seed=self.settings.seed, formats=prepared.point)

    @property
    def workload(self) -> Workload:
        """The network as it stands."""
        return self.prepared.workload.with_channels(dict(self.point.channels))

    def _resume(self) -> None:
        prepared = self.prepared
        self.run, held = self.trainer.resume(self.checkpoint, prepared.build, formats=prepared.point)
        self.records = [Record(**record) for record in held["records"]]
        self.structures = held["structures"]
        self._keep(held["channels"])
        done = sum(prepared.steps[: self.run.position.stage]) + self.run.position.steps
        self.on_step(done)
        self.say(f"going on from {self.checkpoint}: {done} of {sum(prepared.steps)} steps are done")

    def _save(self) -> None:
        self.trainer.save(
            self.run,
            self.checkpoint,
            records=[asdict(record) for record in self.records],
            structures=self.structures,
            channels=dict(self.point.channels),
        )

    def _keep(self, channels: Mapping[str, int]) -> None:
        self.point = replace(self.point, channels=tuple(sorted(channels.items())))

    def finish(self) -> None:
        """Everything that is still to be done, with a checkpoint after every part."""
        for part in self.trainer.train(self.run, self._stages(), self.on_step):
            if part.plan is not None:
                before = self.point
                self._check(part.plan)
                found = self.records[-1]  # the structure search before this cut, which is a part of its effort
                cpu_s, wall_s = part.effort.cpu_s - found.cpu_s, part.effort.wall_s - found.wall_s
                priced = []
                if part.rebuilt is not None:
                    self.structures[-1]["rebuilt"] = part.rebuilt.to_json()
                    self.say(str(part.rebuilt))
                    batches = self._batches(part.stage)  # through the dense network twice, through the smaller one once
                    priced = [
                        PricedStage(point=before, steps=2 * batches, sampling=True),
                        PricedStage(point=self.point, steps=batches, sampling=True),
                    ]
                self._record(part.stage, "prune", priced, cpu_s=cpu_s, wall_s=wall_s)
            position = self.run.position
            if not part.finite:
                done = sum(self.prepared.steps[: part.stage]) + position.steps
                raise ConfigError(
                    f"stages[{part.stage}]: the loss is not finite after {done} steps; use a smaller learning_rate or "
                    "formats with more bits, and start over with --fresh"
                )
            if part.ended:
                priced = [PricedStage(point=self.point, steps=position.steps)]
                self._record(part.stage, "train", priced, cpu_s=position.cpu_s, wall_s=position.wall_s)
            self._save()

    def _stages(self) -> list[Stage]:
        stages = []
        for number, settings in enumerate(self.settings.stages):
            first, total = self.prepared.schedule(number)
            cut = None if settings.cut is None else partial(self._cut, number, settings.cut)
            stages.append(
                Stage(
                    steps=self.prepared.steps[number],
                    first=first,
                    total=total,
                    cut=cut,
                    learning_rate=self.prepared.learning_rate(number),
                )
            )
        return stages

    def _cut(self, stage: int, settings: CutSettings, network: nn.Module, groups: ChannelGroups) -> Removal:
        """Find the structure, and choose the channels."""
        cpu, wall = time.process_time(), time.perf_counter()
        images, seed = self.trainer.images.train_images, self.settings.seed
        cost = None
        if settings.align:
            optimizer = self.settings.training.optimizer
            cost = cost_of_counts(self.workload, self.point, self.prepared.accelerator, optimizer)
        with located(f"stages[{stage}]: cut"):
            found = find_structure(network, groups, images, settings, seed, cost)
        self._record(
            stage,
            "find structure",
            [PricedStage(point=self.point, steps=self._batches(stage), sampling=True)],
            cpu_s=time.process_time() - cpu,
            wall_s=time.perf_counter() - wall,
        )
        self.structures.append({"stage": stage + 1, **found.to_json()})
        self.say(str(found))
        with located(f"stages[{stage}]: cut"):
            looked_at = sample(images, settings, seed)
            return removal(network, groups, found.counts, settings.ranked_by, looked_at, seed)

    def _check(self, plan: PrunePlan) -> None:
        """Note the channels that a cut has left, which are to be those that are priced."""
        for name, _ in plan.keep:
            if name not in self.prepared.workload.weight_layers:
                raise ModelError(f"layer '{name}' lost channels, but is priced as a part of another layer")
        self._keep(dict(self.point.channels) | {name: len(kept) for name, kept in plan.keep})
        workload = self.workload
        for name, layer in workload.weight_layers.items():
            priced, left = layer.out_channels, plan.counts.get(name)
            if left not in (None, priced):
                raise ModelError(f"layer '{name}' keeps {left} channels, but would be priced with {priced}")

    def _batches(self, stage: int) -> int:
        """Batches of the images that the cut before a stage looks at."""
        cut = self.settings.stages[stage].cut
        assert cut is not None
        return -(-cut.images // self.settings.training.batch)

    def _record(
        self, stage: int, action: Action, priced: Sequence[PricedStage], *, cpu_s: float, wall_s: float
    ) -> None:
        """Note what was done, and what of it runs on the accelerator."""
        accuracy = None if action == "find structure" else self.trainer.measure(self.run.network)
        workload = self.workload
        optimizer = self.settings.training.optimizer
        record = Record(
            stage=stage + 1,
            action=action,
            epochs=self.settings.stages[stage].epochs if action == "train" else 0.0,
            steps=sum(stage.steps for stage in priced if not stage.sampling),
            top1=accuracy.top1 if accuracy else None,
            top5=accuracy.top5 if accuracy else None,
            parameters=sum(parameter.numel() for parameter in self.run.network.parameters()),
            macs=workload.macs,
            cpu_s=cpu_s,
            wall_s=wall_s,
            simulated_s=latency_s_of(priced, self.prepared.workload, self.prepared.accelerator, optimizer),
        )
        self.records.append(record)
