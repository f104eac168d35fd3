"""One stage of a training run: a network in its formats, its optimizer, some steps of the schedule, one evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import assert_never

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.formats import FLOAT32, FloatFormat
from codesign.nn.augment import crop_and_flip
from codesign.nn.data import Dataset
from codesign.nn.lowp import Formats, convert, round_optimizer_state, strip
from codesign.nn.recipe import MOMENTUM, Recipe
from codesign.optimizers import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """A data set as normalised tensors (zero mean, unit variance per channel over the training images).

    mean, deviation : what was taken off and divided by, float32 [1, channels, 1, 1]
    """

    train_images: torch.Tensor  # float32 [count, channels, height, width]
    train_labels: torch.Tensor  # int64 [count]
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: int
    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, dataset: Dataset, *, train_count: int | None = None, test_count: int | None = None) -> TrainingData:
        """The first `train_count` and `test_count` images (all, if None)."""
        for name, count, there in (
            ("train_images", train_count, len(dataset.train_images)),
            ("test_images", test_count, len(dataset.test_images)),
        ):
            if count is not None and not 1 <= count <= there:
                raise ConfigError(f"{name} must be 1 to {there}, the images of '{dataset.name}', got {count}")
        train, test = dataset.train_images[:train_count], dataset.test_images[:test_count]
        mean = train.mean(axis=(0, 2, 3), dtype=np.float64).reshape(1, -1, 1, 1)
        deviation = np.maximum(train.std(axis=(0, 2, 3), dtype=np.float64), 1e-6).reshape(1, -1, 1, 1)
        return cls(
            train_images=torch.from_numpy(((train - mean) / deviation).astype(np.float32)),
            train_labels=torch.from_numpy(dataset.train_labels[:train_count]),
            test_images=torch.from_numpy(((test - mean) / deviation).astype(np.float32)),
            test_labels=torch.from_numpy(dataset.test_labels[:test_count]),
            classes=dataset.classes,
            mean=torch.from_numpy(mean.astype(np.float32)),
            deviation=torch.from_numpy(deviation.astype(np.float32)),
        )

    def to(self, device: torch.device) -> TrainingData:
        """The same images on a device."""
        tensors = {
            field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "classes"
        }
        return replace(self, **tensors)

    @property
    def count(self) -> int:
        """Training images."""
        return len(self.train_labels)

    def steps(self, epochs: float, batch: int) -> int:
        """Optimizer steps in `epochs` passes; the last, incomplete batch of a pass is left out."""
        return max(1, round(epochs * (self.count // batch))) if epochs > 0 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Result of one evaluation on the test images."""

    top1: float  # share of test images, 0 .. 1
    top5: float
    loss: float  # mean cross-entropy, nats
    count: int

    @property
    def standard_error(self) -> float:
        """Of `top1`, from the finite number of test images (binomial, with one pseudo-count each way)."""
        share = (self.top1 * self.count + 1) / (self.count + 2)
        return math.sqrt(share * (1 - share) / self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a piece of a training run took on this machine: optimizer steps and seconds."""

    steps: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        return Effort(steps=self.steps + other.steps, wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Optimizer steps `first` to `last` of a learning-rate schedule of `total` steps."""

    first: int
    last: int
    total: int


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """A network in the course of its training: all that changes from step to step.

    network : computes in `formats`, but inside `plain`
    generator : order of the images still to come
    formats : of the layers; None: float32 everywhere
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    formats: Formats | None = None

    @classmethod
    def begin(cls, network: nn.Module, recipe: Recipe, *, seed: int, formats: Formats | None = None) -> TrainingState:
        """Before the first step. seed : of the order of the images and of what a transform draws."""
        if formats is not None:
            convert(network, formats)
        return cls(
            network=network,
            optimizer=make_optimizer(network, recipe),
            generator=torch.Generator().manual_seed(seed),
            formats=formats,
        )

    @contextmanager
    def plain(self) -> Iterator[nn.Module]:
        """The network with float32 layers, as it may be cut, saved and analysed. Formats with a memory begin it anew."""
        strip(self.network)
        yield self.network
        if self.formats is not None:
            convert(self.network, self.formats)

    @contextmanager
    def rounded_optimizer(self) -> Iterator[None]:
        """Momentum or moments of each layer are rounded to the format that a design gives them; master weights are not."""
        by_format: dict[FloatFormat, list[nn.Parameter]] = {}
        if isinstance(self.formats, DesignPoint):
            for name, module in self.network.named_modules():
                fmt = self.formats.formats_of(name).optimizer_state
                if fmt != FLOAT32:
                    by_format.setdefault(fmt, []).extend(module.parameters(recurse=False))
        handles = [round_optimizer_state(self.optimizer, fmt, parameters=own) for fmt, own in by_format.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def batches(data: TrainingData, batch: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Index tensors of `steps` batches: a fresh permutation for every pass, incomplete batches left out."""
    if batch > data.count:
        raise ConfigError(f"batch {batch} is larger than the {data.count} training images; use a smaller batch")
    done = 0
    while done < steps:
        order = torch.randperm(data.count, generator=generator)
        for start in range(0, data.count - batch + 1, batch):
            if done == steps:
                return
            yield order[start : start + batch]
            done += 1


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer over all parameters; vectors (biases, batch norm) get no weight decay."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    match recipe.optimizer:
        case Optimizer.SGD:
            return torch.optim.SGD(groups, lr=recipe.learning_rate)
        case Optimizer.MOMENTUM:
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM, nesterov=True)
        case Optimizer.ADAM:
            return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    assert_never(recipe.optimizer)


