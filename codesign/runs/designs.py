"""Designs of a search in training: all channels first, the cut, then the rest, all in the design's own formats."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.nn import Accuracy, Dataset, Effort
from codesign.prune import ChannelGroups, l1_importance, plan_from_counts
from codesign.runs.search_settings import Settings
from codesign.runs.trainer import Removal, Stage, Trainer, fresh_network, load_data, one_after_the_other
from codesign.search import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What training a design gave. `network` is the trained network, in its formats; `effort` is that of this call."""

    accuracy: Accuracy
    effort: Effort
    diverged: bool
    network: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Designs:
    """Trains designs by the schedule of one configuration. Small, and can be sent to a worker.

    paused : folder of training runs that ended on a rung of the ladder, if there is one; a worker that does not see it
        trains from the start
    """

    settings: Settings
    paused: Path | None = None

    @property
    def dataset(self) -> Dataset:
        """The images as they were read."""
        return load_data(self.settings.data)[0]

    @property
    def trainer(self) -> Trainer:
        """The recipe, with the images as the network sees them."""
        return Trainer(
            images=load_data(self.settings.data)[1],
            recipe=self.settings.training,
            transform=one_after_the_other(self.settings.pipeline()),
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of a run."""
        schedule = self.settings.schedule
        return self.trainer.steps(schedule.dense_epochs + schedule.pruned_epochs)

    @property
    def dense_steps(self) -> int:
        """Optimizer steps before the cut."""
        return self.trainer.steps(self.settings.schedule.dense_epochs)

    @property
    def rungs(self) -> list[int]:
        """Steps after which a training run may pause, one for each rung of the ladder below 1."""
        return [round(fidelity * self.steps) for fidelity in self.settings.search.ladder[:-1]]

    def fresh(self, seed: int) -> nn.Module:
        """A network with the weights that this seed gives."""
        return fresh_network(self.settings.network, self.dataset, seed)

    def dense_network(self) -> nn.Module:
        """The network as it is just before the cut of a float32 run with the seed of the search."""
        seed, trainer = self.settings.search.seed, self.trainer
        run = trainer.begin(self.fresh(seed), seed=seed)
        stage = Stage(steps=self.dense_steps, first=0, total=self.steps)
        if not all(part.finite for part in trainer.train(run, [stage])):
            rate = self.settings.training.learning_rate
            raise ConfigError(f"float32 diverges at learning_rate {rate:g}; use a smaller one")
        return run.network

    def stages(self, point: DesignPoint) -> list[Stage]:
        """The run of a design. A stage ends at the cut and on every rung, where a fresh order of the images begins.

        The learning-rate schedule runs over all stages. The channels that stay are those of the largest L1 norm of the
        filters as trained so far. A design that keeps every channel trains without a cut.
        """
        if not 0 < self.dense_steps < self.steps:
            raise ConfigError(f"a cut after {self.dense_steps} of {self.steps} steps is not inside the run")

        def cut(network: nn.Module, groups: ChannelGroups) -> Removal:
            return Removal(plan=plan_from_counts(network, groups, dict(point.channels), l1_importance(network)))

        ends = [0, *sorted({self.dense_steps, *self.rungs, self.steps})]
        return [
            Stage(
                steps=last - first,
                first=first,
                total=self.steps,
                cut=cut if point.channels and first == self.dense_steps else None,
            )
            for first, last in itertools.pairwise(ends)
        ]

    def train(
        self, point: DesignPoint, seed: int, fidelity: float = 1.0, on_step: Callable[[int], None] | None = None
    ) -> Outcome:
        """One training run, on one thread so that every machine and any number of workers give the same bits.

        seed : of the weights, of the order of the images and of the transforms
        fidelity : share of the run, a rung of the ladder; a run that paused on an earlier rung goes on from there
        """
        torch.set_num_threads(1)
        trainer, stages, stop = self.trainer, self.stages(point), round(fidelity * self.steps)
        ends = [stage.first + stage.steps for stage in stages]
        if stop not in ends:
            raise ConfigError(f"a training run does not pause after {stop}; it may after {ends}")
        file, run = self._file(point, seed), None
        if file is not None and file.is_file():
            run, _ = trainer.resume(file, lambda: self.fresh(seed), formats=point)
            done = sum(stage.steps for stage in stages[: run.position.stage]) + run.position.steps
            run = run if done <= stop else None
        if run is None:
            run = trainer.begin(self.fresh(seed), seed=seed, formats=point)
        effort, finite = Effort(), True
        for part in trainer.train(run, stages[: ends.index(stop) + 1], on_step):
            if part.plan is None:
                effort += part.effort
            finite = part.finite
        accuracy = trainer.measure(run.network)
        if file is not None and stop < self.steps and finite:
            trainer.save(run, file)
        elif file is not None:
            file.unlink(missing_ok=True)
        return Outcome(accuracy=accuracy, effort=effort, diverged=not finite, network=run.network)

    def _file(self, point: DesignPoint, seed: int) -> Path | None:
        """Where a run that pauses is kept."""
        if self.paused is None:
            return None
        name = hashlib.sha256(json.dumps([point.to_json(), seed], sort_keys=True).encode()).hexdigest()[:24]
        return self.paused / f"{name}.safetensors"

    def accuracy(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement:
        """The measurement that a search asks for."""
        outcome = self.train(point, seed, fidelity)
        return Measurement(
            accuracy=outcome.accuracy.top1,
            standard_error=outcome.accuracy.standard_error,
            wall_s=outcome.effort.wall_s,
            cpu_s=outcome.effort.cpu_s,
            diverged=outcome.diverged,
        )
