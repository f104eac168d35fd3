"""What several tests need: a network with the channels of a plan at zero, and counts of a share of every layer."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from codesign.prune import ChannelGroups, PrunePlan


@torch.no_grad()
def dead(model: nn.Module, plan: PrunePlan) -> nn.Module:
    """A copy in which every parameter slice of a removed channel is zero, so that the channel carries zeros."""
    model = copy.deepcopy(model)
    gone = plan.groups.gone(plan.removed)
    for name, parameter in model.named_parameters():
        if name in plan.groups.stored:
            for d, atoms in enumerate(plan.groups.stored[name].atoms):
                parameter.index_fill_(d, torch.from_numpy(np.flatnonzero(gone[atoms])), 0.0)
    return model


def share(groups: ChannelGroups, keep: float, exact_only: bool = False) -> dict[str, int]:
    """Counts that keep about this share of every layer that can lose channels."""
    counts = {}
    for group in groups.groups:
        if group.units and not (exact_only and group.approximate):
            for layer, unit in zip(group.layers, group.unit_channels, strict=True):
                counts[layer] = max(1, int(group.units * keep)) * unit
    return counts


@torch.no_grad()
def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic random, so that no equality holds by accident (no zero bias, no unit
    scale)."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.ndim:
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:
                tensor.copy_(0.5 + noise.abs() if "var" in name or "weight" in name else 0.3 * noise)
            else:
                tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
    return model.eval()
