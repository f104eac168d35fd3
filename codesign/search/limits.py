"""What a design must meet, and what to say when none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.errors import InfeasibleError
from codesign.search.dp import Problem, front_of
from codesign.search.front import Measured
from codesign.search.tables import Cost, CostTables, LayerCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A further simulated cost, such as energy, area or peak memory, recorded for every trial.

    limit : no design above it is proposed by `dp`, nor is one the `best`; None for a cost that is only recorded
    layer_cost : its tables, as `layer_latency` gives those of latency
    """

    cost: Cost
    limit: float | None = None
    layer_cost: LayerCost | None = None


def check_reachable(problem: Problem) -> None:
    """Refuse limits that no design of the space can meet, before anything is trained."""
    limits = {name: (tables, limit, "") for name, (tables, limit) in problem.limited.items()}
    if problem.latency_limit_s is not None:
        limits["latency"] = (problem.latency, problem.latency_limit_s, " s")
    for name, (tables, limit, unit) in limits.items():
        least = _least(problem, tables) * (1.0 - min(tables.worst_error, 1.0))
        if least > limit:
            raise InfeasibleError(
                f"no design of the space has {name} <= {limit:g}{unit}, the least it reaches is {least:.4g}{unit}; "
                "raise the limit, or add smaller channel levels or narrower formats to the space"
            )


def _least(problem: Problem, tables: CostTables) -> float:
    nothing = [np.zeros(size) for size in problem.space.sizes]
    return tables.constant + float(front_of(problem, tables.layers, nothing).latency_s[0])


def best_of(
    measured: Sequence[Measured],
    metrics: Mapping[str, Metric],
    accuracy_floor: float | None,
    latency_limit_s: float | None,
) -> Measured | None:
    """The fastest design that meets the floor and all limits; without a floor the most accurate within the limits.

    None if there is neither a floor nor a limit.

    Raises
    ------
    InfeasibleError : no measured design meets them; the message names the nearest values that one did reach
    """
    limited = {name: m.limit for name, m in metrics.items() if m.limit is not None}
    if accuracy_floor is None and latency_limit_s is None and not limited:
        return None
    within = [
        m
        for m in measured
        if (latency_limit_s is None or m.latency_s <= latency_limit_s)
        and all(dict(m.metrics)[name] <= limit for name, limit in limited.items())
    ]
    if accuracy_floor is None and within:
        return max(within, key=lambda m: (m.accuracy, -m.latency_s))
    accurate = [m for m in measured if accuracy_floor is not None and m.accuracy >= accuracy_floor]
    both = [m for m in within if m in accurate]
    if both:
        return min(both, key=lambda m: (m.latency_s, -m.accuracy))
    wanted = ([] if accuracy_floor is None else [f"accuracy >= {accuracy_floor:g}"]) + (
        ([] if latency_limit_s is None else [f"latency <= {latency_limit_s:g} s"])
        + [f"{name} <= {limit:g}" for name, limit in limited.items()]
    )
    levers = []
    if accuracy_floor is not None and within:
        most = max(m.accuracy for m in within)
        levers.append(f"lower the accuracy floor to {most:.4g}, the most that was measured within the limits")
    if accurate and latency_limit_s is not None:
        levers.append(f"raise the latency limit to {min(m.latency_s for m in accurate):.4g} s")
    if accurate:
        least = {name: min(dict(m.metrics)[name] for m in accurate) for name in limited}
        levers += [f"raise the limit of {name} to {value:.4g}" for name, value in least.items()]
    if accuracy_floor is not None and not accurate:
        levers.append("train longer, or allow more channels and wider formats")
    raise InfeasibleError(
        f"none of {len(measured)} measured designs has {' and '.join(wanted)}; "
        f"{', or '.join(levers) or 'spend a larger budget'}"
    )
