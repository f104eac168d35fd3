"""From a network and the PCA of its feature maps to the space that a search works on."""

from __future__ import annotations

import math

import torch

from codesign.design import DesignPoint, uniform
from codesign.prune import StructureConfig, channel_groups, counts_from_spectra, layer_spectra
from codesign.runs.designs import Designs
from codesign.runs.pruning import BATCH
from codesign.runs.run_cost import RunCost
from codesign.runs.search_settings import SpaceSettings
from codesign.search import Group, LayerTable, SearchLayer, Space, levels_from_ratios
from codesign.workload import Workload

DEFAULT = uniform("fp32")  # of everything that is no layer of the space: the loss


def channel_levels(designs: Designs, workload: Workload) -> dict[str, tuple[int, ...]]:
    """Channel group -> counts to choose from, the full count first, for every group whose channels may leave.

    By `keep`, shares of the channels. By `alphas`: one network is trained for the dense part of a run, in float32; the
    PCA of its feature maps on `structure_images` training images gives a count for each alpha (layers that are tied take
    the largest that one of them asks for). Counts are rounded up to a multiple.
    """
    settings = designs.settings.space
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
    network, images = designs.dense_network(), designs.trainer.images.train_images
    producers = [layer for group in free.values() for layer in group.producers]
    groups = channel_groups(network, images[:1])
    configs = [StructureConfig(alpha=alpha, floor=settings.floor) for alpha in settings.alphas]
    sample = torch.split(images[: settings.structure_images], BATCH)
    spectra = layer_spectra(network, sample, configs[0], producers)
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


def layer_costs(run_cost: RunCost, space: Space) -> dict[str, LayerTable]:
    """`latency_s` and `energy_j` of a whole run, each as a function that a search asks for the table of a layer."""
    levels, formats = {group.name: group.levels for group in space.groups}, list(space.layers[0].formats.values())
    tables = run_cost.layer_tables(levels, formats)

    def table_of(name: str) -> LayerTable:
        return lambda layer: tables[name][layer.name]

    return {name: table_of(name) for name in tables}


def baseline_points(workload: Workload, settings: SpaceSettings) -> dict[str, DesignPoint]:
    """All channels, one format for every layer."""
    return {
        name: DesignPoint.of(default=DEFAULT, formats=dict.fromkeys(workload.weight_layers, settings.baseline(name)))
        for name in settings.baselines
    }
