"""Cells: classes of channels that every tensor holds equally often, so that sizes depend on how many are left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from codesign.network.groups import ChannelGroup
from codesign.network.labels import FIXED, Classes


class Cells:
    """The coarsest partition of classes such that each of `arrays` holds all classes of a cell equally often.

    Channels that cannot leave have cells too, by what they would be tied to if they could.
    """

    def __init__(self, classes: Classes, arrays: Iterable[torch.Tensor]) -> None:
        self._classes = classes
        self._near = classes.near
        self._of = np.zeros(self._near.max() + 1, np.int64)
        sizes = {0: len(self._of)}
        self._free = np.zeros(len(self._of), bool)
        self._free[self._near[classes.of != classes.fixed]] = True
        for array in (np.flatnonzero(self._free), *(self._members(a) for a in arrays)):
            ids, counts = np.unique(array, return_counts=True)
            keys, where, group_sizes = np.unique(
                np.stack([self._of[ids], counts]), axis=1, return_inverse=True, return_counts=True
            )
            for i, (cell, size) in enumerate(zip(keys[0].tolist(), group_sizes.tolist(), strict=True)):
                if sizes[cell] > size:
                    sizes[cell] -= size
                    sizes[len(sizes)] = size
                    self._of[ids[where.reshape(-1) == i]] = len(sizes) - 1

    def _members(self, array: torch.Tensor) -> np.ndarray:
        atoms = array.numpy().reshape(-1)
        found: np.ndarray = self._near[atoms[atoms != FIXED]]
        return found

    def seen(self, array: torch.Tensor) -> np.ndarray:
        """Labels by class, of size 1 along dimensions along which the class does not change; -1 for what never leaves."""
        found: np.ndarray = np.where(array.numpy() == FIXED, -1, self._near[array.numpy()])
        for d, size in enumerate(found.shape):
            if size > 1 and bool((found == found.take([0], axis=d)).all()):
                found = found.take([0], axis=d)
        return found

    @staticmethod
    def joined(arrays: Sequence[torch.Tensor]) -> torch.Tensor:
        """Labels one after the other."""
        return torch.cat(list(arrays))

    def counts(self, seen: np.ndarray) -> tuple[dict[int, int], int]:
        """How often each class of a cell occurs in labels by class, and how many of the labels never leave."""
        ids, counts = np.unique(seen, return_counts=True)
        never = int(counts[ids < 0].sum())
        held = ids >= 0
        return dict(zip(self._of[ids[held]].tolist(), counts[held].tolist(), strict=True)), never

    def size(self, cell: int) -> int:
        """How many classes the cell has."""
        return int((self._of == cell).sum())

    def is_free(self, cell: int) -> bool:
        """Whether some classes of the cell can leave."""
        return bool(self._free[self._of == cell][0])

    def groups(self, outputs: Mapping[str, torch.Tensor | None], held: Mapping[int, str]) -> dict[int, ChannelGroup]:
        """Cell -> group, for every cell that is an output of one of the layers, in the order of the layers.

        outputs : layer -> labels of its output channels; None where they are not followed
        held : cell -> why its channels stay, for reasons that the classes do not know
        """
        holders: dict[int, dict[str, int]] = {}
        members = {name: np.zeros(0, np.int64) if a is None else self._members(a) for name, a in outputs.items()}
        for name, ids in members.items():
            for cell, count in self.counts(ids)[0].items():
                holders.setdefault(cell, {})[name] = count
        approximate = self._classes.why_approximate()
        found: dict[int, ChannelGroup] = {}
        names: set[str] = set()
        for cell, layers in holders.items():
            first = next(iter(layers))
            name, number = first, 2
            while name in names:
                name, number = f"{first}.{number}", number + 1
            names.add(name)
            ids = np.flatnonzero(self._of == cell)
            atoms = np.flatnonzero(np.isin(self._near, ids))
            why = held.get(cell, "")
            if not self._free[ids[0]]:
                why = self._classes.why_fixed(np.intersect1d(atoms, outputs[first].numpy()))  # type: ignore[union-attr]
            elif len(ids) == 1 and all(set(members[layer].tolist()) == set(ids.tolist()) for layer in layers):
                why = "all of these channels are tied to each other"
            places = [approximate[c] for c in np.unique(self._classes.of[atoms]).tolist() if c in approximate]
            found[cell] = ChannelGroup(
                name=name,
                layers=tuple(layers),
                channels=layers[first] * len(ids),
                units=0 if why else len(ids),
                unit_channels=tuple(layers.values()),
                why_fixed=why,
                approximate="" if why or not places else str(places[0]),
            )
        return found
