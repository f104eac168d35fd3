"""Independent oracles of the search: they enumerate, count or call a solver, and import nothing of the package."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

Floats = NDArray[np.float64]


def all_designs(
    layers: Sequence[tuple[int | None, int | None, Floats, Floats]], group_loss: Sequence[Floats]
) -> list[tuple[float, float]]:
    """(latency, loss) of every design; a layer is (in group, out group, latency table, loss table)."""
    found = []
    for levels in itertools.product(*(range(len(losses)) for losses in group_loss)):
        for options in itertools.product(*(range(table.shape[2]) for _, _, table, _ in layers)):
            latency, loss = 0.0, sum(losses[level] for losses, level in zip(group_loss, levels, strict=True))
            for (in_group, out_group, cost, harm), option in zip(layers, options, strict=True):
                i = 0 if in_group is None else levels[in_group]
                j = 0 if out_group is None else levels[out_group]
                latency += cost[i, j, option]
                loss += harm[i, j, option]
            found.append((latency, float(loss)))
    return found


def front(designs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Designs that no other is at least as good as in both numbers, fastest first; one of each tie."""
    return [a for a in sorted(set(designs)) if not any(b[0] <= a[0] and b[1] <= a[1] and b != a for b in designs)]


def least_loss(latency: Sequence[Floats], loss: Sequence[Floats], budget: float) -> float:
    """Least total loss with one option per layer and total latency at most `budget`, by integer programming."""
    sizes = [len(x) for x in latency]
    one_each = np.zeros((len(sizes), sum(sizes)))
    for row, (start, size) in enumerate(zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True)):
        one_each[row, start : start + size] = 1
    scale = np.concatenate(latency).max()
    result = milp(
        np.concatenate(loss),
        integrality=np.ones(sum(sizes)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(np.concatenate(latency)[None] / scale, -np.inf, budget / scale),
        ],
        options={"mip_rel_gap": 0},
    )
    assert result.success, result.message
    picked = np.round(result.x).astype(bool)
    return float(np.concatenate(loss)[picked].sum())


def area(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Dominated area by inclusion of unit cells between all coordinates that occur."""
    xs = sorted({x for x, _ in points if x < reference[0]} | {reference[0]})
    ys = sorted({y for _, y in points if y < reference[1]} | {reference[1]})
    return sum(
        (x1 - x0) * (y1 - y0)
        for x0, x1 in itertools.pairwise(xs)
        for y0, y1 in itertools.pairwise(ys)
        if any(x <= x0 and y <= y0 for x, y in points)
    )
