"""Cutting tensors, and everything that has the shape of one: gradients, optimizer moments, master weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from codesign.errors import ModelError

Kept = Sequence[np.ndarray]
Undo = list[Callable[[], object]]


def cut(tensor: torch.Tensor, kept: Kept) -> torch.Tensor:
    """The given indices of every dimension; a copy with the same order of dimensions in memory."""
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for d, indices in enumerate(kept):
            if len(indices) < tensor.shape[d]:
                tensor = tensor.index_select(d, torch.from_numpy(indices).to(tensor.device))
        return tensor.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def replace_data(tensor: torch.Tensor, data: torch.Tensor, gradient: torch.Tensor | None, undo: Undo) -> None:
    """Give a tensor other contents of another shape; whoever holds it (an optimizer, a tied layer) sees the change."""
    old, old_gradient = tensor.data, tensor.grad

    def put(value: torch.Tensor, grad: torch.Tensor | None) -> None:
        tensor.grad = None
        # A change of type makes autograd forget the node that accumulates this gradient. That node remembers the old
        # shape and lives on while a loss of an earlier step does; the next backward pass would fail in it.
        tensor.data = torch.empty(0, dtype=torch.float16 if value.dtype != torch.float16 else torch.float32).to(
            value.device
        )
        tensor.data = value
        tensor.grad = grad

    undo.append(lambda: put(old, old_gradient))
    put(data, gradient)


def cut_optimizer(
    optimizer: torch.optim.Optimizer, named: Mapping[str, torch.Tensor], kept: Mapping[str, Kept], undo: Undo
) -> None:
    """Cut the state of every parameter: what has the parameter's old shape is cut as the parameter is.

    Call it before the parameters themselves are cut.
    """
    names = {id(tensor): name for name, tensor in named.items()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(parameter) in names for parameter in held):
        raise ModelError(
            "the optimizer holds no parameter of this network; make the optimizer from the network you prune"
        )
    for parameter in held:
        name = names.get(id(parameter))
        if name is not None and name in kept and parameter in optimizer.state:
            state = optimizer.state[parameter]
            undo.append(partial(state.update, dict(state)))
            state.update({key: _cut_state(name, key, value, parameter, kept[name]) for key, value in state.items()})


def _cut_state(name: str, key: str, value: Any, parameter: torch.Tensor, kept: Kept) -> Any:
    if value is None or isinstance(value, (int, float, str, bool)):
        return value
    if isinstance(value, torch.Tensor):
        if value.shape == parameter.shape:
            return cut(value, kept)
        if value.numel() <= 1:
            return value
    shape = f"of shape {list(value.shape)}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
    raise ModelError(
        f"optimizer state '{key}' of parameter '{name}' is {shape}, not {list(parameter.shape)} as the "
        "parameter, so it cannot be cut; prune without the optimizer and make a new one"
    )
