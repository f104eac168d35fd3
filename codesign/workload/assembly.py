"""A workload under construction: layers in order, their names, their forks and owners. How they are found is not its matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from codesign.errors import ModelError
from codesign.network import ChannelGroup
from codesign.workload.layers import NOTHING, AttachedLayer, Extent, Layer, VectorKind, VectorOp, WeightLayer

ONE = Extent((), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tensor of one training step.

    source : name of the layer that made it, or of the network's input; empty for a constant
    owner : the last weight layer before it, or empty
    needs_grad : something before it has parameters
    elements : of one example
    """

    source: str
    owner: str = ""
    needs_grad: bool = False
    elements: Extent = ONE


class Assembly:
    """Collects layers in order of execution. Extents follow keys of any kind, which `workload` turns into groups."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._made: dict[str, Made] = {}  # by source
        self._names: Counter[str] = Counter()

    def unique(self, name: str) -> str:
        """The name, with a number behind it if it is taken."""
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    def add(self, layer: Layer, elements: Extent, owner: str, *, joins: bool = False) -> Made:
        """Append a layer, or put it in the place of the one of its name that it `joins`; return what it makes."""
        if joins:
            self._layers = [layer if other.name == layer.name else other for other in self._layers]
        else:
            self._layers.append(layer)
        self._made[layer.name] = Made(source=layer.name, owner=owner, needs_grad=True, elements=elements)
        return self._made[layer.name]

    def vector(
        self,
        kind: VectorKind,
        sources: Sequence[Made],
        name: str,
        elements: Extent,
        *,
        weights: Extent = NOTHING,
        readers: int = 1,
    ) -> Made:
        """Work that reads `sources` and writes a tensor of so many elements."""
        name = self.unique(name)
        layer = VectorOp(
            name=name,
            sources=tuple(source.source for source in sources),
            kind=kind,
            inputs=total([source.elements for source in sources]),
            outputs=elements,
            weights=weights,
            in_elements=0,
            out_elements=0,
            readers=readers,
            needs_input_grad=any(source.needs_grad for source in sources),
            owner=next((source.owner for source in sources if source.owner), ""),
        )
        made = self.add(layer, elements, layer.owner)
        if not layer.needs_input_grad and weights == NOTHING:
            made = self._made[name] = replace(made, needs_grad=False)
        return made

    def finished(
        self, name: str, outputs: Sequence[Made], groups: Callable[[], Mapping[str, ChannelGroup]]
    ) -> tuple[tuple[Layer, ...], tuple[ChannelGroup, ...]]:
        """Layers and channel groups of the finished network `name`, with a loss on each of its outputs.

        groups : key of an extent -> its group; a key without one stands for a constant and cannot be
        """
        if not any(isinstance(layer, WeightLayer) for layer in self._layers):
            raise ModelError(f"network '{name}' has no convolution and no linear layer")
        for output in outputs:
            self.vector(VectorKind.LOSS, (output,), "loss", ONE)
        known = groups()
        layers = [_resolved(layer, known) for layer in self._with_forks()]
        owners = {layer.name: layer for layer in layers if isinstance(layer, WeightLayer)}
        owned = tuple(layer if isinstance(layer, WeightLayer) else _owned(layer, owners) for layer in layers)
        return owned, tuple(dict.fromkeys(known.values()))

    def _with_forks(self) -> list[Layer]:
        """The layers, and after each one that has several readers the addition of their gradients."""
        readers = Counter(source for layer in self._layers for source in layer.sources)
        recorded, self._layers = self._layers, []
        for layer in recorded:
            self._layers.append(layer)
            made = self._made[layer.name]
            if readers[layer.name] > 1 and made.needs_grad:
                self.vector(VectorKind.FORK, (made,), f"{layer.name}.fork", made.elements, readers=readers[layer.name])
        return self._layers


def total(extents: Sequence[Extent]) -> Extent:
    """Their sum."""
    terms: Counter[str] = Counter()
    for extent in extents:
        for group, multiplier in extent.terms:
            terms[group] += multiplier  # type: ignore[assignment]
    return Extent(tuple(terms.items()), sum(extent.constant for extent in extents))


def _resolved(layer: Layer, groups: Mapping[str, ChannelGroup]) -> Layer:
    """With names of groups for keys, in channels of the group's first layer; only weight layers name fixed groups."""

    def named(extent: Extent, *, fixed: bool = False) -> Extent:
        terms: dict[str, Fraction | int] = {}
        constant = extent.constant
        for key, units in extent.terms:
            group = groups[key]
            multiplier = Fraction(units, group.unit_channels[0] if group.unit_channels else 1)
            if group.units or fixed:
                whole = multiplier.numerator if multiplier.denominator == 1 else multiplier
                terms[group.name] = terms.get(group.name, 0) + whole
            else:
                constant += int(multiplier * group.channels)
        return Extent(tuple(terms.items()), constant)

    now = {group.name: group.channels for group in groups.values()}
    return layer.renamed(lambda extent: named(extent, fixed=True), named).resized(now)


def _owned(layer: AttachedLayer, owners: Mapping[str, WeightLayer]) -> AttachedLayer:
    """With the owner that it has if that one knows its channels, else the first one that does, else the first."""
    needs = layer.reads | layer.writes
    if layer.owner and needs <= owners[layer.owner].reads | owners[layer.owner].writes:
        return layer
    knowing = [owner.name for owner in owners.values() if needs <= owner.reads | owner.writes]
    return replace(layer, owner=(knowing or [layer.owner or next(iter(owners))])[0])
