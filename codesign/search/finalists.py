"""Which designs of a front further seeds are worth most for."""

from __future__ import annotations

import itertools
import math

from codesign.search.front import CONFIDENCE_Z, Measured, ParetoFront


def finalists(front: ParetoFront, accuracy_floor: float | None) -> list[Measured]:
    """Designs of a front in the order in which further seeds are worth most.

    With a floor, first the designs whose interval holds it, nearest first, as far as none is known to meet it and to be
    faster. Then, spread along the front, the leading designs that the noise leaves undecided: no faster one is worse
    beyond it. Then the other leading designs, and last those that lead only within the noise.
    """
    pairs = list(zip(front.members, front.leading, strict=True))
    leading = [m for m, leads in pairs if leads]
    unsure: list[Measured] = []
    if accuracy_floor is not None:
        floor = accuracy_floor
        sure_s = min((m.latency_s for m in front.members if m.interval[0] >= floor), default=math.inf)
        unsure = [m for m in front.members if m.interval[0] < floor <= m.interval[1] and m.latency_s < sure_s]
        unsure.sort(key=lambda m: abs(m.accuracy - floor))
    noise = [math.hypot(a.standard_error, b.standard_error) for a, b in itertools.pairwise(leading)]
    steps = [b.accuracy - a.accuracy for a, b in itertools.pairwise(leading)]
    near = [step <= CONFIDENCE_Z * error for step, error in zip(steps, noise, strict=True)]
    contested = [m for i, m in enumerate(leading) if any(near[max(i - 1, 0) : i + 1])]
    spread = [[some[i] for i in _by_halving(len(some))] for some in (contested, leading)]
    rest = [m for m, leads in pairs if not leads]
    return list({m.point: m for m in [*unsure, *spread[0], *spread[1], *rest]}.values())


def _by_halving(count: int) -> list[int]:
    """0 .. count - 1, ordered so that every beginning is spread out: the ends, the middle, the quarters, ..."""
    order: dict[int, None] = {}
    parts = 1
    while len(order) < count:
        for i in range(parts + 1):
            order[round(i * (count - 1) / parts)] = None
        parts *= 2
    return list(order)
