"""The structure of a lighter network: PCA of feature maps gives each layer its channel count (methods M1 and M2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import ceil
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from codesign.errors import DataError, ModelError
from codesign.prune.covariance import Spectrum
from codesign.prune.features import check_observations, inputs_of, layer_spectra
from codesign.prune.groups import ChannelGroups, channel_groups
from codesign.prune.settings import StructureConfig

Cost = Callable[[str, int], float]
Align = Callable[[str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStructure:
    """How one layer's count came about.

    channels : what the layer has; components : what alpha asks for, on all images and on each half
    count : what the layer keeps; bound : what decided it: "alpha", "floor", "tied" (another layer of its group), "unit"
        (channels leave several at a time) or "aligned" (the cost of the machine)
    """

    layer: str
    channels: int
    components: int
    halves: tuple[int, int]
    observations: int
    count: int
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStructure:
    """Channel counts of a lighter network, with the choices that led to them."""

    config: StructureConfig
    alignment: str
    layers: tuple[LayerStructure, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Layer name -> output channels to keep, for `plan_from_counts`."""
        return {layer.layer: layer.count for layer in self.layers}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"config": asdict(self.config), "alignment": self.alignment, "layers": [asdict(x) for x in self.layers]}

    def __str__(self) -> str:
        head = f"{'layer':<32} {'channels':>8} {'PCA':>5} {'halves':>11} {'observations':>12} {'keep':>5}"
        lines = [f"PCA: {self.config}; alignment: {self.alignment}", head]
        for x in self.layers:
            cells = f"{x.channels:>8} {x.components:>5} {x.halves[0]:>5}/{x.halves[1]:<5} {x.observations:>12}"
            lines.append(f"{x.layer:<32} {cells} {x.count:>5} {x.bound}")
        return "\n".join(lines)


def pca_channel_counts(
    model: nn.Module,
    batches: Iterable[Any],
    config: StructureConfig,
    *,
    layers: Sequence[str] | None = None,
    groups: ChannelGroups | None = None,
    cost: Cost | None = None,
    align: Align | None = None,
) -> FoundStructure:
    """Channel counts by principal component analysis of every layer's feature map.

    Each position of each image is one observation of the layer's channels; the count is the smallest number of
    principal components that hold `config.alpha` of the variance, at least `config.floor`. Layers that share channels
    share the largest count that one of them asks for.

    Parameters
    ----------
    batches : network inputs (tensors, or tuples that begin with one): a sample of the training data, or `noise_batches`
    layers : default every convolution of which channels can leave
    groups : `channel_groups(model, ...)`, if at hand; else the first image of the first batch serves as the example
    cost : seconds that a layer of that many output channels takes, `cost(layer, count)`; counts move to where the time
        per channel is good, see `StructureConfig.align_window` and `align_worth`
    align : instead of `cost`, the count itself: `align(layer, count) -> count`
    """
    if groups is None:
        stream = iter(batches)
        try:
            ahead = next(stream)
        except StopIteration:
            raise DataError("batches is empty; give at least one batch") from None
        groups = channel_groups(model, inputs_of(ahead)[:1])
        batches = chain([ahead], stream)
    if layers is None:
        known = dict(model.named_modules())
        layers = [name for name in groups.channels if isinstance(known.get(name), _ConvNd)]
    if not layers:
        raise ModelError(f"no convolution of this network can lose channels; name `layers`. Groups:\n{groups}")
    return counts_from_spectra(groups, layer_spectra(model, batches, config, layers), config, cost=cost, align=align)


def counts_from_spectra(
    groups: ChannelGroups,
    spectra: Mapping[str, Spectrum],
    config: StructureConfig,
    *,
    cost: Cost | None = None,
    align: Align | None = None,
) -> FoundStructure:
    """Counts for one `config.alpha` from spectra that may serve for many; see `pca_channel_counts`."""
    if cost is not None and align is not None:
        raise ModelError("give cost or align, not both")
    check_observations({x: (groups.width(x), spectrum.observations) for x, spectrum in spectra.items()}, config)
    for layer, spectrum in spectra.items():
        _check_count(layer, spectrum, config)
    units: dict[frozenset[int], int] = {}
    found: dict[str, LayerStructure] = {}
    for layers in _sharing(groups, list(spectra)):
        shared = _shared(groups, layers, units)
        asked = [max(spectra[x].count(config.alpha), min(config.floor, groups.width(x))) for x in layers]
        kept = units[_free(groups, layers[0])] = _settle(shared, asked, config, cost, align)
        unaligned = shared.counts(shared.units(asked))
        for layer, own, plain, count, size in zip(
            layers, asked, unaligned, shared.counts(kept), shared.per_unit, strict=True
        ):
            components = spectra[layer].count(config.alpha)
            found[layer] = LayerStructure(
                layer=layer,
                channels=groups.width(layer),
                components=components,
                halves=spectra[layer].count_halves(config.alpha),
                observations=spectra[layer].observations,
                count=count,
                bound=_bound(components, own, plain, count, size),
            )
    alignment = "by cost" if cost is not None else "by function" if align is not None else "none"
    return FoundStructure(config=config, alignment=alignment, layers=tuple(found[layer] for layer in spectra))


