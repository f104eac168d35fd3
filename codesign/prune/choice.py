"""Which channels stay, by what the layers that read them would lose: greedily, for every count at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from codesign.errors import DataError, ModelError, did_you_mean
from codesign.network import stored_tensors
from codesign.prune.greedy import Block, choose
from codesign.prune.groups import ChannelGroups
from codesign.prune.importance import l1_importance
from codesign.prune.moments import Moments
from codesign.prune.passes import stream
from codesign.prune.plan import PrunePlan, plan_from_ranking, ranked
from codesign.prune.readers import Reader, readers_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedUnits:
    """The units of layers that are tied to each other, in the order in which they are chosen.

    layers : those layers; order : classes of its units, the first to stay first
    errors : float [units + 1]; what the readers lose when only the first n units stay and the others are rebuilt from
        them: lost share of each reader's output, added up over the readers
    readers : layers by which the units were chosen; note : what else reads them, and how they were chosen if by no reader
    """

    layers: tuple[str, ...]
    order: tuple[int, ...]
    errors: np.ndarray
    readers: tuple[str, ...]
    note: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """An order of all units of a network: one choice for every count."""

    groups: ChannelGroups
    ranked: tuple[RankedUnits, ...]

    @cached_property
    def _by_layer(self) -> dict[str, RankedUnits]:
        return {layer: units for units in self.ranked for layer in units.layers}

    def of(self, layer: str) -> RankedUnits:
        """The units of one layer and of those tied to it."""
        if layer not in self._by_layer:
            raise ModelError(f"layer '{layer}' has no channels that can leave{did_you_mean(layer, self._by_layer)}")
        return self._by_layer[layer]

    def plan(self, counts: Mapping[str, int]) -> PrunePlan:
        """The plan that keeps exactly these output channels of the named layers; see `plan_from_counts`."""
        return plan_from_ranking(self.groups, counts, lambda layers: self.of(layers[0]).order)

    @property
    def notes(self) -> tuple[str, ...]:
        """Where something else than the layers with weights reads the channels."""
        return tuple(f"{', '.join(units.layers)}: {units.note}" for units in self.ranked if units.note)


def choose_channels(model: nn.Module, groups: ChannelGroups, batches: Iterable[Any]) -> Choice:
    """Order the channels of every layer by what the layers that read them lose without them.

    With C the second moments of what a layer reads (about the mean, where a mean can be made up for), G = W'W of its
    weights, and R what is left of C given the units chosen so far, the next unit is that of the largest trace of
    (R G R) / R; what the layer loses is trace(G R). Where several layers read them, what they lose, as shares of
    their outputs, is added up. One pass over the images; memory grows with the square of the width.

    Parameters
    ----------
    batches : network inputs (tensors, or tuples that begin with one): a few hundred images of the training data
    """
    readers = readers_of(model, groups).of(lambda reader: bool((reader.classes != groups.classes.fixed).any()))
    moments: dict[Reader, Moments] = {}
    stream(model, batches, readers, lambda reader, x: moments.setdefault(reader, Moments()).observe(x.flatten(0, 1)))
    if readers.plain and not moments:
        raise DataError("batches is empty; give at least one batch")
    weights = {name: tensor for name, (_, tensor, _) in stored_tensors(model).items()}
    grams = {reader: _gram(reader, weights[reader.weight].detach().double().cpu().numpy()) for reader in moments}
    means = {
        reader: (seen.means().about_zero() if reader.shift is None else seen.means()).zz.numpy()
        for reader, seen in moments.items()
    }
    found = []
    for layers in dict.fromkeys(groups.tied_to(layer) for layer in groups.channels):
        units = np.unique(np.concatenate([groups.classes_of(layer) for layer in layers]))
        units = units[units != groups.classes.fixed]
        own = [reader for reader in moments if np.isin(reader.classes, units).any()]
        blocks = [
            block
            for reader in own
            for block in _blocks(reader, means[reader], grams[reader], units, groups.classes.fixed)
        ]
        if blocks:
            order, errors = choose(blocks, len(units))
            chosen = units[order].tolist()
        else:
            by_norm = ranked(groups, layers, l1_importance(model))
            chosen = [unit for unit in by_norm if unit != groups.classes.fixed]
            errors = np.full(len(units) + 1, np.nan)
        note = "; ".join(_notes(groups, layers, units, readers.others, chosen_by_norm=not blocks))
        names = tuple(reader.name for reader in own)
        found.append(RankedUnits(layers=layers, order=tuple(chosen), errors=errors, readers=names, note=note))
    return Choice(groups=groups, ranked=tuple(found))


def _notes(
    groups: ChannelGroups,
    layers: tuple[str, ...],
    units: np.ndarray,
    others: Mapping[int, str],
    *,
    chosen_by_norm: bool,
) -> Iterator[str]:
    yield from sorted({f"also read by {others[unit]}" for unit in units.tolist() if unit in others})
    for group in groups.groups:
        if group.approximate and not set(layers).isdisjoint(group.layers):
            yield f"a mean or a norm over them changes when some leave, see {group.approximate}"
            break
    if chosen_by_norm:
        yield "no layer with a weight of its own reads them; chosen by L1 norm"


def _gram(reader: Reader, weight: np.ndarray) -> np.ndarray:
    """W'W, summed over outputs, places and kernel positions: [blocks, channels, channels]."""
    columns = reader.columns(torch.from_numpy(weight)).movedim(2, 3).flatten(1, 2)
    found: np.ndarray = (columns.mT @ columns).numpy()
    return found


def _blocks(reader: Reader, means: np.ndarray, grams: np.ndarray, units: np.ndarray, fixed: int) -> list[Block]:
    """What a choice among `units` sees of each block of a reader; channels that cannot leave are taken as given."""
    total = float(np.einsum("bij,bij->", means, grams)) or 1.0
    return [
        Block.of(mean, gram / total, np.searchsorted(units, own), np.isin(own, units), own == fixed, len(units))
        for mean, gram, own in zip(means, grams, reader.classes, strict=True)
        if np.isin(own, units).any()
    ]
