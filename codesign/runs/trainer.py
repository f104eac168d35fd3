"""Where designs are trained: data, network and recipe of a configuration, loaded once per process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from codesign.design import DesignPoint
from codesign.runs.search_settings import DataSettings, NetworkSettings, Settings
from codesign.nn.data import Dataset, load
from codesign.nn.networks import build
from codesign.nn.run import Outcome, Rungs, run_point
from codesign.nn.train import TrainingData
from codesign.preprocess import Transform
from codesign.search import Measurement


@lru_cache(maxsize=2)
def load_data(settings: DataSettings) -> tuple[Dataset, TrainingData]:
    """The images as they were read, and as a network sees them."""
    dataset = load(settings.name, settings.folder)
    data = TrainingData.of(dataset, train_count=settings.train_images, test_count=settings.test_images)
    return dataset, data


def one_after_the_other(pipeline: Sequence[Transform]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Transforms as one function; None where there are none."""

    def apply(images: torch.Tensor) -> torch.Tensor:
        for transform in pipeline:
            images = transform(images)
        return images

    return apply if pipeline else None


def fresh_network(settings: NetworkSettings, dataset: Dataset) -> nn.Module:
    """The network of a configuration for the images of a data set, initialised from torch's global generator."""
    return build(settings.name, dataset.image_shape, dataset.classes, width=settings.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Trains designs by the recipe of one configuration. Small, and can be sent to a worker.

    paused : folder of trainings that ended on a rung of the ladder, if there is one; a worker that does not see it trains
        from the start
    """

    settings: Settings
    paused: Path | None = None

    @property
    def dataset(self) -> Dataset:
        """The images as they were read."""
        return load_data(self.settings.data)[0]

    @property
    def data(self) -> TrainingData:
        """The images as the network sees them."""
        return load_data(self.settings.data)[1]

    @property
    def steps(self) -> int:
        """Optimizer steps of a run."""
        schedule = self.settings.schedule
        return self.data.steps(schedule.dense_epochs + schedule.pruned_epochs, self.settings.training.batch)

    @property
    def dense_steps(self) -> int:
        """Optimizer steps before the cut."""
        return self.data.steps(self.settings.schedule.dense_epochs, self.settings.training.batch)

    def build(self) -> nn.Module:
        """A fresh network."""
        return fresh_network(self.settings.network, self.dataset)

    @property
    def transform(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """What the training images of a batch pass through; None: nothing."""
        return one_after_the_other(self.settings.pipeline())

    def rungs(self) -> list[int]:
        """Steps after which a training may pause, one for each rung of the ladder below 1."""
        return [round(fidelity * self.steps) for fidelity in self.settings.search.ladder[:-1]]

    def run(
        self,
        point: DesignPoint,
        seed: int,
        fidelity: float = 1.0,
        on_step: Callable[[int, float], None] | None = None,
    ) -> Outcome:
        """One training run, on one thread so that every machine and any number of workers give the same bits.

        fidelity : share of the run, a rung of the ladder
        """
        torch.set_num_threads(1)
        file = None
        if self.paused is not None:
            name = hashlib.sha256(json.dumps([point.to_json(), seed], sort_keys=True).encode()).hexdigest()[:24]
            file = self.paused / f"{name}.safetensors"
        return run_point(
            point,
            build=self.build,
            data=self.data,
            training=self.settings.training,
            dense_steps=self.dense_steps,
            steps=self.steps,
            seed=seed,
            transform=self.transform,
            on_step=on_step,
            rungs=Rungs(steps=tuple(self.rungs()), stop=round(fidelity * self.steps), snapshot=file),
        )

    def accuracy(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement:
        """The measurement that a search asks for."""
        outcome = self.run(point, seed, fidelity)
        return Measurement(
            accuracy=outcome.accuracy.top1,
            standard_error=outcome.accuracy.standard_error,
            wall_s=outcome.cost.wall_s,
            cpu_s=outcome.cost.cpu_s,
            diverged=outcome.diverged,
        )