def _bound(components: int, asked: int, plain: int, count: int, unit: int) -> str:
    """What decided a count: see `LayerStructure`."""
    if count != plain:
        return "aligned"
    if plain >= asked + unit or plain < asked:
        return "tied"
    if plain > asked:
        return "unit"
    return "floor" if asked > components else "alpha"


def _check_count(layer: str, spectrum: Spectrum, config: StructureConfig) -> None:
    if spectrum.count(config.alpha) == 0:
        raise ModelError(
            f"layer '{layer}': its feature map does not vary over the data, so alpha = {config.alpha:g} leaves it no "
            f"channel (the floor is {config.floor}); leave it out by naming `layers`, or find out why it is dead"
        )
    one, other = spectrum.count_halves(config.alpha)
    allowed = max(2.0, config.halves_tolerance * spectrum.count(config.alpha))
    if abs(one - other) > allowed:
        raise DataError(
            f"layer '{layer}': half of the images asks for {one} channels, the other half for {other}; that differs by "
            f"more than {allowed:g}, so the count is not known yet; give more images, or raise halves_tolerance"
        )


def _sharing(groups: ChannelGroups, layers: Sequence[str]) -> list[list[str]]:
    """Layers with the same sets of channels, the smaller sets first."""
    alike: dict[frozenset[int], list[str]] = {}
    for layer in layers:
        alike.setdefault(_free(groups, layer), []).append(layer)
    return [alike[units] for units in sorted(alike, key=len)]


def _free(groups: ChannelGroups, layer: str) -> frozenset[int]:
    return frozenset(groups.classes_of(layer).tolist()) - {groups.classes.fixed}


@dataclass(frozen=True, slots=True)
class _Shared:
    """Layers that share all of their channels, counted in units: sets of channels that leave together.

    fixed : channels of each layer that cannot leave; per_unit : channels of each layer in one unit
    least, most : units that can stay, given what layers that share a part of them keep
    """

    layers: tuple[str, ...]
    fixed: tuple[int, ...]
    per_unit: tuple[int, ...]
    least: int
    most: int

    def counts(self, units: int) -> tuple[int, ...]:
        """Channels of each layer when `units` stay."""
        return tuple(fixed + units * size for fixed, size in zip(self.fixed, self.per_unit, strict=True))

    def units(self, counts: Iterable[int]) -> int:
        """Units that hold at least these channels."""
        asked = [ceil((n - fixed) / size) for n, fixed, size in zip(counts, self.fixed, self.per_unit, strict=True)]
        return min(max(*asked, self.least, 1), self.most)


def _shared(groups: ChannelGroups, layers: Sequence[str], settled: Mapping[frozenset[int], int]) -> _Shared:
    units = _free(groups, layers[0])
    inside = {part: kept for part, kept in settled.items() if part < units}
    covered = frozenset[int]().union(*inside)
    least = sum(inside.values())
    fixed = [int((groups.classes_of(layer) == groups.classes.fixed).sum()) for layer in layers]
    sizes = [(groups.width(layer) - n) // max(len(units), 1) for layer, n in zip(layers, fixed, strict=True)]
    for layer, n, size in zip(layers, fixed, sizes, strict=True):
        if size < 1 or n + size * len(units) != groups.width(layer):
            raise ModelError(
                f"layer '{layer}': {groups.width(layer)} channels in {len(units)} sets of different sizes; leave it "
                "out by naming `layers`, or give its count yourself"
            )
    return _Shared(tuple(layers), tuple(fixed), tuple(sizes), least, least + len(units) - len(covered))


def _settle(
    shared: _Shared, asked: Sequence[int], config: StructureConfig, cost: Cost | None, align: Align | None
) -> int:
    """Units that stay in layers that ask for these counts."""
    units = shared.units(asked)
    if align is not None:
        wanted = [align(layer, count) for layer, count in zip(shared.layers, shared.counts(units), strict=True)]
        units = shared.units(wanted)
        for layer, count, reached in zip(shared.layers, wanted, shared.counts(units), strict=True):
            if count > reached:
                raise ModelError(
                    f"layer '{layer}': align asks for {count} channels, but at most {reached} are possible"
                )
    elif cost is not None:
        units = _cheapest(shared, units, config, cost)
    return units


def _cheapest(shared: _Shared, units: int, config: StructureConfig, cost: Cost) -> int:
    """Where in the window time per channel is so good that leaving the count that PCA asks for is worth it."""

    def seconds(n: int) -> float:
        total = sum(cost(layer, count) for layer, count in zip(shared.layers, shared.counts(n), strict=True))
        if not total > 0:
            raise ModelError(f"layer '{shared.layers[0]}': cost must be positive, got {total:g}")
        return total

    def gain(n: int) -> float:
        saved, lost = 1 - seconds(n) / base, 1 - n / units
        return saved - lost * (config.align_worth if lost > 0 else 1 / config.align_worth)

    base = seconds(units)
    least = max(shared.least, shared.units([min(config.floor, n) for n in shared.counts(shared.most)]))
    window = range(ceil(units * (1 - config.align_window)), int(units * (1 + config.align_window)) + 1)
    candidates = [n for n in window if least <= n <= shared.most]
    return max(candidates or [units], key=lambda n: (gain(n), -abs(n - units)))
