"""What a reading records: tensors and the operations between them, in the order in which the network runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from codesign.network.kinds import OperationKind
from codesign.network.labels import Labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Value:
    """A tensor at one moment of the pass.

    index : distinguishes it from all others; a view has one of its own
    labels : which channels its indices stand for (`labels.py`); size 1 along dimensions without channels
    expanded : dimensions that repeat the same numbers (stride 0)
    real : its numbers are floating-point numbers
    flows : the example flows into it, so that it differs from example to example
    learned : a parameter flows into it
    parameter : name of the parameter that it is, or is a view of; empty for anything else
    part : of a view of a parameter, where in it the numbers begin, and how many they are
    """

    index: int
    shape: tuple[int, ...]
    labels: Labels
    expanded: frozenset[int]
    real: bool
    flows: bool
    learned: bool
    parameter: str
    part: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One operation as the network wrote it.

    name : of ATen, without overload and without trailing underscore
    module : qualified name of the module whose code ran
    arguments : by name; tensors are `Value`s
    """

    kind: OperationKind
    name: str
    module: str
    arguments: Mapping[str, Any]
    outputs: tuple[Value, ...]

    def __str__(self) -> str:
        return f"operation '{self.name}' of module '{self.module or 'the network itself'}'"

    @property
    def operands(self) -> list[Value]:
        """Every tensor that it reads, in order, as often as it is named."""
        return list(_values(self.arguments.values()))


def _values(arguments: Any) -> Iterator[Value]:
    for argument in arguments:
        if isinstance(argument, Value):
            yield argument
        elif isinstance(argument, (tuple, list)):
            yield from _values(argument)


def expanded(tensor: torch.Tensor) -> frozenset[int]:
    """Dimensions that repeat the same numbers."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return frozenset(d for d, (size, stride) in enumerate(pairs) if stride == 0 and size > 1)
