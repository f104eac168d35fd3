"""One training run of a design point: train with all channels, cut, train on, all in the point's own formats."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.formats import FLOAT32, FloatFormat
from codesign.nn.checkpoint import Snapshot, load_snapshot, save_snapshot
from codesign.nn.lowp import convert, round_optimizer_state, strip
from codesign.nn.recipe import Training
from codesign.nn.train import Accuracy, Cost, TrainingData, evaluate, make_optimizer, train
from codesign.prune import channel_groups, l1_importance, plan_from_counts, prune


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run gave. `network` is the trained network, still converted; `cost` is that of this call."""

    accuracy: Accuracy
    cost: Cost
    diverged: bool
    network: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """A run that may be looked at early, and goes on from there.

    steps : where it may pause, rising; a fresh order of the images begins there whether or not it does, so that a run
        gives the same bits however often it pauses
    stop : where it ends now, one of `steps` or the last step
    snapshot : the file that it goes on from, if it exists, and that a pause leaves; a finished run removes it. Without
        one, every run begins at the beginning
    """

    steps: tuple[int, ...]
    stop: int
    snapshot: Path | None = None


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
    rungs: Rungs | None = None,
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
    ends = sorted({dense_steps, steps, *(rungs.steps if rungs else ())})
    stop = rungs.stop if rungs else steps
    if stop not in ends or ends[-1] > steps:
        raise ConfigError(f"a run of {steps} steps does not pause after {stop}; it may after {ends}")
    snapshot = rungs.snapshot if rungs else None
    paused = None
    if snapshot and snapshot.is_file():
        paused = load_snapshot(snapshot, build, training, torch.device("cpu"))
    if paused and paused.progress["step"] <= stop:
        network, generator, optimizer, begun = (
            paused.network,
            paused.generator,
            paused.optimizer,
            paused.progress["step"],
        )
        convert(network, point)
    else:
        network, generator, optimizer = _begin(build, training, seed)
        begun = 0
    total = Cost()
    finite = True
    for first, last in itertools.pairwise([0, *ends]):
        if not begun <= first < stop:
            continue
        if first == dense_steps and point.channels:
            strip(network)
            groups = channel_groups(network, data.train_images[:1])
            plan = plan_from_counts(network, groups, dict(point.channels), l1_importance(network))
            network = prune(network, plan, optimizer, inplace=True)
        convert(network, point)
        handles = _round_states(network, optimizer, point)
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
        for handle in handles:
            handle.remove()
        total.steps += cost.steps
        total.wall_s += cost.wall_s
        total.cpu_s += cost.cpu_s
        if not finite:
            break
    accuracy = evaluate(network, data)
    if snapshot and stop < steps and finite:
        strip(network)
        here = Snapshot(network=network, optimizer=optimizer, generator=generator, progress={"step": stop})
        save_snapshot(here, snapshot)
        convert(network, point)
    elif snapshot:
        snapshot.unlink(missing_ok=True)
    return Outcome(accuracy=accuracy, cost=total, diverged=not finite, network=network)


def _round_states(
    network: nn.Module, optimizer: torch.optim.Optimizer, point: DesignPoint
) -> list[torch.utils.hooks.RemovableHandle]:
    """Rounds momentum or moments of each layer to the format that the point gives them; master weights stay float32."""
    by_format: dict[FloatFormat, list[nn.Parameter]] = {}
    for name, module in network.named_modules():
        fmt = point.formats_of(name).optimizer_state
        if fmt != FLOAT32:
            by_format.setdefault(fmt, []).extend(module.parameters(recurse=False))
    return [round_optimizer_state(optimizer, fmt, parameters=mine) for fmt, mine in by_format.items()]


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
