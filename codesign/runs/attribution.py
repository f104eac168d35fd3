"""What pruning bought, and what the format of each role bought, of the time between two designs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from codesign.design import DesignPoint, LayerFormats, Role
from codesign.runs.run_cost import RunCost

PRUNING = "pruning"


def gains_s(run_cost: RunCost, start: DesignPoint, end: DesignPoint) -> dict[str, float]:
    """Seconds of a whole run that each change from `start` to `end` saves; they add up to the difference.

    The changes are the channels and the format of each role in all layers; those that are the same in both are left
    out. What a change saves depends on the changes before it (a narrow weight does not speed up a product whose other
    operand is wide), so each is given its mean saving over all orders: its Shapley value (Shapley 1953, "A value for
    n-person games").
    """
    layers = sorted({name for point in (start, end) for name, _ in point.formats})
    changes = [PRUNING] if start.channels != end.channels else []
    changes += [role for role in Role if _differs(start, end, layers, role)]
    latency_s = {made: run_cost.latency_s(_between(start, end, layers, made)) for made in _subsets(changes)}
    count = len(changes)
    saved = {}
    for change in changes:
        saved[str(change)] = sum(
            math.factorial(len(made))
            * math.factorial(count - len(made) - 1)
            / math.factorial(count)
            * (latency_s[made] - latency_s[made | {change}])
            for made in latency_s
            if change not in made
        )
    return saved


def _differs(start: DesignPoint, end: DesignPoint, layers: list[str], role: Role) -> bool:
    pairs = [(start.formats_of(name), end.formats_of(name)) for name in layers] + [(start.default, end.default)]
    return any(getattr(a, role) != getattr(b, role) for a, b in pairs)


def _subsets(changes: list[str]) -> Iterable[frozenset[str]]:
    return (frozenset(made) for size in range(len(changes) + 1) for made in combinations(changes, size))


def _between(start: DesignPoint, end: DesignPoint, layers: list[str], made: frozenset[str]) -> DesignPoint:
    """`start` with some of the changes made."""

    def mixed(a: LayerFormats, b: LayerFormats) -> LayerFormats:
        return replace(a, **{role.value: getattr(b, role) for role in Role if role in made})

    return DesignPoint(
        channels=(end if PRUNING in made else start).channels,
        formats=tuple((name, mixed(start.formats_of(name), end.formats_of(name))) for name in layers),
        default=mixed(start.default, end.default),
    )
