"""Pruning at initialization as published: masks over single weights. Nothing shrinks; M2 is compared with them.

Masks are {tensor name: bool tensor, True where the weight stays}, for the weights of convolutions and linear layers;
biases and norms stay. Weights are ranked over the whole network, and exactly round(keep x weights) of them stay.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from codesign.errors import ConfigError, DataError, ModelError, did_you_mean
from codesign.prune.importance import gradients_of, weights_of

Masks = dict[str, torch.Tensor]
Loss = Callable[[nn.Module, Any], torch.Tensor]


def maskable(model: nn.Module) -> dict[str, torch.Tensor]:
    """The weights that a mask covers, by the name of the tensor."""
    return {tensor: weight for _, tensor, _, weight in weights_of(model)}


def random_masks(model: nn.Module, keep: float, generator: torch.Generator) -> Masks:
    """A random choice over the whole network.

    `generator` is a CPU generator. Do not seed it as the initial weights were: masks would follow their signs.
    """
    return _best({name: torch.rand(w.shape, generator=generator) for name, w in maskable(model).items()}, keep)


def magnitude_masks(model: nn.Module, keep: float) -> Masks:
    """The largest absolute weights."""
    return _best({name: weight.detach().abs() for name, weight in maskable(model).items()}, keep)


def snip_masks(model: nn.Module, batches: Iterable[Any], loss: Loss, keep: float) -> Masks:
    """The weights whose removal changes the loss most: |w dL/dw|, gradients summed over batches.

    SNIP (Lee, Ajanthan and Torr 2019, arXiv 1810.02340). The model runs in the mode it is in; running statistics stay.
    """
    weights = maskable(model)
    gradients = _summed(model, weights, batches, loss)
    return _best({name: (gradients[name] * weight.detach()).abs() for name, weight in weights.items()}, keep)


def grasp_masks(model: nn.Module, batches: Iterable[Any], loss: Loss, keep: float) -> Masks:
    """The weights whose removal would lower the gradient norm most: largest w (H g), H the Hessian, g the gradient.

    GraSP (Wang, Zhang and Grosse 2020, arXiv 2002.07376), which removes the largest -w (H g). The authors divide the
    network's logits by a temperature of 200 before the loss; do so in `loss`.
    """
    weights = maskable(model)
    batches = list(batches)
    target = {name: gradient.detach() for name, gradient in _summed(model, weights, batches, loss).items()}
    curvature = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for batch in batches:
        gradients = gradients_of(model, weights, partial(loss, model, batch), create_graph=True)
        flow = torch.stack([(gradients[name] * target[name]).sum() for name in weights]).sum()
        for name, found in zip(weights, torch.autograd.grad(flow, list(weights.values())), strict=True):
            curvature[name] += found
    return _best({name: curvature[name] * weight.detach() for name, weight in weights.items()}, keep)


def synflow_masks(model: nn.Module, shape: Iterable[int], keep: float, *, rounds: int = 100) -> Masks:
    """The weights that carry most of the flow through the network of absolute weights; no data.

    SynFlow (Tanaka et al. 2020, arXiv 2006.05467, algorithm 1): in each of `rounds` (100 in the paper) the score is
    |w dR/dw|, R the summed output for an image of ones, and a share keep^(round/rounds) of the weights stays.

    Parameters
    ----------
    shape : of one input, without the batch dimension
    """
    _check(keep)
    flow = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for tensor in (*flow.parameters(), *flow.buffers()):
            tensor.abs_()
    for parameter in flow.parameters():
        parameter.requires_grad_(True)
    weights = maskable(flow)
    device = next(iter(weights.values())).device
    ones = torch.ones(1, *shape, dtype=torch.float64, device=device)
    masks: Masks = {}
    for step in range(1, rounds + 1):
        gradients = gradients_of(flow, weights, lambda: flow(ones).sum())
        masks = _best({n: (gradients[n] * w.detach()).abs() for n, w in weights.items()}, keep ** (step / rounds))
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(masks[name])
    return masks


def apply_masks(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> list[RemovableHandle]:
    """Set masked weights to zero and keep their gradients at zero, so that an optimizer leaves them there.

    Make the optimizer afterwards: moments from before would move masked weights. `handle.remove()` of each result lets
    gradients through again.
    """
    known = dict(model.named_parameters())
    handles = []
    for name, mask in masks.items():
        if name not in known:
            raise ModelError(f"the network has no parameter '{name}'{did_you_mean(name, known)}")
        weight = known[name]
        if mask.shape != weight.shape:
            raise ModelError(f"mask '{name}' has shape {list(mask.shape)}, the weight has {list(weight.shape)}")
        if not weight.requires_grad:
            raise ModelError(f"parameter '{name}' is frozen; a mask on it would train nothing. Leave it out")
        held = mask.to(weight.device)
        with torch.no_grad():
            weight.mul_(held)
        handles.append(weight.register_hook(partial(torch.mul, held)))  # type: ignore[no-untyped-call]
    return handles


def _summed(model: nn.Module, weights: dict[str, torch.Tensor], batches: Iterable[Any], loss: Loss) -> Masks:
    total: Masks = {}
    for batch in batches:
        gradients = gradients_of(model, weights, partial(loss, model, batch))
        total = {name: total[name] + g if total else g for name, g in gradients.items()}
    if not total:
        raise DataError("batches is empty; give at least one batch")
    return total


def _check(keep: float) -> None:
    if not 0 < keep <= 1:
        raise ConfigError(f"keep must be above 0 and at most 1, got {keep:g}; it is the share of weights that stay")


def _best(scores: Mapping[str, torch.Tensor], keep: float) -> Masks:
    """True for the round(keep x number) highest scores of all tensors together."""
    _check(keep)
    flat = torch.cat([score.reshape(-1) for score in scores.values()])
    if not torch.isfinite(flat).all():
        raise DataError("the scores of the weights are not finite (inf or nan); check the data and the loss")
    stays = torch.zeros_like(flat, dtype=torch.bool)
    stays[flat.topk(max(1, round(keep * len(flat))), sorted=False).indices] = True
    parts = torch.split(stays, [score.numel() for score in scores.values()])
    return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}