def train(
    state: TrainingState,
    data: TrainingData,
    recipe: Recipe,
    span: Span,
    *,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[Effort, bool]:
    """Train the network of `state` in place over `span`; return what it took and whether the loss stayed finite.

    A loss that is not finite ends the training at once.

    transform : applied to each batch of training images, with pixel values in [0, 1] as in the data set; what it draws
        from torch's default generator is a function of the generator's seed and of the step alone
    on_step : called with (step of the schedule, loss) after each step
    """
    network, generator, optimizer = state.network, state.generator, state.optimizer
    network.train()
    wall, cpu = time.perf_counter(), time.process_time()
    finite, step = True, span.first
    with state.rounded_optimizer():
        for index in batches(data, recipe.batch, span.last - span.first, generator):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step, span.total)
            images = data.train_images[index]
            if transform:
                images = _transformed(images, data, transform, (generator.initial_seed(), step))
            if recipe.crop_and_flip:
                images = crop_and_flip(images, recipe.crop_and_flip, generator)
            loss = functional.cross_entropy(network(images), data.train_labels[index])
            value = loss.item()
            if not math.isfinite(value):
                finite = False
                break
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            if on_step:
                on_step(step, value)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    return Effort(steps=step - span.first, wall_s=wall_s, cpu_s=cpu_s), finite


def _transformed(
    images: torch.Tensor,
    data: TrainingData,
    transform: Callable[[torch.Tensor], torch.Tensor],
    seeds: tuple[int, int],
) -> torch.Tensor:
    """Normalised `images` as `transform`, which filters on the CPU, leaves them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        pixels = transform((images * data.deviation + data.mean).cpu()).to(images.device)
        return (pixels - data.mean) / data.deviation


@torch.no_grad()
def evaluate(network: nn.Module, data: TrainingData, *, batch: int = 500) -> Accuracy:
    """Accuracy on the test images, in evaluation mode; the mode before is restored."""
    was_training = network.training
    network.eval()
    right = right5 = 0
    loss = 0.0
    for start in range(0, len(data.test_labels), batch):
        labels = data.test_labels[start : start + batch]
        logits = network(data.test_images[start : start + batch])
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        finite = torch.isfinite(logits).all(dim=1)
        right += int((ranked[:, 0] & finite).sum())
        right5 += int((ranked.any(dim=1) & finite).sum())
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    network.train(was_training)
    count = len(data.test_labels)
    return Accuracy(top1=right / count, top5=right5 / count, loss=loss / count, count=count)
