"""Which channels can only be removed together, found while a network is written down: a union of groups."""

from __future__ import annotations

from codesign.errors import ModelError
from codesign.workload.shapes import Atom, Dim, Shape, size_of


class Channels:
    """Groups of tied channels. The earliest name of a group is its name.

    sizes : name -> how many sets of channels can leave independently
    pinned : root -> why its channels cannot be removed
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.pinned: dict[str, str] = {}
        self._parent: dict[str, str] = {}

    def new(self, name: str, size: int, pinned: str = "") -> Atom:
        """A new group of its own."""
        self._parent[name] = name
        self.sizes[name] = size
        if pinned:
            self.pinned[name] = pinned
        return Atom(size, group=name)

    def root(self, group: str) -> str:
        """The name of the group that this one is tied to."""
        while self._parent[group] != group:
            group = self._parent[group]
        return group

    def names(self) -> list[str]:
        """Every name, oldest first."""
        return list(self._parent)

    def roots(self) -> list[str]:
        """Every group, oldest first."""
        return [group for group in self._parent if self.root(group) == group]

    def tie(self, one: str, other: str) -> None:
        """These channels can only be removed together."""
        names = self.names()
        first, second = sorted((self.root(one), self.root(other)), key=names.index)
        if first == second:
            return
        self._parent[second] = first
        if second in self.pinned:
            self.pinned.setdefault(first, self.pinned.pop(second))

    def pin(self, dims: Shape, why: str) -> None:
        """The channels in these dimensions cannot be removed."""
        for dim in dims:
            for atom in dim:
                if atom.group:
                    self.pinned.setdefault(self.root(atom.group), why)

    def broadcast(self, one: Shape, other: Shape) -> Shape:
        """The shape of an elementwise result; channels that meet are tied."""
        width = max(len(one), len(other))
        pairs = zip(((),) * (width - len(one)) + one, ((),) * (width - len(other)) + other, strict=True)
        return tuple(
            left if size_of(right) == 1 else right if size_of(left) == 1 else self._meet(left, right)
            for left, right in pairs
        )

    def _meet(self, left: Dim, right: Dim) -> Dim:
        if [atom.size for atom in left] != [atom.size for atom in right]:
            raise ModelError(f"dimensions {left} and {right} are divided differently; divide them alike")
        for one, other in zip(left, right, strict=True):
            if one.group and other.group:
                self.tie(one.group, other.group)
        return tuple(one if one.group or one.is_batch else other for one, other in zip(left, right, strict=True))


def reshape(shape: Shape, sizes: list[int]) -> Shape:
    """The same numbers in dimensions of other sizes; a factor of a dimension stays in one piece."""
    atoms = [atom for dim in shape for atom in dim if atom.size != 1]
    result = []
    for size in sizes:
        dim: list[Atom] = []
        need = size
        while need > 1:
            atom = atoms.pop(0)
            if need % atom.size:
                raise ModelError(f"a reshape to {sizes} divides a factor of {atom.size}; divide it where it is made")
            dim.append(atom)
            need //= atom.size
        result.append(tuple(dim))
    return tuple(result)
