"""A cut in the course of a training run: find the structure, choose the channels, remove them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import nn

from codesign.cost import option_table
from codesign.design import DesignPoint
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.prune import (
    ChannelGroups,
    FoundStructure,
    batch_norm_importance,
    l1_importance,
    l2_importance,
    noise_batches,
    pca_channel_counts,
    random_importance,
)
from codesign.runs.training_settings import CutSettings, Ranking, Sample
from codesign.workload import Workload

BATCH = 256  # images propagated at once by a structure search


def chance(seed: int) -> torch.Generator:
    """Random numbers that have nothing to do with the initial weights, which are drawn from `seed` itself."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, 1)).generate_state(1)[0]))


def find_structure(
    network: nn.Module,
    groups: ChannelGroups,
    images: torch.Tensor,
    settings: CutSettings,
    seed: int,
    cost: Callable[[str, int], float] | None = None,
) -> FoundStructure:
    """Channel counts by PCA of the first `settings.images` of `images`, or of as many random ones of their shape."""
    if settings.sample is Sample.DATA:
        batches = iter(torch.split(images[: settings.images], BATCH))
    else:
        noise = noise_batches(images.shape[1:], settings.images, chance(seed), batch=BATCH)
        batches = (batch.to(images.device) for batch in noise)
    return pca_channel_counts(network, batches, settings.structure, groups=groups, cost=cost)


def importance(network: nn.Module, groups: ChannelGroups, ranking: Ranking, seed: int) -> dict[str, torch.Tensor]:
    """Scores by which the channels that stay are chosen."""
    match ranking:
        case Ranking.L1:
            return l1_importance(network)
        case Ranking.L2:
            return l2_importance(network)
        case Ranking.BATCH_NORM:
            return batch_norm_importance(network, groups)
        case Ranking.RANDOM:
            return random_importance(network, chance(seed))


def cost_of_counts(
    workload: Workload, point: DesignPoint, accelerator: Accelerator, optimizer: Optimizer
) -> Callable[[str, int], float]:
    """Seconds of a training step that one layer takes when it has that many output channels, all others as they are."""

    whole = {group.name: group.channels for group in workload.groups}

    @cache
    def seconds(layer: str) -> dict[int, float]:
        owner = workload.weight_layers[layer]
        group = next(group for group in workload.groups if group.units and group.name in owner.writes)
        levels = range(group.unit, group.channels + 1, group.unit)
        table = option_table(
            workload,
            accelerator,
            levels={group.name: levels},
            formats=[point.formats_of(layer)],
            optimizer=optimizer,
        ).seconds[layer]
        same = group.name in owner.reads
        counts = [owner.outputs.of({**whole, group.name: channels}) for channels in levels]
        return {count: float(table[n if same else 0, n, 0].sum()) for n, count in enumerate(counts)}

    return lambda layer, count: seconds(layer)[count]
