"""Run a network without leaving a trace on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import ParametrizationList


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for every module; afterwards each is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """Training mode, except that norms use their running statistics; all that modules hold stays what it was.

    A norm in training mode would refuse maps of one pixel and change its statistics; so would a parametrization.
    """
    modes = {module: module.training for module in model.modules()}
    held = [
        (tensor, tensor.clone())
        for module in model.modules()
        for tensor in (*module._buffers.values(), *vars(module).values())
        if isinstance(tensor, torch.Tensor) and not tensor.is_meta
    ]
    model.train()
    for module in model.modules():
        if isinstance(module, (_NormBase, ParametrizationList)):
            module.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for tensor, before in held:
                if not torch.equal(tensor, before):
                    tensor.copy_(before)


@contextmanager
def chance_kept() -> Iterator[None]:
    """Draws inside start from a seed of their own; afterwards the generators are where they were."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (what a network may draw from)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Norms may run on batch statistics, but their running statistics stay what they are."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase) and module.running_mean is not None]
    momenta = [module.momentum for module in norms]
    counters = [(module.num_batches_tracked, int(module.num_batches_tracked or 0)) for module in norms]
    for module in norms:
        module.momentum = 0.0  # running = (1 - momentum) * running + momentum * batch
    try:
        yield
    finally:
        with torch.no_grad():
            for module, momentum, (counter, steps) in zip(norms, momenta, counters, strict=True):
                module.momentum = momentum
                if counter is not None:
                    counter.fill_(steps)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, except that batch norms use the statistics of the batch; running statistics stay."""
    with evaluating(model), statistics_kept(model):
        for module in model.modules():
            if isinstance(module, _NormBase):
                module.training = True
        yield
