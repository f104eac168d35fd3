"""What `dp` solves: tables of every simulated cost that matters, the limits, and the front of a cost against an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import ConfigError, InfeasibleError, did_you_mean
from codesign.search.dp.coupling import loosened, sliced
from codesign.search.dp.prior import Prior, prior_of
from codesign.search.dp.solve import Solution, Step, solve
from codesign.search.limits import Limits
from codesign.search.objective import LayerTable, Metric, PointCost
from codesign.search.space import Choice, Space, widths
from codesign.search.tables import CostTables, tabulate

Floats = NDArray[np.float64]

# Labels per state of the dynamic program inside a search: 99.86 % of the exact hypervolume on the synthetic problems,
# from which ten designs are picked. For a front to be read, `solve` keeps 2000 (99.9 % and more).
LABELS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the method works on.

    loose : the space without the couplings that had to be cut
    latency : tables of latency for `loose`, seconds
    metrics : tables of every metric with a limit
    wider : per layer, whether option i has as many bits as option j in every part and role, and more in one; or is j
    notes : what is approximate about the tables, one sentence each
    """

    space: Space
    loose: Space
    latency: CostTables
    metrics: Mapping[str, CostTables]
    limits: Limits
    wider: tuple[NDArray[np.bool_], ...]
    prior: Prior
    notes: tuple[str, ...]

    @property
    def dense(self) -> Choice:
        """All channels, and the most precise formats."""
        return (0,) * len(self.space.sizes)

    @property
    def limited(self) -> list[tuple[CostTables, float]]:
        """Tables of each metric with a limit, and the limit."""
        return [(tables, self.limits.metrics[name]) for name, tables in self.metrics.items()]


def problem_of(
    space: Space,
    *,
    latency: PointCost,
    layer_latency: LayerTable | None,
    metrics: Mapping[str, Metric],
    limits: Limits,
    proxy: PointCost | None = None,
    seed: int = 0,
) -> Problem:
    """Tabulate latency and every metric with a limit.

    seed : of the random designs on which tables are compared with the cost itself

    Raises
    ------
    ConfigError : a limit on a metric that is not there
    CostError : a table that does not fit
    """
    for name in limits.metrics:
        if name not in metrics:
            raise ConfigError(f"limit on unknown metric '{name}'{did_you_mean(name, metrics)}")
    loose, cut = loosened(space)
    tables = {"latency": tabulate(space, latency, layer_latency, seed=seed)}
    tables |= {n: tabulate(space, m.cost, m.layer_cost, seed=seed) for n, m in metrics.items() if n in limits.metrics}
    notes = [
        f"{name} is not a sum over layers: the tables that guide the search are off by up to {100 * t.worst_error:.2g} %; "
        "that of every trial is exact"
        for name, t in tables.items()
        if t.worst_error
    ]
    if cut:
        notes.append(
            f"too many channel groups are open at once: the input channels of {', '.join(cut)} count as full inside "
            "the dynamic program; the latency of every trial is exact"
        )
    tables = {name: sliced(space, loose, t) for name, t in tables.items()}
    return Problem(
        space=space,
        loose=loose,
        latency=tables.pop("latency"),
        metrics=tables,
        limits=limits,
        wider=_wider_options(space),
        prior=prior_of(space, proxy),
        notes=tuple(notes),
    )


def front_of(problem: Problem, cost: Sequence[Floats], effects: Sequence[Floats], *, keep: int = LABELS) -> Solution:
    """Front of a tabulated cost against the error that `effects` give, one array per decision."""
    groups, index = len(problem.space.groups), problem.space.group_index
    steps = [
        Step(
            in_group=None if layer.in_group is None else index[layer.in_group],
            out_group=None if layer.out_group is None else index[layer.out_group],
            latency_s=table,
            loss=np.broadcast_to(effect, table.shape),
        )
        for layer, table, effect in zip(problem.loose.layers, cost, effects[groups:], strict=True)
    ]
    return solve(steps, effects[:groups], keep=keep)


def check_reachable(problem: Problem) -> None:
    """Refuse limits that no design of the space can meet, before anything is trained."""
    limits = [(name, tables, problem.limits.metrics[name], "") for name, tables in problem.metrics.items()]
    if problem.limits.latency_s is not None:
        limits.append(("latency", problem.latency, problem.limits.latency_s, " s"))
    for name, tables, limit, unit in limits:
        least = _least(problem, tables) * (1.0 - min(tables.worst_error, 1.0))
        if least > limit:
            raise InfeasibleError(
                f"no design of the space has {name} <= {limit:g}{unit}, the least it reaches is {least:.4g}{unit}; "
                "raise the limit, or add smaller channel levels or narrower formats to the space"
            )


def _least(problem: Problem, tables: CostTables) -> float:
    nothing = [np.zeros(size) for size in problem.space.sizes]
    return tables.constant + float(front_of(problem, tables.layers, nothing).latency_s[0])


def _wider_options(space: Space) -> tuple[NDArray[np.bool_], ...]:
    found = []
    for layer in space.layers:
        bits = np.array(widths(list(layer.formats.values()))).reshape(len(layer.formats), -1)
        no_fewer = (bits[:, None] >= bits[None]).all(axis=-1)
        found.append((no_fewer & ~no_fewer.T) | np.eye(len(bits), dtype=bool))
    return tuple(found)
