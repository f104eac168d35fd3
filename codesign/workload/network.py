"""A whole network as a value: its layers, its channel groups, its batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from codesign.errors import ModelError, did_you_mean
from codesign.network import ChannelGroup
from codesign.workload.layers import ChannelLayer, Layer, WeightLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Layers in order of execution. Layer names are the qualified names of the torch modules."""

    name: str
    batch: int
    layers: tuple[Layer, ...]
    groups: tuple[ChannelGroup, ...]

    def __post_init__(self) -> None:
        if self.batch <= 0:
            raise ModelError(f"workload '{self.name}': batch must be positive, got {self.batch}")

    @classmethod
    def from_torch(cls, model: Any, example_input: Any, *, batch: int | None = None, name: str = "") -> Workload:
        """The workload of a torch module, from one pass on an example.

        example_input : a tensor, a tuple of arguments or a dictionary of keyword arguments; the first dimension of the
            first tensor is the batch
        batch : examples per training step; that of `example_input` when left out

        An operation that is not understood raises `ModelError`, which names it, its module and what to do.
        """
        from codesign.network import read
        from codesign.workload.lowering import lower

        reading = read(model, example_input)
        name = name or type(model).__name__
        layers, groups = lower(model, reading, name)
        return cls(name=name, batch=reading.batch if batch is None else batch, layers=layers, groups=groups)

    @property
    def channel_groups(self) -> dict[str, ChannelGroup]:
        """Every channel group by name."""
        return {group.name: group for group in self.groups}

    @property
    def weight_layers(self) -> dict[str, WeightLayer]:
        """Convolutions and linear layers by name, in order of execution."""
        return {layer.name: layer for layer in self.layers if isinstance(layer, WeightLayer)}

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Forward multiply-accumulates of one example."""
        return sum(layer.macs for layer in self.layers)

    def with_batch(self, batch: int) -> Workload:
        """The same network with another batch size."""
        return replace(self, batch=batch)

    def with_channels(self, channels: Mapping[str, int]) -> Workload:
        """The network that keeps `channels[layer]` output channels of each named layer.

        What reads, normalises or is tied to those channels follows. Counts that contradict each other within one tied
        group, that exceed what is there or leave nothing, and layers that are pinned, raise `ModelError`.
        """
        layers = {x.name: x for x in self.layers if isinstance(x, ChannelLayer)}
        for layer, kept in channels.items():
            if layer not in layers:
                raise ModelError(f"workload '{self.name}' has no weight layer '{layer}'{did_you_mean(layer, layers)}")
            width = layers[layer].out_channels
            if kept <= 0:
                raise ModelError(f"layer '{layer}': {kept} output channels; a layer cannot lose all its channels")
            if kept > width:
                raise ModelError(f"layer '{layer}': {kept} output channels asked for, it has {width}")
            fixed = [group for group in self.groups if group.name in layers[layer].writes and group.why_fixed]
            if fixed and kept != width and len(fixed) == len(layers[layer].writes):
                raise ModelError(f"layer '{layer}': its {width} output channels are fixed: {fixed[0].why_fixed}")
        return self.resized(self._counts({layers[name]: kept for name, kept in channels.items()})) if channels else self

    def _counts(self, wanted: Mapping[ChannelLayer, int]) -> dict[str, int]:
        """Channels of every group that leave each layer what it is wanted to have; groups of other layers stay whole."""
        groups = self.channel_groups
        counts = {group.name: group.channels for group in self.groups}
        decided: dict[str, ChannelLayer] = {}
        for layer, kept in sorted(wanted.items(), key=lambda item: len(item[0].writes)):
            open_terms = [(g, m) for g, m in layer.outputs.terms if g not in decided and not groups[g].why_fixed]
            missing = kept - layer.outputs.of(counts)
            if len(open_terms) > 1 and missing:
                names = ", ".join(f"'{group}'" for group, _ in open_terms)
                raise ModelError(
                    f"layer '{layer.name}': its channels belong to the groups {names}, so their number does not say which "
                    "of them leave; name the layers that these groups are named after"
                )
            if not open_terms and missing:
                other = next((decided[group].name for group in layer.writes if group in decided), layer.name)
                raise ModelError(
                    f"layers '{other}' and '{layer.name}' share their output channels; "
                    f"{wanted[decided[next(g for g in layer.writes if g in decided)]]} and {kept} kept contradict each other"
                )
            for group, multiplier in open_terms:
                decided[group] = layer
                share = missing / Fraction(multiplier)
                if share.denominator > 1 or (counts[group] + share) * Fraction(1, groups[group].unit) % 1:
                    unit = groups[group].unit_channels[groups[group].layers.index(layer.name)]
                    raise ModelError(
                        f"layer '{layer.name}': channels leave {unit} at a time, so it cannot keep {kept}; keep a "
                        f"multiple of {unit}"
                    )
                counts[group] += int(share)
        return counts

    def resized(self, channels: Mapping[str, int]) -> Workload:
        """The network in which each group has so many channels, as its first layer counts them; exact for any counts."""
        return replace(
            self,
            layers=tuple(layer.resized(channels) for layer in self.layers),
            groups=tuple(
                replace(
                    group, channels=channels[group.name], units=channels[group.name] // group.unit if group.units else 0
                )
                for group in self.groups
            ),
        )
