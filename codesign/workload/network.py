"""A whole network as a value: its layers, its channel groups, its batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from codesign.errors import ModelError, did_you_mean
from codesign.workload.layers import Convolution, Layer, Linear, VectorOp, WeightLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels that can only be removed together, because several layers share them.

    producers : weight layers whose output channels these are
    consumers : weight layers that read them
    pinned : why they cannot be changed (the network's input or output, heads of an attention), or empty
    """

    name: str
    channels: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    pinned: str = ""


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
        """The workload of a torch module, traced with `torch.export`.

        example_input : a tensor, or a tuple of tensors, whose first dimension is the batch
        batch : examples per training step; that of `example_input` when left out

        An operation that is not understood raises `ModelError`, which names the node.
        """
        from codesign.workload.trace import trace

        return trace(model, example_input, batch=batch, name=name)

    @property
    def channel_groups(self) -> dict[str, ChannelGroup]:
        """Every channel group by name."""
        return {group.name: group for group in self.groups}

    @property
    def weight_layers(self) -> dict[str, WeightLayer]:
        """Convolutions and linear layers by name, in order of execution."""
        return {layer.name: layer for layer in self.layers if isinstance(layer, Convolution | Linear)}

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Forward multiply-accumulates of one example."""
        return sum(layer.macs for layer in self.layers if not isinstance(layer, VectorOp))

    def with_batch(self, batch: int) -> Workload:
        """The same network with another batch size."""
        return replace(self, batch=batch)

    def with_channels(self, channels: Mapping[str, int]) -> Workload:
        """The network that keeps `channels[layer]` output channels of each named layer.

        What reads, normalises or is tied to those channels follows. Counts that contradict each other within one tied
        group, that exceed what is there or leave nothing, and layers that are pinned, raise `ModelError`.
        """
        counts = {group.name: group.channels for group in self.groups}
        asked: dict[str, str] = {}
        layers = self.weight_layers
        groups = self.channel_groups
        for layer, kept in channels.items():
            if layer not in layers:
                raise ModelError(f"workload '{self.name}' has no weight layer '{layer}'{did_you_mean(layer, layers)}")
            group = groups[layers[layer].out_group]
            if kept <= 0:
                raise ModelError(f"layer '{layer}': {kept} output channels; a layer cannot lose all its channels")
            if kept > group.channels:
                raise ModelError(f"layer '{layer}': {kept} output channels asked for, it has {group.channels}")
            if group.pinned and kept != group.channels:
                raise ModelError(f"layer '{layer}': its {group.channels} output channels are fixed: {group.pinned}")
            if group.name in asked and counts[group.name] != kept:
                raise ModelError(
                    f"layers '{asked[group.name]}' and '{layer}' share their output channels; "
                    f"{counts[group.name]} and {kept} kept contradict each other"
                )
            asked[group.name] = layer
            counts[group.name] = kept
        if not asked:
            return self
        return replace(
            self,
            layers=tuple(layer.resized(counts) for layer in self.layers),
            groups=tuple(replace(group, channels=counts[group.name]) for group in self.groups),
        )
