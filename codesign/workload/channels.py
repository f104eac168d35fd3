"""Which channels can only be removed together, found while a network is read: a union of groups."""

from __future__ import annotations

import math

from codesign.errors import ModelError
from codesign.workload.layers import Extent
from codesign.workload.shapes import Atom, Dim, Shape, size_of


class Channels:
    """Groups of tied channels. The earliest name of a group is its name."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.pinned: dict[str, str] = {}  # root -> why its channels cannot be removed
        self._parent: dict[str, str] = {}
        self._age: dict[str, int] = {}

    def new(self, name: str, size: int, pinned: str = "") -> Atom:
        """A new group of its own."""
        self._parent[name] = name
        self._age[name] = len(self._age)
        self.sizes[name] = size
        if pinned:
            self.pinned[name] = pinned
        return Atom(size, ((name, size),))

    def root(self, group: str) -> str:
        """The name of the group that this one is tied to."""
        while self._parent[group] != group:
            group = self._parent[group]
        return group

    def roots(self) -> list[str]:
        """Every group, oldest first."""
        return [group for group in self._parent if self.root(group) == group]

    def tie(self, one: str, other: str) -> None:
        """These channels can only be removed together."""
        first, second = sorted((self.root(one), self.root(other)), key=self._age.__getitem__)
        if first == second:
            return
        self._parent[second] = first
        if second in self.pinned:
            self.pinned.setdefault(first, self.pinned.pop(second))

    def pin(self, dims: Shape, why: str) -> None:
        """The channels in these dimensions cannot be removed."""
        for dim in dims:
            for atom in dim:
                for group, _ in atom.parts:
                    self.pinned.setdefault(self.root(group), why)

    def resolved(self, extent: Extent) -> Extent:
        """With every group replaced by the one that it is tied to."""
        terms: dict[str, int] = {}
        for group, multiplier in extent.terms:
            terms[self.root(group)] = terms.get(self.root(group), 0) + multiplier
        return Extent(tuple(terms.items()), extent.constant)

    def meet(self, left: Dim, right: Dim) -> Dim:
        """A dimension of two tensors that are combined element by element."""
        if all(atom.free for atom in left):
            return right
        if all(atom.free for atom in right):
            return left
        if [atom.size for atom in left] != [atom.size for atom in right]:
            self.pin((left, right), "combined with a tensor that is divided otherwise")
            return (Atom(size_of(left)),)
        met = []
        for one, other in zip(left, right, strict=True):
            if one.parts and other.parts:
                if [size for _, size in one.parts] == [size for _, size in other.parts]:
                    for (group, _), (partner, _) in zip(one.parts, other.parts, strict=True):
                        self.tie(group, partner)
                else:
                    self.pin(((one, other),), "combined with channels that are concatenated otherwise")
                met.append(one)
            elif one.parts or other.parts:
                channels = one if one.parts else other
                self.pin(((channels,),), "combined with a tensor that has no channels to remove")
                met.append(channels)
            else:
                met.append(other if other.is_batch else one)
        return tuple(met)

    def broadcast(self, one: Shape, other: Shape) -> Shape:
        """The shape of an elementwise result; channels that meet are tied."""
        width = max(len(one), len(other))
        pairs = zip(((),) * (width - len(one)) + one, ((),) * (width - len(other)) + other, strict=True)
        result: list[Dim] = []
        for left, right in pairs:
            if size_of(left) == 1 or size_of(right) == 1:
                result.append(right if size_of(left) == 1 else left)
            else:
                result.append(self.meet(left, right))
        return tuple(result)

    def concatenate(self, shapes: list[Shape], axis: int) -> Shape:
        """Channels side by side stay what they are; other dimensions must be alike."""
        result = list(shapes[0])
        for shape in shapes[1:]:
            for d in range(len(result)):
                if d != axis:
                    result[d] = self.meet(result[d], shape[d])
        along = [shape[axis] for shape in shapes]
        size = sum(size_of(dim) for dim in along)
        if all(len(dim) == 1 and dim[0].parts for dim in along):
            result[axis] = (Atom(size, tuple(part for dim in along for part in dim[0].parts)),)
        else:
            self.pin(tuple(along), "concatenated with a tensor that has no channels to remove")
            result[axis] = (Atom(size),)
        return tuple(result)

    def reshape(self, shape: Shape, sizes: list[int], where: str) -> Shape:
        """The same numbers in dimensions of other sizes; channels that are split are pinned."""
        atoms = [atom for dim in shape for atom in dim if atom.size != 1]
        result = []
        for size in sizes:
            dim: list[Atom] = []
            need = size
            while need > 1:
                atom = atoms.pop(0)
                if need % atom.size == 0:
                    dim.append(atom)
                    need //= atom.size
                    continue
                common = math.gcd(need, atom.size)
                if atom.is_batch or common == 1:
                    raise ModelError(f"node '{where}': a reshape to {sizes} that mixes dimensions is not understood")
                self.pin(((atom,),), "a reshape splits them")
                dim.append(Atom(common, free=atom.free))
                atoms.insert(0, Atom(atom.size // common, free=atom.free))
                need //= common
            result.append(tuple(dim))
        return tuple(result)
