"""Which channels of a network can leave, and which of them leave together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import nn

from codesign.errors import ModelError, did_you_mean
from codesign.network import ChannelGroup, Classes, Example, Findings, Reading, Stored, read


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ChannelGroups:
    """The result of `channel_groups`: the layers of a network and how their channels depend on each other.

    reading : the pass that they were found in
    """

    reading: Reading

    @property
    def layers(self) -> Mapping[str, np.ndarray]:
        """Layer name -> atoms of its output channels, in order."""
        return self.reading.layers

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Tensor name -> its atoms."""
        return self.reading.stored

    @property
    def classes(self) -> Classes:
        """Which atoms leave together."""
        return self.reading.classes

    @property
    def findings(self) -> Findings:
        """What else the pass found."""
        return self.reading.findings

    @property
    def channels(self) -> dict[str, int]:
        """Output channels of every layer of which some can leave."""
        return {name: self.width(name) for group in self.groups if group.units for name in group.layers}

    def width(self, layer: str) -> int:
        """Output channels of one layer."""
        return len(self.atoms(layer))

    def atoms(self, layer: str) -> np.ndarray:
        """Atoms of the output channels of one layer, in order."""
        if layer not in self.layers:
            raise ModelError(f"the network has no layer '{layer}'{did_you_mean(layer, self.layers)}")
        return self.layers[layer]

    def classes_of(self, layer: str) -> np.ndarray:
        """Class of each output channel of one layer."""
        found: np.ndarray = self.classes.of[self.atoms(layer)]
        return found

    def group_of(self, layer: str) -> ChannelGroup:
        """The group of one layer's channels; of several, the first that can lose some, else the first."""
        self.atoms(layer)
        found = [group for group in self.groups if layer in group.layers]
        return next((group for group in found if group.units), found[0])

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """Every group, in the order in which the network runs them."""
        outputs = {name: torch.from_numpy(atoms) for name, atoms in self.layers.items()}
        return tuple(self.reading.cells.groups(outputs, {}).values())

    def tied_to(self, layer: str) -> tuple[str, ...]:
        """The layers whose counts depend on each other through groups that they share, `layer` among them."""
        found, groups = {layer}, list(self.groups)
        while True:
            more = {name for group in groups if not found.isdisjoint(group.layers) for name in group.layers}
            if more <= found:
                return tuple(name for name in self.layers if name in found)
            found |= more

    def sizes(self, removed: Collection[int] = ()) -> dict[str, tuple[int, ...]]:
        """Shape of every stored tensor when the classes `removed` are gone."""
        gone = self.gone(removed)
        return {
            name: tuple(int((~gone[atoms]).sum()) for atoms in stored.atoms) for name, stored in self.stored.items()
        }

    def parameters(self, removed: Collection[int] = ()) -> int:
        """Number of parameters when the classes `removed` are gone."""
        sizes = self.sizes(removed)
        return sum(prod(sizes[name]) for name, stored in self.stored.items() if stored.is_parameter)

    def macs(self, removed: Collection[int] = ()) -> int:
        """Multiply-accumulates of one example's forward pass (convolutions, matrix products, attention)."""
        gone = self.gone(removed)
        total = 0
        for product in self.findings.products:
            total += product.fixed * prod(int((~gone[array.numpy()]).sum()) for array in product.counted)
        return total // self.reading.batch

    def gone(self, removed: Collection[int]) -> np.ndarray:
        """bool [atoms]: whether each atom is in one of the classes `removed`."""
        leaving = np.zeros(len(self.classes.of), bool)
        leaving[list(removed)] = True
        gone: np.ndarray = leaving[self.classes.of]
        return gone

    def __repr__(self) -> str:
        return f"<ChannelGroups of {len(self.layers)} layers>"

    def __str__(self) -> str:
        lines = []
        for group in self.groups:
            names = ", ".join(f"{name} {self.width(name)}" for name in group.layers)
            note = f"fixed: {group.why_fixed}" if group.why_fixed else f"{group.units} units"
            if group.approximate:
                note += f"; removal is approximate, see {group.approximate}"
            lines.append(f"{names}: {note}")
        return "\n".join(lines)


def channel_groups(model: nn.Module, example_input: Example, *, opaque: Collection[str] = ()) -> ChannelGroups:
    """Find by one forward pass which channels of `model` depend on each other.

    The pass is that of `codesign.network.read`. Any Python code in the network's modules will do, as long as channels
    pass through torch operations that have a rule; else the error names the module.

    Parameters
    ----------
    example_input : what the model is called with: a tensor, a tuple of arguments or a dictionary of keyword arguments.
        One image is enough. It is kept, because every cut is checked by a pass of the smaller network
    opaque : names of modules not to look into: they are left as they are, and so are the channels that enter them.
        Modules that the example does not reach must be named here
    """
    reading = read(model, example_input, opaque=opaque)
    for refusal in reading.refusals:
        raise refusal
    for tensor in reading.unreached:
        raise ModelError(
            f"parameter '{tensor.name}' took no part when the network ran on the example in training mode nor in "
            f"evaluation mode, so what depends on it is unknown; name its module in opaque=['{tensor.module}'] to leave "
            "it as it is"
        )
    return ChannelGroups(reading=reading)
