"""Tables for a search: what every option of every weight layer costs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.cost.scales import NO_SCALES, Scales
from codesign.cost.simulate import price
from codesign.cost.work import PHASES, lower
from codesign.design import LayerFormats
from codesign.errors import CostError, did_you_mean
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.workload import Layer, WeightLayer, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionTable:
    """Cost of every option of every weight layer, with all that belongs to it: norms, activations, pools, update.

    levels : channel group -> the channel counts of its options, in the order given
    formats : the format options
    seconds : weight layer -> array [in_group level, out_group level, format, phase in the order of `Phase`]
    traffic_bytes, energy_j : weight layer -> array of the same shape

    Where one group is both input and output of a layer (depthwise), unequal levels are impossible: infinity.
    """

    levels: dict[str, tuple[int, ...]]
    formats: tuple[LayerFormats, ...]
    seconds: dict[str, np.ndarray]
    traffic_bytes: dict[str, np.ndarray]
    energy_j: dict[str, np.ndarray]


def option_table(
    workload: Workload,
    accelerator: Accelerator,
    *,
    levels: Mapping[str, Sequence[int]],
    formats: Sequence[LayerFormats],
    optimizer: Optimizer = Optimizer.MOMENTUM,
    scales: Scales = NO_SCALES,
    threads: int = 1,
) -> OptionTable:
    """Every weight layer x (input level, output level, format option): seconds, bytes and joules per phase.

    levels : channel group -> channel counts to price; a group that is absent has one level, its present size

    The latency of a design point is the sum over weight layers of its options' seconds: exactly what `simulate` gives.
    All matrix products go to the core in one call, where equal ones are solved once.
    """
    groups = workload.channel_groups
    for name, counts in levels.items():
        if name not in groups:
            raise CostError(f"workload '{workload.name}' has no channel group '{name}'{did_you_mean(name, groups)}")
        if groups[name].pinned and tuple(counts) != (groups[name].channels,):
            raise CostError(f"channel group '{name}' keeps its {groups[name].channels} channels: {groups[name].pinned}")
        for count in counts:
            if not 1 <= count <= groups[name].channels:
                raise CostError(f"channel group '{name}': level {count} is not within 1 to {groups[name].channels}")
    counts_of = {name: tuple(levels.get(name, (group.channels,))) for name, group in groups.items()}
    parts: dict[str, list[Layer]] = {name: [] for name in workload.weight_layers}
    for layer in workload.layers:
        parts[layer.owner].append(layer)

    options: list[tuple[Layer, LayerFormats]] = []
    places: list[tuple[str, tuple[int, int, int]]] = []  # of each option
    shapes: dict[str, tuple[int, int, int, int]] = {}
    for name, owner in workload.weight_layers.items():
        shapes[name] = (
            len(counts_of[_followed(owner.name, owner.reads, counts_of)]), len(counts_of[_followed(owner.name, owner.writes, counts_of)]), len(formats), len(PHASES)
        )  # fmt: skip
        for part in parts[name]:
            _check_groups(part, owner, counts_of)
            _add_options(options, places, part, owner, counts_of, formats)
    priced = price(lower(options, workload.batch, optimizer), accelerator, scales, threads=threads)

    columns = priced.columns
    wanted = {
        "seconds": columns["latency_s"],
        "traffic_bytes": columns["traffic_bits"] / 8,
        "energy_j": columns["mac_j"] + columns["sram_j"] + columns["dram_j"],
    }
    tables = {kind: {name: np.zeros(shape) for name, shape in shapes.items()} for kind in wanted}
    owners = np.array([list(shapes).index(name) for name, _ in places])[priced.layer_numbers]
    at = np.array([place for _, place in places])[priced.layer_numbers]
    for kind, values in wanted.items():
        for i, name in enumerate(shapes):
            mine = owners == i
            np.add.at(tables[kind][name], (*at[mine].T, priced.phase_numbers[mine]), values[mine])
            owner = workload.weight_layers[name]
            if _followed(owner.name, owner.reads, counts_of) == _followed(owner.name, owner.writes, counts_of):
                impossible = ~np.equal.outer(
                    counts_of[_followed(owner.name, owner.reads, counts_of)],
                    counts_of[_followed(owner.name, owner.writes, counts_of)],
                )
                tables[kind][name][impossible] = np.inf
    return OptionTable(levels=counts_of, formats=tuple(formats), **tables)


def _followed(layer: str, groups: Collection[str], levels: Mapping[str, Sequence[int]]) -> str:
    """The group of several levels among those that a layer reads, or writes; any of them if all have one level."""
    several = [group for group in groups if len(levels[group]) > 1]
    if len(several) > 1:
        raise CostError(
            f"layer '{layer}' has channels of {len(several)} groups of several levels; give one level to all but one of {sorted(several)}"
        )
    return several[0] if several else min(groups)


def _check_groups(part: Layer, owner: WeightLayer, levels: Mapping[str, Sequence[int]]) -> None:
    foreign = [group for group in (part.reads | part.writes) - (owner.reads | owner.writes) if len(levels[group]) > 1]
    if foreign:
        raise CostError(
            f"layer '{part.name}' depends on channel group '{foreign[0]}', which its owner '{owner.name}' neither "
            f"reads nor writes; give '{foreign[0]}' one level"
        )


def _add_options(
    options: list[tuple[Layer, LayerFormats]],
    places: list[tuple[str, tuple[int, int, int]]],
    part: Layer,
    owner: WeightLayer,
    levels: Mapping[str, tuple[int, ...]],
    formats: Sequence[LayerFormats],
) -> None:
    read, written = _followed(owner.name, owner.reads, levels), _followed(owner.name, owner.writes, levels)
    ins, outs = levels[read], levels[written]
    base = {group: counts[0] for group, counts in levels.items()}
    for (i, x), (o, y) in itertools.product(enumerate(ins), enumerate(outs)):
        if read == written and i != o:
            continue
        sized = part.resized({**base, read: x, written: y})
        for f, option in enumerate(formats):
            options.append((sized, option))
            places.append((owner.name, (i, o, f)))
