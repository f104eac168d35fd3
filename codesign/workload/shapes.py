"""Shapes that remember where their numbers come from: a dimension is a product of atoms."""

from __future__ import annotations

import math
from typing import NamedTuple

from codesign.workload.layers import Extent

# The size of the batch while a network is read: a prime that no other dimension is likely to have.
TRACED_BATCH = 89


class Atom(NamedTuple):
    """A factor of a dimension.

    parts : (channel group, size), one of them or the parts of a concatenation; empty for anything else
    is_batch : the examples of a step
    free : belongs to a parameter or a constant, which follows whatever channels it meets
    """

    size: int
    parts: tuple[tuple[str, int], ...] = ()
    is_batch: bool = False
    free: bool = False


Dim = tuple[Atom, ...]
Shape = tuple[Dim, ...]


def size_of(dim: Dim) -> int:
    """The dimension as a number."""
    return math.prod(atom.size for atom in dim)


def has_batch(shape: Shape) -> bool:
    """Does the tensor differ from example to example?"""
    return any(atom.is_batch for dim in shape for atom in dim)


def extent_of(shape: Shape) -> Extent:
    """Elements of one example."""
    constant = 1
    channels: tuple[tuple[str, int], ...] = ()
    for dim in shape:
        for atom in dim:
            if atom.is_batch:
                continue
            if atom.parts and not channels:
                channels = atom.parts
            else:
                constant *= atom.size
    if not channels:
        return Extent((), constant)
    terms: dict[str, int] = {}
    for group, _ in channels:
        terms[group] = terms.get(group, 0) + constant
    return Extent(tuple(terms.items()))


def total(extents: list[Extent]) -> Extent:
    """Their sum."""
    terms: dict[str, int] = {}
    for extent in extents:
        for group, multiplier in extent.terms:
            terms[group] = terms.get(group, 0) + multiplier
    return Extent(tuple(terms.items()), sum(extent.constant for extent in extents))
