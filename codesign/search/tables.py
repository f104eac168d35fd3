"""Tables of a simulated cost: what each layer costs at each (input level, output level, option)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import CostError
from codesign.search.objective import LayerTable, PointCost
from codesign.search.space import Choice, SearchLayer, Space

Floats = NDArray[np.float64]

CHECKS = 32  # random designs on which tables are compared with the cost itself
TOLERANCE = 1e-6  # relative; sums in another order differ by 1e-12, a missed coupling by far more


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTables:
    """A cost as a constant plus one table per layer.

    layers : shape (levels of in_group or 1, levels of out_group or 1, options) each
    worst_error : largest relative difference from the cost itself on random designs; 0 where the cost is such a sum
    """

    constant: float
    layers: tuple[Floats, ...]
    worst_error: float

    def of(self, space: Space, choice: Choice) -> float:
        """The cost of a choice by the tables."""
        return float(self.of_all(space, [choice])[0])

    def of_all(self, space: Space, choices: Sequence[Choice]) -> Floats:
        """The cost of many choices by the tables."""
        rows = np.asarray(choices, dtype=np.int64).reshape(-1, len(space.sizes))
        total = np.full(len(rows), self.constant)
        for i, (layer, table) in enumerate(zip(space.layers, self.layers, strict=True)):
            ins, outs = (
                np.zeros(len(rows), np.int64) if name is None else rows[:, space.group_index[name]]
                for name in (layer.in_group, layer.out_group)
            )
            total += table[ins, outs, rows[:, len(space.groups) + i]]
        return total


def tabulate(space: Space, cost: PointCost, layer_cost: LayerTable | None = None, *, seed: int = 0) -> CostTables:
    """Tables of `cost`, from `layer_cost` where the caller has one, otherwise from differences of `cost` itself.

    Differences are exact for every cost that is a sum over layers, each depending on its two channel levels and its
    own formats. They take (in levels x out levels x options) calls per layer.
    """
    tables = (
        _from_differences(space, cost) if layer_cost is None else [_checked(x, layer_cost, space) for x in space.layers]
    )
    dense = (0,) * len(space.sizes)
    constant = cost(space.point(dense)) - sum(float(table[0, 0, 0]) for table in tables)
    found = CostTables(constant=constant, layers=tuple(tables), worst_error=0.0)
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(CHECKS):
        choice = tuple(int(rng.integers(n)) for n in space.sizes)
        truth = cost(space.point(choice))
        worst = max(worst, abs(found.of(space, choice) - truth) / abs(truth))
    return CostTables(constant=constant, layers=found.layers, worst_error=worst if worst > TOLERANCE else 0.0)


def shape_of(space: Space, layer: SearchLayer) -> tuple[int, int, int]:
    """(levels of in_group or 1, levels of out_group or 1, options)."""
    ins, outs = (
        1 if name is None else len(space.groups[space.group_index[name]].levels)
        for name in (layer.in_group, layer.out_group)
    )
    return ins, outs, len(layer.formats)


def _checked(layer: SearchLayer, layer_cost: LayerTable, space: Space) -> Floats:
    table = np.asarray(layer_cost(layer), dtype=float)
    if table.shape != shape_of(space, layer):
        raise CostError(
            f"layer '{layer.name}': its table must have shape {shape_of(space, layer)} "
            f"(in levels, out levels, options), got {table.shape}"
        )
    if not np.isfinite(table).all():
        raise CostError(f"layer '{layer.name}': its table holds values that are not finite")
    return table


def _from_differences(space: Space, cost: PointCost) -> list[Floats]:
    """Anchored at the densest design: format effects at each pair of levels, then pairs of levels, then levels."""
    dense = [0] * len(space.sizes)
    known: dict[Choice, float] = {}

    def value(moves: dict[int, int]) -> float:
        choice = list(dense)
        for position, entry in moves.items():
            choice[position] = entry
        key = tuple(choice)
        if key not in known:
            known[key] = cost(space.point(key))
        return known[key]

    base = value({})
    tables: list[Floats] = []
    pairs_done: set[frozenset[int]] = set()
    singles_done: set[int] = set()
    for number, layer in enumerate(space.layers):
        shape = shape_of(space, layer)
        table = np.zeros(shape)
        in_index, out_index = (
            None if name is None else space.group_index[name] for name in (layer.in_group, layer.out_group)
        )
        pair = frozenset(i for i in (in_index, out_index) if i is not None)
        for i, j in itertools.product(range(shape[0]), range(shape[1])):
            if in_index is not None and in_index == out_index and i != j:
                continue
            levels = {g: v for g, v in ((in_index, i), (out_index, j)) if g is not None}
            plain = value(levels)
            for f in range(shape[2]):
                table[i, j, f] = value({**levels, len(space.groups) + number: f}) - plain
            if len(pair) == 2 and pair not in pairs_done:
                table[i, j] += plain - sum(value({g: v}) for g, v in levels.items()) + base
            for g, v in levels.items():
                if g not in singles_done:
                    table[i, j] += value({g: v}) - base
        pairs_done.add(pair)
        singles_done |= pair
        tables.append(table)
    return tables
