"""Labels: which channel each index of a tensor stands for, and which channels must stay or go together.

Every index of every dimension of every stored tensor is an *atom*, an integer from 1. Atom 0 stands for whatever cannot
shrink. A tensor that flows through the network carries *labels*: integer arrays with as many dimensions as the tensor,
of full size in the dimensions along which the channel changes and of size 1 in the others. A feature map has one array
of shape [1, C, 1, 1]; attention heads have one of shape [1, heads, 1, head size]; an image has none.

An operation that only moves elements (view, permute, concatenate, split, ...) moves labels by being run on them. The
others state relations between atoms, which `Relations` collects and `Relations.solve` turns into classes: the atoms of
a class are removed together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Labels = tuple[torch.Tensor, ...]
FIXED = 0


class Place(NamedTuple):
    """Where in the network a relation arose."""

    module: str
    operation: str

    def __str__(self) -> str:
        return f"'{self.module or 'the network itself'}' ({self.operation})"


def support(array: torch.Tensor) -> frozenset[int]:
    """The dimensions along which the channel changes."""
    return frozenset(d for d, size in enumerate(array.shape) if size > 1)


def shrink(array: torch.Tensor) -> torch.Tensor:
    """The same labels with size 1 in every dimension along which they do not change."""
    for d, size in enumerate(array.shape):
        if size > 1:
            first = array.narrow(d, 0, 1)
            if array.stride(d) == 0 or bool((array == first).all()):
                array = first
    return array


def first(array: torch.Tensor, dims: Iterable[int]) -> torch.Tensor:
    """The labels at index 0 of `dims`, which become size 1."""
    for d in dims:
        array = array.narrow(d, 0, 1)
    return array


def varies(classes: np.ndarray, array: torch.Tensor, dims: Iterable[int]) -> bool:
    """Whether the class changes along any of `dims`."""
    found = classes[array.numpy()]
    return any(bool((found != found.take([0], axis=d)).any()) for d in dims)


class Same(NamedTuple):
    """The two arrays, broadcast against each other, name the same channels."""

    one: torch.Tensor
    other: torch.Tensor
    place: Place
    why: str


class Grid(NamedTuple):
    """Channels in several dimensions, of which those in `last` may lose some without further reason."""

    array: torch.Tensor
    last: tuple[int, ...]
    place: Place


class Approximation(NamedTuple):
    """An operation whose result changes, if slightly, when channels along `dims` leave."""

    array: torch.Tensor
    dims: tuple[int, ...]
    place: Place


class Relations:
    """What a pass through the network says about its atoms."""

    def __init__(self) -> None:
        self.same: list[Same] = []
        self.loose: list[Same] = []
        self.grids: list[Grid] = []
        self.approximations: list[Approximation] = []
        self.in_rows: set[int] = set()

    def equal(self, one: torch.Tensor, other: torch.Tensor, place: Place, why: str = "") -> None:
        """Channel by channel, `one` and `other` stay or go together."""
        self.same.append(Same(one, other, place, why))

    def pin(self, array: torch.Tensor, place: Place, why: str) -> None:
        """These channels cannot be removed, because `why`."""
        self.equal(array, torch.zeros((1,) * array.ndim, dtype=torch.int64), place, why)

    def tie(self, array: torch.Tensor, dims: Iterable[int], place: Place, why: str = "") -> torch.Tensor:
        """All channels along `dims` stay or go together; returns the labels without those dimensions (size 1)."""
        head = first(array, dims)
        if head.shape != array.shape:
            self.equal(array, head, place, why)
        return head

    def rows(self, array: torch.Tensor, dims: Iterable[int], place: Place) -> torch.Tensor:
        """As `tie`, for a tensor of several dimensions that an operation takes whole along `dims`: as attention takes
        each head, or a convolution each map."""
        head = self.tie(array, dims, place)
        if head.shape != array.shape:
            self.in_rows.update(array.flatten().tolist())
        return head

    def grid(self, array: torch.Tensor, place: Place, *, hidden: bool = False) -> None:
        """Channels laid out in several dimensions: they may leave along one only, so that a rectangle is left.

        That is the last one, as in a channel shuffle, unless an operation takes whole `rows`. `hidden`: the last one is
        not among those of the labels, since the channels along it leave together anyway.
        """
        self.grids.append(Grid(array, () if hidden else (max(support(array)),), place))

    def approximate(self, array: torch.Tensor, dims: Iterable[int], place: Place) -> None:
        """Removing a channel here is not the same as setting it to zero (a mean or a norm over channels)."""
        self.approximations.append(Approximation(array, tuple(dims), place))

    def meet(self, labels: Iterable[torch.Tensor], place: Place, *, loose: bool) -> Labels:
        """Labels of the result of an element-by-element operation on operands of these labels.

        Where one operand changes along fewer dimensions than the other ([size] against [heads, size]) and `loose`
        holds, what follows depends on what is removed in the end: whole heads leave the narrow operand alone.
        """
        kept: list[torch.Tensor] = []
        for array in sorted(labels, key=lambda array: -len(support(array))):
            wide = next((other for other in kept if support(other) & support(array)), None)
            if wide is None:
                kept.append(array)
            elif support(wide) == support(array):
                self.equal(wide, array, place)
            elif support(array) < support(wide) and not loose:
                self.rows(wide, support(wide) - support(array), place)
                self.equal(wide, array, place)
            elif support(array) < support(wide):
                self.loose.append(Same(wide, array, place, ""))
            else:
                why = "two sets of channels cross here in a way that is not understood"
                self.pin(wide, place, why)
                self.pin(array, place, why)
        return tuple(kept)

    def solve(self, atoms: int) -> Classes:
        """The finest classes that satisfy every relation."""
        edges = [_pairs(relation) for relation in self.same]
        why = list(self.same)
        loose, grids = list(self.loose), list(self.grids)
        while True:
            classes = _components(edges, atoms)
            decided = [_loose_edge(classes, relation) for relation in loose]
            loose = []
            if not any(decided):
                grid = next((grid for grid in grids if not self._leaves_a_rectangle(classes, grid)), None)
                if grid is None:
                    break
                across = support(grid.array) - set(grid.last)
                decided = [Same(grid.array, first(grid.array, across), grid.place, "")]
            for relation in filter(None, decided):
                edges.append(_pairs(relation))
                why.append(relation)
        return Classes(classes, why, self)

    def _leaves_a_rectangle(self, classes: np.ndarray, grid: Grid) -> bool:
        along = [d for d in support(grid.array) if varies(classes, grid.array, [d])]
        whole_rows = not self.in_rows.isdisjoint(grid.array.flatten().tolist())
        return set(along) <= set(grid.last) or (len(along) == 1 and whole_rows)

    def first_contradiction(self, classes: Classes) -> Same | None:
        """The first relation that joins two of the given classes, or None."""
        for relation in self.same:
            if not classes.agree(relation):
                return relation
        for relation in self.loose:
            edge = _loose_edge(classes.of, relation)
            if edge is not None and not classes.agree(edge):
                return relation
        return None


class Classes:
    """Which atoms leave together.

    of : int array [atoms]; the class of each atom. `of[0]` is the class of all that cannot leave
    """

    def __init__(self, of: np.ndarray, relations: list[Same], found: Relations) -> None:
        self.of = of
        self._relations = relations
        self._approximations = tuple(found.approximations)
        self._in_rows = np.zeros(len(of), bool)
        self._in_rows[list(found.in_rows)] = True

    def agree(self, relation: Same) -> bool:
        """Whether a relation joins only what is in one class.

        Where a dimension is left with one index, its labels no longer show: atom 0 stands there, and the one row that is
        left meets what is shared by all rows. Neither says anything.
        """
        one, other = _pairs(relation)
        same = (self.of[one] == self.of[other]) | (one == FIXED) | (other == FIXED)
        for row, shared in ((one, other), (other, one)):
            same |= self._in_rows[row] & (self.of[shared] == self.fixed)
        return bool(same.all())

    @property
    def fixed(self) -> int:
        """The class of everything that cannot leave."""
        return int(self.of[FIXED])

    @cached_property
    def near(self) -> np.ndarray:
        """int array [atoms]: what would leave together if nothing were fixed; a class that can leave is one of these."""
        return _components(
            [pairs[:, (pairs != FIXED).all(axis=0)] for pairs in map(_pairs, self._relations)], len(self.of)
        )

    @cached_property
    def _pins(self) -> list[tuple[Same, np.ndarray]]:
        """The relations to atom 0, and the atoms that they fix."""
        found = ((relation, _pairs(relation)) for relation in self._relations)
        fixing = ((relation, pairs[:, (pairs == FIXED).any(axis=0)].max(axis=0)) for relation, pairs in found)
        return [(relation, atoms) for relation, atoms in fixing if atoms.any()]

    def why_fixed(self, atoms: np.ndarray) -> str:
        """Why these atoms cannot leave: the first reason found on the way from them to atom 0."""
        wanted = set(self.near[atoms].tolist())
        for relation, pinned in self._pins:
            if not wanted.isdisjoint(self.near[pinned].tolist()):
                return f"{relation.why or 'they meet a tensor whose size is fixed'}, in {relation.place}"
        return "they are tied to channels that cannot leave"

    def why_approximate(self) -> dict[int, Place]:
        """The classes whose removal is not exactly the same as setting them to zero, and where."""
        found: dict[int, Place] = {}
        for array, dims, place in self._approximations:
            if varies(self.of, array, dims):
                for name in np.unique(self.of[array.numpy()]):
                    found.setdefault(int(name), place)
        return found


def _pairs(relation: Same) -> np.ndarray:
    one, other = np.broadcast_arrays(relation.one.numpy(), relation.other.numpy())
    return np.stack([one.reshape(-1), other.reshape(-1)])


def _components(edges: list[np.ndarray], atoms: int) -> np.ndarray:
    pairs = np.concatenate([np.zeros((2, 0), np.int64), *edges], axis=1)
    graph = coo_matrix((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(atoms, atoms))
    found: np.ndarray = connected_components(graph, directed=False)[1]
    return found


def _loose_edge(classes: np.ndarray, relation: Same) -> Same | None:
    """What a loose relation comes to, once it is known along which dimensions the wide operand loses channels."""
    wide, narrow, place, why = relation
    if varies(classes, wide, support(narrow)):
        return relation
    if varies(classes, narrow, support(narrow)):
        return Same(
            narrow, torch.zeros_like(narrow), place, why or "they are shared by the heads, which leave as a whole"
        )
    return None
