"""Channels that leave together, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels that can only leave together, because several layers share them.

    name : the first layer of the group; with a number behind it where channels of that layer form several groups
    layers : names, in the order in which the network runs them; empty for channels of the network's input
    channels : channels of the first layer that belong to the group
    units : how many sets of channels can leave independently; 0 when none can
    unit_channels : per layer, the channels that leave with one unit: 1 unless channels of the layer are tied to each
        other, as those of one attention head
    why_fixed : why no channel can leave; empty when some can
    approximate : where a mean or a norm over these channels makes removing them differ from zeroing them; empty when
        removal is exact
    """

    name: str
    layers: tuple[str, ...]
    channels: int
    units: int
    unit_channels: tuple[int, ...]
    why_fixed: str = ""
    approximate: str = ""

    @property
    def producers(self) -> tuple[str, ...]:
        """Same as `layers`."""
        return self.layers

    @property
    def pinned(self) -> str:
        """Same as `why_fixed`."""
        return self.why_fixed

    @property
    def unit(self) -> int:
        """Channels of the first layer that leave with one unit."""
        return self.unit_channels[0] if self.units else 1
