"""One training run of a design point: train with all channels, cut, train on, all in the point's own formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.nn.lowp import convert, strip
from codesign.nn.recipe import Training
from codesign.nn.train import Accuracy, Cost, TrainingData, evaluate, make_optimizer, train
from codesign.prune import channel_groups, l1_importance, plan_from_counts, prune


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave. `network` is the trained network, still converted."""

    accuracy: Accuracy
    cost: Cost
    diverged: bool
    network: nn.Module


def run_point(
    point: DesignPoint,
    *,
    build: Callable[[], nn.Module],
    data: TrainingData,
    training: Training,
    dense_steps: int,
    steps: int,
    seed: int,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Train `point` from scratch and measure it on the test images.

    The learning-rate schedule runs over all `steps` and across the cut; momentum and moments of kept channels stay. The
    channels that stay are those of the largest L1 norm of the filters as trained so far. A point that keeps every
    channel trains without a cut. The same arguments give the same bits on the same machine.

    build : makes a fresh network, initialised from torch's global generator
    dense_steps, steps : steps before the cut, and in all
    seed : of initialisation, of the order of the images and of the transform
    transform : of the training images, see `train`
    """
    if not 0 < dense_steps < steps:
        raise ConfigError(f"a cut after {dense_steps} of {steps} steps is not inside the run")
    network, generator, optimizer = _begin(build, training, seed)
    total = Cost()
    finite = True
    for first, last in ((0, dense_steps), (dense_steps, steps)):
        if first and point.channels:
            strip(network)
            groups = channel_groups(network, data.train_images[:1])
            plan = plan_from_counts(network, groups, dict(point.channels), l1_importance(network))
            network = prune(network, plan, optimizer, inplace=True)
        convert(network, point)
        cost, finite = train(
            network,
            data,
            training,
            steps=last - first,
            generator=generator,
            optimizer=optimizer,
            first_step=first,
            total_steps=steps,
            transform=transform,
            on_step=on_step,
        )
        total.steps += cost.steps
        total.wall_s += cost.wall_s
        total.cpu_s += cost.cpu_s
        if not finite:
            break
    return Outcome(accuracy=evaluate(network, data), cost=total, diverged=not finite, network=network)


def run_dense(
    *,
    build: Callable[[], nn.Module],
    data: TrainingData,
    training: Training,
    dense_steps: int,
    steps: int,
    seed: int,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> nn.Module:
    """The network as it is just before the cut of a float32 run: trained `dense_steps` of `steps`."""
    network, generator, optimizer = _begin(build, training, seed)
    _, finite = train(
        network,
        data,
        training,
        steps=dense_steps,
        generator=generator,
        optimizer=optimizer,
        total_steps=steps,
        transform=transform,
    )
    if not finite:
        raise ConfigError(f"float32 diverges at learning_rate {training.learning_rate:g}; use a smaller one")
    return network


def _begin(
    build: Callable[[], nn.Module], training: Training, seed: int
) -> tuple[nn.Module, torch.Generator, torch.optim.Optimizer]:
    """A fresh network, the order of its images, its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
    return network, torch.Generator().manual_seed(seed), make_optimizer(network, training)
