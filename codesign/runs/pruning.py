"""A cut in the course of a training run: find the structure, choose the channels, remove them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import assert_never

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
    choose_channels,
    l1_importance,
    l2_importance,
    noise_batches,
    pca_channel_counts,
    plan_from_counts,
    random_importance,
)
from codesign.runs.trainer import Removal
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
    """Channel counts by PCA of the feature maps of a `sample`."""
    batches = sample(images, settings, seed)
    return pca_channel_counts(network, batches, settings.structure, groups=groups, cost=cost)


def sample(images: torch.Tensor, settings: CutSettings, seed: int) -> list[torch.Tensor]:
    """Batches of the first `settings.images` of `images`, or of as many random ones of their shape."""
    match settings.sample:
        case Sample.DATA:
            return list(torch.split(images[: settings.images], BATCH))
        case Sample.NOISE:
            noise = noise_batches(images.shape[1:], settings.images, chance(seed), batch=BATCH)
            return [batch.to(images.device) for batch in noise]
    assert_never(settings.sample)


def removal(
    network: nn.Module,
    groups: ChannelGroups,
    counts: Mapping[str, int],
    ranking: Ranking,
    images: Sequence[torch.Tensor],
    seed: int,
) -> Removal:
    """What leaves so that each layer keeps its count.

    images : in batches, for a ranking that looks at what layers read
    """
    scores: dict[str, torch.Tensor]
    match ranking:
        case Ranking.RECONSTRUCTION:
            return Removal(plan=choose_channels(network, groups, images).plan(counts), rebuild_from=images)
        case Ranking.L1:
            scores = l1_importance(network)
        case Ranking.L2:
            scores = l2_importance(network)
        case Ranking.BATCH_NORM:
            scores = batch_norm_importance(network, groups)
        case Ranking.RANDOM:
            scores = random_importance(network, chance(seed))
        case _:
            assert_never(ranking)
    return Removal(plan=plan_from_counts(network, groups, counts, scores))


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
