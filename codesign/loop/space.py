"""From a network and the PCA of its feature maps to the space that a search works on."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from codesign.design import DesignPoint, uniform
from codesign.loop.laboratory import Laboratory
from codesign.loop.pricing import Pricing
from codesign.loop.settings import SpaceSettings
from codesign.nn.run import run_dense
from codesign.prune import StructureConfig, channel_groups, counts_from_spectra, layer_spectra
from codesign.search import Group, SearchLayer, Space, levels_from_ratios
from codesign.search.tables import LayerCost
from codesign.workload import Workload

DEFAULT = uniform("fp32")  # of everything that is no layer of the space: the loss


def channel_levels(laboratory: Laboratory, workload: Workload) -> dict[str, tuple[int, ...]]:
    """Channel group -> counts to choose from, the full count first, for every group whose channels may leave.

    By `keep`, shares of the channels. By `alphas`: one network is trained for the dense part of a run, in float32; the
    PCA of its feature maps on `structure_images` training images gives a count for each alpha (layers that are tied take
    the largest that one of them asks for). Counts are rounded up to a multiple.
    """
    settings = laboratory.settings.space
    kept = kept_whole(workload)
    free = {name: group for name, group in workload.channel_groups.items() if name not in kept}
    if settings.keep:
        return {
            name: levels_from_ratios(
                group.channels,
                [max(share, min(1.0, settings.floor / group.channels)) for share in settings.keep],
                multiple_of=math.lcm(settings.multiple_of, group.unit),
            )
            for name, group in free.items()
        }
    data = laboratory.data
    network = run_dense(
        build=laboratory.build,
        data=data,
        training=laboratory.settings.training,
        dense_steps=laboratory.dense_steps,
        steps=laboratory.steps,
        seed=laboratory.settings.search.seed,
        transform=laboratory.transform,
    )
    producers = [layer for group in free.values() for layer in group.producers]
    groups = channel_groups(network, data.train_images[:1])
    configs = [StructureConfig(alpha=alpha, floor=settings.floor) for alpha in settings.alphas]
    images = data.train_images[: settings.structure_images]
    spectra = layer_spectra(network, torch.split(images, 256), configs[0], producers)
    counts = [counts_from_spectra(groups, spectra, config).counts for config in configs]
    return {
        name: levels_from_ratios(
            group.channels,
            [max(found[layer] for layer in group.producers) / group.channels for found in counts],
            multiple_of=math.lcm(settings.multiple_of, group.unit),
        )
        for name, group in free.items()
    }


def kept_whole(workload: Workload) -> dict[str, str]:
    """Channel group -> why a search leaves all its channels.

    A search knows one group that a layer reads and one that it writes, counted alike in every layer of the group.
    """
    whole = {name: group.why_fixed for name, group in workload.channel_groups.items() if group.why_fixed}
    layers = workload.weight_layers
    for name, group in workload.channel_groups.items():
        if name not in whole and len(set(group.unit_channels)) > 1:
            whole[name] = f"its layers {', '.join(group.layers)} lose {group.unit_channels} channels at a time"
    for layer in layers.values():
        for read in (layer.reads, layer.writes):
            for name in sorted(read - whole.keys())[1:] if len(read) > 1 else ():
                whole[name] = f"layer '{layer.name}' has channels of several groups"
    for part in workload.layers:
        owner = layers[part.owner]
        for name in sorted((part.reads | part.writes) - owner.reads - owner.writes - whole.keys()):
            whole[name] = f"'{part.name}' follows it, but '{owner.name}', with which it is computed, does not"
    return whole


def search_space(workload: Workload, levels: dict[str, tuple[int, ...]], settings: SpaceSettings) -> Space:
    """Levels of every channel group and the format choices of every weight layer."""
    return Space(
        groups=tuple(Group(name=name, levels=counts) for name, counts in levels.items()),
        layers=tuple(
            SearchLayer(
                name=name,
                formats=settings.options(),
                in_group=next((name for name in levels if name in layer.reads), None),
                out_group=next((name for name in levels if name in layer.writes), None),
            )
            for name, layer in workload.weight_layers.items()
        ),
        default=DEFAULT,
    )


def layer_costs(pricing: Pricing, space: Space) -> dict[str, LayerCost]:
    """`latency_s` and `energy_j` of a whole run, each as a function that a search asks for the table of a layer."""
    levels, formats = {group.name: group.levels for group in space.groups}, list(space.layers[0].formats.values())
    tables = pricing.layer_tables(levels, formats)
    return {cost: partial(_table_of, by_name) for cost, by_name in tables.items()}


def _table_of(by_name: dict[str, npt.NDArray[np.float64]], layer: SearchLayer) -> npt.NDArray[np.float64]:
    return by_name[layer.name]


def baseline_points(workload: Workload, settings: SpaceSettings) -> dict[str, DesignPoint]:
    """All channels, one format for every layer."""
    return {
        name: DesignPoint.of(default=DEFAULT, formats=dict.fromkeys(workload.weight_layers, settings.baseline(name)))
        for name in settings.baselines
    }
