"""Which channels of a network can leave, and which of them leave together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from torch import nn

from codesign.errors import ModelError, did_you_mean
from codesign.prune.labels import Classes, Place
from codesign.prune.rules import Findings, tensors
from codesign.prune.trace import Example, Stored, number, watch


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Layers whose output channels are tied: by a residual add, a depthwise convolution, a shared weight, ...

    layers : names, in the order in which the network runs them
    units : how many sets of channels can leave independently; 0 when none can
    unit_channels : per layer, the channels that leave with one unit (1 unless channels of the layer are tied to each
        other, as those of one attention head); 0 when its units differ in size
    why_fixed : why no channel can leave; empty when some can
    approximate : where a mean or a norm over these channels makes removing them differ from zeroing them; empty when
        removal is exact
    """

    layers: tuple[str, ...]
    units: int
    unit_channels: tuple[int, ...]
    why_fixed: str
    approximate: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ChannelGroups:
    """The result of `channel_groups`: the layers of a network and how their channels depend on each other.

    layers : layer name -> atoms of its output channels, in order
    stored : tensor name -> its atoms
    example : what the network was run on; a cut is checked by running it again
    """

    layers: Mapping[str, np.ndarray]
    stored: Mapping[str, Stored]
    classes: Classes
    findings: Findings
    example: Example
    opaque: tuple[str, ...]
    reached: frozenset[str]

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
        return self.classes.of[self.atoms(layer)]

    def group_of(self, layer: str) -> ChannelGroup:
        """The group that one layer belongs to."""
        self.atoms(layer)
        return next(group for group in self.groups if layer in group.layers)

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """Every group, in the order in which the network runs them."""
        found: list[tuple[list[str], set[int]]] = []
        for name in self.layers:
            names, own = [name], set(self.classes_of(name).tolist()) - {self.classes.fixed}
            for other in [group for group in found if not own.isdisjoint(group[1])]:
                found.remove(other)
                names, own = [*other[0], *names], other[1] | own
            found.append((names, own))
        order = list(self.layers)
        found.sort(key=lambda group: order.index(group[0][0]))
        approximate = self.classes.why_approximate()
        return tuple(self._group(tuple(names), approximate) for names, _ in found)

    def _group(self, names: tuple[str, ...], approximate: Mapping[int, Place]) -> ChannelGroup:
        units: set[int] = set()
        sizes = []
        for name in names:
            found, counts = np.unique(self.classes_of(name), return_counts=True)
            free = found != self.classes.fixed
            units |= set(found[free].tolist())
            sizes.append(int(counts[free][0]) if free.any() and len(set(counts[free].tolist())) == 1 else 0)
        if len(units) == 1 and all(len(set(self.classes_of(name).tolist())) == 1 for name in names):
            why = "all of these channels are tied to each other"
            units = set()
        else:
            why = "" if units else self.classes.why_fixed(self.layers[names[0]])
        place = next((approximate[unit] for unit in sorted(units) if unit in approximate), None)
        return ChannelGroup(
            layers=names,
            units=len(units),
            unit_channels=tuple(sizes),
            why_fixed=why,
            approximate="" if place is None else str(place),
        )

    @cached_property
    def batch(self) -> int:
        """Size of the example's batch: the first dimension of its first tensor."""
        values = list(self.example.values()) if isinstance(self.example, Mapping) else [self.example]
        return int(next(iter(tensors(values))).shape[0])

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
        return total // self.batch

    def gone(self, removed: Collection[int]) -> np.ndarray:
        """bool [atoms]: whether each atom is in one of the classes `removed`."""
        leaving = np.zeros(len(self.classes.of), bool)
        leaving[list(removed)] = True
        return leaving[self.classes.of]

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

    The pass runs in evaluation mode without gradients; the model is left as it was. Any Python code in its modules will
    do, as long as channels pass through torch operations that have a rule; else the error names the module.

    Parameters
    ----------
    example_input : what the model is called with: a tensor, a tuple of arguments or a dictionary of keyword arguments.
        One image is enough. It is kept, because every cut is checked by a pass of the smaller network
    opaque : names of modules not to look into: they are left as they are, and so are the channels that enter them.
        Modules that the example does not reach (a head used in training only) must be named here
    """
    if hasattr(model, "_orig_mod"):
        raise ModelError("the network is compiled (torch.compile); prune the module that was compiled, then compile it")
    known = dict(model.named_modules())
    for name in opaque:
        if name not in known:
            raise ModelError(f"opaque: the network has no module '{name}'{did_you_mean(name, known)}")
    stored = number(model)
    watched = watch(model, example_input, {name: tensor.atoms for name, tensor in stored.items()}, opaque)
    for name, tensor in stored.items():
        hidden = any(tensor.module == module or tensor.module.startswith(module + ".") for module in opaque)
        if tensor.is_parameter and name not in watched.reached and not hidden:
            raise ModelError(
                f"parameter '{name}' took no part when the network ran on the example in evaluation mode, so what "
                f"depends on it is unknown; name its module in opaque=['{tensor.module}'] to leave it as it is"
            )
    atoms = 1 + sum(sum(tensor.shape) for tensor in stored.values())
    classes = watched.findings.relations.solve(atoms)
    return ChannelGroups(
        layers=_layers(stored, watched.findings),
        stored=stored,
        classes=classes,
        findings=watched.findings,
        example=example_input,
        opaque=tuple(opaque),
        reached=frozenset(watched.reached),
    )


def _layers(stored: Mapping[str, Stored], findings: Findings) -> dict[str, np.ndarray]:
    """Layers by the name of the module that owns the weight, or of the weight where one module owns several."""
    owner: dict[int, Stored] = {
        int(atoms[0]): tensor for tensor in stored.values() for atoms in tensor.atoms if len(atoms)
    }
    weights: dict[str, np.ndarray] = {}
    for product in findings.products:
        if product.outputs is not None:
            atoms = product.outputs.numpy()
            tensor = owner.get(int(atoms[0]))
            if tensor is not None:
                weights.setdefault(tensor.name, atoms)
    modules = [_module(stored[name]) for name in weights]
    return {
        module if modules.count(module) == 1 else name: atoms
        for (name, atoms), module in zip(weights.items(), modules, strict=True)
    }


def _module(tensor: Stored) -> str:
    """Owning module; a parametrized weight belongs to the module that uses it."""
    return tensor.module.split(".parametrizations.")[0]
