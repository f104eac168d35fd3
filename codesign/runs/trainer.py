"""The trainer: trains, cuts and trains on, stage by stage. A search, `codesign train` and every experiment run on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import nn

from codesign.nn import (
    Accuracy,
    Dataset,
    Effort,
    Formats,
    Recipe,
    Span,
    TrainingData,
    TrainingState,
    build,
    evaluate,
    load_checkpoint,
    load_dataset,
    save_checkpoint,
    train,
)
from codesign.preprocess import Transform
from codesign.prune import ChannelGroups, PrunePlan, Reconstruction, channel_groups, prune, reconstruct
from codesign.runs.search_settings import DataSettings, NetworkSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What a cut does.

    plan : which channels stay
    rebuild_from : batches of images on which the layers that read the others learn to do without them; None: what those
        carried is dropped
    """

    plan: PrunePlan
    rebuild_from: Sequence[torch.Tensor] | None = None


# From a network in float32 as trained so far, and its channel groups: what leaves.
Cut = Callable[[nn.Module, ChannelGroups], Removal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A cut, if any, and then training.

    steps : optimizer steps after the cut
    first, total : steps of the learning-rate schedule before this stage, and in all
    learning_rate : highest of the schedule; None: that of the recipe
    """

    steps: int
    first: int
    total: int
    cut: Cut | None = None
    learning_rate: float | None = None


@dataclass(slots=True, kw_only=True)
class Position:
    """How far a training run has come.

    stage : under way, from 0; steps : done in it; cut : whether its cut is done
    cpu_s, wall_s : what the steps of this stage have taken
    """

    stage: int = 0
    steps: int = 0
    cut: bool = False
    cpu_s: float = 0.0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a stage: its cut, or at most one pass over the images.

    effort : of a cut, with what it took to find the plan
    plan : of the cut; None if this part trained
    rebuilt : how the layers behind a cut were given other weights; None if they were not
    finite : whether the loss stayed finite; if not, the run ends with this part
    ended : whether the stage ends with this part
    """

    stage: int
    effort: Effort
    plan: PrunePlan | None = None
    rebuilt: Reconstruction | None = None
    finite: bool = True
    ended: bool = False


@dataclass(slots=True, kw_only=True)
class TrainingRun:
    """A network in training, and where it stands."""

    state: TrainingState
    position: Position = field(default_factory=Position)

    @property
    def network(self) -> nn.Module:
        """The network, in its formats."""
        return self.state.network


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """Trains networks on the images of one data set by one recipe.

    transform : what the training images of a batch pass through; None: nothing
    """

    images: TrainingData
    recipe: Recipe
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None

    def steps(self, epochs: float) -> int:
        """Optimizer steps of `epochs` passes over the images."""
        return self.images.steps(epochs, self.recipe.batch)

    def begin(self, network: nn.Module, *, seed: int, formats: Formats | None = None) -> TrainingRun:
        """Before the first step. seed : of the order of the images and of the transform; formats : float32 if None."""
        return TrainingRun(state=TrainingState.begin(network, self.recipe, seed=seed, formats=formats))

    def save(self, run: TrainingRun, path: Path, **more: Any) -> None:
        """Write a checkpoint, between two parts of a run. more : plain JSON that `resume` hands back."""
        save_checkpoint(run.state, {"position": asdict(run.position), **more}, path)

    def resume(
        self, path: Path, build: Callable[[], nn.Module], *, formats: Formats | None = None
    ) -> tuple[TrainingRun, dict[str, Any]]:
        """The run of a checkpoint, and what was saved with it. build : makes the network as it was before any cut."""
        device = self.images.train_images.device
        state, progress = load_checkpoint(path, build, self.recipe, formats, device)
        return TrainingRun(state=state, position=Position(**progress.pop("position"))), progress

    def train(
        self, run: TrainingRun, stages: Sequence[Stage], on_step: Callable[[int], None] | None = None
    ) -> Iterator[Part]:
        """Take a run from where it stands through the stages, part by part; momentum and moments of what stays go on.

        Between two parts the run may be saved, measured or left. A run that goes on from a checkpoint, on the same
        machine, gives the same bits as one that was never interrupted.

        on_step : called with the optimizer steps done, of all stages
        """
        a_pass = self.images.count // self.recipe.batch
        for number in range(run.position.stage, len(stages)):
            stage = stages[number]
            if number > run.position.stage:
                run.position = Position(stage=number)
            position = run.position
            if stage.cut is not None and not position.cut:
                part = self._cut(run, number, stage.cut)
                position.cut = True
                yield part
            before = sum(done.steps for done in stages[:number]) - stage.first
            recipe = self.recipe
            if stage.learning_rate is not None:
                recipe = replace(recipe, learning_rate=stage.learning_rate)
            report = None if on_step is None else lambda step, _, before=before: on_step(before + step)
            while position.steps < stage.steps:
                first = stage.first + position.steps
                span = Span(
                    first=first, last=first + min(stage.steps - position.steps, max(a_pass, 1)), total=stage.total
                )
                effort, finite = train(run.state, self.images, recipe, span, transform=self.transform, on_step=report)
                position.steps += effort.steps
                position.cpu_s += effort.cpu_s
                position.wall_s += effort.wall_s
                ended = not finite or position.steps == stage.steps
                yield Part(stage=number, effort=effort, finite=finite, ended=ended)
                if not finite:
                    return

    def _cut(self, run: TrainingRun, stage: int, cut: Cut) -> Part:
        wall, cpu = perf_counter(), process_time()
        rebuilt = None
        with run.state.plain() as network:
            removal = cut(network, channel_groups(network, self.images.train_images[:1]))
            dense = network if removal.rebuild_from is None else copy.deepcopy(network)
            run.state.network = prune(network, removal.plan, run.state.optimizer, inplace=True)
            if removal.rebuild_from is not None:
                rebuilt = reconstruct(dense, run.state.network, removal.plan, removal.rebuild_from)
        effort = Effort(wall_s=perf_counter() - wall, cpu_s=process_time() - cpu)
        return Part(stage=stage, effort=effort, plan=removal.plan, rebuilt=rebuilt)

    def measure(self, network: nn.Module) -> Accuracy:
        """On the test images."""
        return evaluate(network, self.images)


@lru_cache(maxsize=2)
def load_data(settings: DataSettings) -> tuple[Dataset, TrainingData]:
    """The images as they were read, and as a network sees them."""
    dataset = load_dataset(settings.name, settings.folder)
    data = TrainingData.of(dataset, train_count=settings.train_images, test_count=settings.test_images)
    return dataset, data


def one_after_the_other(pipeline: Sequence[Transform]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Transforms as one function; None if there are none."""

    def apply(images: torch.Tensor) -> torch.Tensor:
        for transform in pipeline:
            images = transform(images)
        return images

    return apply if pipeline else None


def fresh_network(settings: NetworkSettings, dataset: Dataset, seed: int) -> nn.Module:
    """The network of a configuration for the images of a data set, with the weights that this seed gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(settings.name, dataset.image_shape, dataset.classes, width=settings.width)
