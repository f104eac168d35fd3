"""How much a channel matters: scores per output channel of each layer, higher is more important.

Every function returns {layer name: tensor [output channels]} on the CPU, for the layers whose weights it knows:
convolutions, transposed convolutions, linear layers and the packed input projection of `nn.MultiheadAttention`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from codesign.errors import DataError, ModelError
from codesign.network import statistics_kept
from codesign.prune.groups import ChannelGroups

Scores = dict[str, torch.Tensor]


def weights_of(model: nn.Module) -> Iterator[tuple[str, str, nn.Module, torch.Tensor]]:
    """(layer name, tensor name, module, weight) of every layer; an attention has one packed input weight or three."""
    for name, module in model.named_modules():
        attention = isinstance(module, nn.MultiheadAttention)
        if attention and module.in_proj_weight is None:
            for key in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                yield f"{name}.{key}", f"{name}.{key}", module, getattr(module, key)
            continue
        key = "in_proj_weight" if attention else "weight"
        weight = getattr(module, key, None)
        if isinstance(weight, torch.Tensor) and weight.ndim >= 2 and not isinstance(module, nn.Embedding):
            yield name, f"{name}.{key}" if name else key, module, weight


def by_output(module: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """A weight (or its gradient) as [output channels, everything else].

    The output channels of packed attention weights are those of all heads; each has a row of query, key and value.
    """
    if isinstance(module, _ConvTransposeNd):  # [in, out / groups, ...], the outputs of a group side by side
        grouped = weight.reshape(module.groups, -1, *weight.shape[1:])
        return grouped.transpose(1, 2).reshape(module.groups * weight.shape[1], -1)
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return torch.unflatten(weight, 0, (3, -1)).transpose(0, 1).flatten(1)
    return weight.flatten(1)


def _filters(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, _, module, weight in weights_of(model):
        yield name, by_output(module, weight)


@torch.no_grad()
def l1_importance(model: nn.Module) -> Scores:
    """Sum of the absolute weights of each filter (Li et al. 2017, arXiv 1608.08710): the ranking of method M1."""
    return {name: torch.linalg.vector_norm(weight, 1, 1).double().cpu() for name, weight in _filters(model)}


@torch.no_grad()
def l2_importance(model: nn.Module) -> Scores:
    """Euclidean norm of each filter."""
    return {name: torch.linalg.vector_norm(weight, 2, 1).double().cpu() for name, weight in _filters(model)}


def random_importance(model: nn.Module, generator: torch.Generator) -> Scores:
    """A random ranking: what every other ranking must beat. `generator` is a CPU generator."""
    return {
        name: torch.rand(weight.shape[0], generator=generator, dtype=torch.float64) for name, weight in _filters(model)
    }


@torch.no_grad()
def batch_norm_importance(model: nn.Module, groups: ChannelGroups) -> Scores:
    """Absolute scale |gamma| of the batch norm that follows each layer (Liu et al. 2017, arXiv 1708.06519).

    Only layers directly followed by a batch norm with a scale have scores.
    """
    scores: Scores = {}
    for layer, atoms in groups.layers.items():
        norm = groups.findings.norm_after.get(int(atoms[0]))
        gamma = None if norm is None else model.get_submodule(norm).weight
        if isinstance(gamma, torch.Tensor):
            scores[layer] = gamma.abs().double().cpu()
    if not scores:
        raise ModelError("no layer is followed by a batch norm with a scale; use l1_importance")
    return scores


def taylor_importance(
    model: nn.Module, batches: Iterable[Any], loss: Callable[[nn.Module, Any], torch.Tensor]
) -> Scores:
    """First-order change of the loss when a filter is set to zero, squared and averaged over batches.

    Score of a filter w: mean over batches of (sum of w dL/dw)^2 (Molchanov et al. 2019, arXiv 1906.10771, equation 8
    for a whole filter). The model runs in the mode it is in; batch norm statistics and gradients are left as they were.

    Parameters
    ----------
    loss : called with the model and one batch, returns the loss
    """
    layers = {name: (module, weight) for name, _, module, weight in weights_of(model)}
    parameters = {name: weight for name, (_, weight) in layers.items()}
    total: Scores = {}
    count = 0
    for batch in batches:
        gradients = gradients_of(model, parameters, partial(loss, model, batch))
        for name, (module, weight) in layers.items():
            change = by_output(module, gradients[name] * weight.detach()).double().sum(1).square().cpu()
            total[name] = total.get(name, torch.zeros_like(change)) + change
        count += 1
    if not count:
        raise DataError("taylor_importance: batches is empty; give at least one batch")
    return {name: score / count for name, score in total.items()}


def gradients_of(
    model: nn.Module,
    parameters: dict[str, torch.Tensor],
    loss: Callable[[], torch.Tensor],
    *,
    create_graph: bool = False,
) -> dict[str, torch.Tensor]:
    """Gradient of a loss by each parameter; running statistics and `.grad` are left as they were."""
    for name, parameter in parameters.items():
        if not (parameter.is_leaf and parameter.requires_grad):
            what = "is frozen" if parameter.is_leaf else "is computed from other parameters (a parametrization)"
            raise ModelError(
                f"layer '{name}': its weight {what}, so the loss has no gradient for it; use l1_importance"
            )
    with statistics_kept(model):
        found = torch.autograd.grad(
            loss(), list(parameters.values()), allow_unused=True, create_graph=create_graph, materialize_grads=False
        )
    gradients = {}
    for name, gradient in zip(parameters, found, strict=True):
        if gradient is None:
            raise ModelError(f"layer '{name}': its weight takes no part in the loss")
        gradients[name] = gradient
    return gradients
