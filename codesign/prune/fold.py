"""Constants that cut channels would go on firing, moved into the layers that read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from codesign.errors import ModelError
from codesign.network import call, evaluating
from codesign.prune.groups import ChannelGroups
from codesign.prune.plan import PrunePlan
from codesign.prune.slicing import Undo

Layer = _ConvNd | nn.Linear


def fold_constants_of(model: nn.Module, plan: PrunePlan, undo: Undo) -> None:
    """Add to each layer that reads cut channels what they contribute once their filters are zero.

    With its filter at zero, a channel carries what its bias, batch norm and activation make of zero: a constant. It is
    measured by running the network so on the example: the median over positions, which a border does not move.
    """
    groups = plan.groups
    gone = groups.gone(plan.removed)
    modules = _layers(model, groups)
    readers = {name: _columns(groups, name, module, gone) for name, module in modules.items()}
    readers = {name: columns for name, columns in readers.items() if len(columns) and not _depthwise(modules[name])}
    shifts: dict[str, torch.Tensor] = {}

    def measure(name: str, module: Layer, inputs: tuple[Any, ...]) -> None:
        if name in shifts:
            raise ModelError(f"layer '{name}' runs more than once, so one bias cannot hold its constants; do not fold")
        x = inputs[0]
        channels_last = x.movedim(1, -1) if isinstance(module, _ConvNd) else x
        constants = torch.zeros(channels_last.shape[-1], dtype=x.dtype, device=x.device)
        columns = torch.from_numpy(readers[name]).to(x.device)
        constants[columns] = channels_last.flatten(0, -2).median(0).values[columns]
        shifts[name] = _contribution(module, constants, x)

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_silenced(plan, modules))
        for name in readers:
            hook = modules[name].register_forward_pre_hook(partial(measure, name))
            stack.callback(hook.remove)
        call(model, groups.reading.example)
    for name, shift in shifts.items():
        _add(model, groups, name, shift, undo)


def _layers(model: nn.Module, groups: ChannelGroups) -> dict[str, Layer]:
    """Every layer's module, which must be one with a weight of its own."""
    found: dict[str, Layer] = {}
    modules = dict(model.named_modules())
    for name in groups.layers:
        module = modules.get(name)
        if not isinstance(module, (_ConvNd, nn.Linear)) or f"{name}.weight" not in groups.stored:
            raise ModelError(f"layer '{name}' is not a plain convolution or linear module; do not fold constants here")
        found[name] = module
    return found


def _columns(groups: ChannelGroups, name: str, module: Layer, gone: np.ndarray) -> np.ndarray:
    """Input channels of a layer that leave."""
    along = groups.stored[f"{name}.weight"].atoms[0 if isinstance(module, _ConvTransposeNd) else 1]
    repeat = 1 if isinstance(module, (nn.Linear, _ConvTransposeNd)) else module.groups
    return np.flatnonzero(np.tile(gone[along], repeat))


def _contribution(module: Layer, constants: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What a layer makes of constant inputs [in]: one value per output, away from any zero-padded border."""
    if isinstance(module, _ConvTransposeNd):  # differs from place to place with the stride: the mean over them
        held = constants.reshape(-1, *(1 for _ in x.shape[2:])).expand(x.shape[1:])[None]
        change: torch.Tensor = module.forward(held) - module.forward(torch.zeros_like(held))
        return change.flatten(2).mean((0, 2))
    groups = module.groups if isinstance(module, _ConvNd) else 1
    weight = module.weight.flatten(2).sum(2) if module.weight.ndim > 2 else module.weight
    return (torch.unflatten(weight, 0, (groups, -1)) @ constants.reshape(groups, -1, 1)).flatten()


@contextmanager
def _silenced(plan: PrunePlan, modules: Mapping[str, Layer]) -> Iterator[None]:
    """Filters and biases of the channels that leave are zero for a while."""
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    gone = plan.groups.gone(plan.removed)
    for name, _ in plan.keep:
        module, rows = modules[name], torch.from_numpy(np.flatnonzero(gone[plan.groups.layers[name]]))
        before += [(tensor, tensor.detach().clone()) for tensor in (module.weight, module.bias) if tensor is not None]
        if isinstance(module, _ConvTransposeNd):  # [in, out / groups, ...]
            per_group = module.weight.shape[1]
            torch.unflatten(module.weight, 0, (module.groups, -1))[rows // per_group, :, rows % per_group] = 0
        else:
            module.weight[rows] = 0
        if module.bias is not None:
            module.bias[rows] = 0
    try:
        yield
    finally:
        for tensor, old in before:
            tensor.copy_(old)


def _add(model: nn.Module, groups: ChannelGroups, name: str, shift: torch.Tensor, undo: Undo) -> None:
    """Move a constant into the bias of a layer, or into the batch norm behind it."""
    held, sign = model.get_submodule(name).bias, 1
    if held is None:
        behind = groups.findings.norm_after.get(int(groups.layers[name][0]))
        norm = None if behind is None else model.get_submodule(behind)
        if not isinstance(norm, _BatchNorm):
            raise ModelError(
                f"layer '{name}' has no bias and no batch norm behind it to take the constants of channels it loses; "
                "give it a bias, or do not fold"
            )
        held, sign = norm.running_mean, -1
        if held is None:
            return  # it subtracts the mean of every batch, constants included
    assert isinstance(held, torch.Tensor)
    undo.append(partial(held.data.copy_, held.detach().clone()))
    with torch.no_grad():
        held.add_(sign * shift)


def _depthwise(module: Layer) -> bool:
    """Whether an input channel leaves with its outputs, so that nothing is left to read a constant."""
    return isinstance(module, _ConvNd) and module.groups == module.in_channels > 1
