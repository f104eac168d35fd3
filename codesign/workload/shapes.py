"""Shapes that remember where their numbers come from: a dimension is a product of atoms."""

from __future__ import annotations

import math
from typing import NamedTuple

from codesign.workload.layers import Extent

# The size of the batch while a network is written down: a prime that no other dimension is likely to have.
BATCH = 89


class Atom(NamedTuple):
    """A factor of a dimension.

    group : the channels that it counts; empty for anything else
    is_batch : the examples of a step
    """

    size: int
    group: str = ""
    is_batch: bool = False


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
    atoms = [atom for dim in shape for atom in dim if not atom.is_batch]
    channels = next((atom for atom in atoms if atom.group), None)
    rest = math.prod(atom.size for atom in atoms if atom is not channels)
    return Extent((), rest) if channels is None else Extent(((channels.group, rest),))
