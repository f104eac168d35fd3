"""The outer loop over machines: what a search has learnt of accuracy, priced on every machine that the budget allows."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from codesign.design import DesignPoint
from codesign.errors import ConfigError, InfeasibleError, located
from codesign.runs.run_cost import RunCost
from codesign.runs.search_settings import HardwareSettings, Limits
from codesign.runs.space import layer_costs
from codesign.search import (
    AccuracyModel,
    Idea,
    LayerTable,
    Measured,
    Metric,
    Origin,
    Predicted,
    Space,
    Trial,
    learn,
    summarise,
)
from codesign.search import Limits as SearchLimits
from codesign.whatif import accelerator_keys, axes_of, with_values

AT_ONCE = 4  # designs that are trained before the model is fitted again


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One of the accelerators. values : key of its file -> what it was set to."""

    values: dict[str, Any]
    run_cost: RunCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one machine is good for.

    measured : its fastest design that was measured to reach the accuracy floor within the limits; None if none does
    latency_s, energy_j : of the whole training of that design on it
    rival_latency_s : of the last uniform baseline on it
    expected : a design that was not trained and should be faster; None if the model knows of none
    leading : whether no machine of at most its area is faster, by measured designs
    """

    machine: Machine
    measured: Measured | None
    latency_s: float
    energy_j: float
    rival_latency_s: float
    expected: Predicted | None
    leading: bool


def machines_of(
    run_cost: RunCost, settings: HardwareSettings, limits: Limits, baselines: Mapping[str, DesignPoint]
) -> tuple[Machine, ...]:
    """Every combination of the varied keys whose area the limit allows.

    Raises
    ------
    ConfigError : a key or value that an accelerator does not have
    CostError : a machine that cannot run one of the baselines
    InfeasibleError : no combination is small enough
    """
    axes = axes_of(settings.vary, run_cost.accelerator)
    for axis in axes:
        if axis.key not in accelerator_keys(run_cost.accelerator):
            raise ConfigError(f"vary '{axis.key}': is no key of an accelerator; the space of the search has the rest")
    found = []
    for values in itertools.product(*(axis.values for axis in axes)):
        named = {axis.key: value for axis, value in zip(axes, values, strict=True)}
        found.append(
            Machine(values=named, run_cost=replace(run_cost, accelerator=with_values(run_cost.accelerator, named)))
        )
    most = limits.area_um2
    allowed = [m for m in found if most is None or m.run_cost.area_um2 <= most]
    if not allowed:
        least = min(m.run_cost.area_um2 for m in found)
        raise InfeasibleError(
            f"none of the {len(found)} machines has area_um2 <= {most:g}, the smallest has {least:.4g}; raise the limit, "
            "or vary towards smaller arrays and memories"
        )
    for machine in allowed:
        with located(f"{', '.join(f'{key}={value}' for key, value in machine.values.items())}"):
            for point in baselines.values():
                machine.run_cost.latency_s(point)
    return tuple(allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    layer_costs: dict[str, LayerTable]
    latency_s: Callable[[DesignPoint], float]
    energy_j: Callable[[DesignPoint], float]


@dataclass(frozen=True, kw_only=True)
class HardwareLoop:
    """Solves the space for each machine by what the trials have taught, and names what is worth a training run.

    limits : its accuracy is the floor; without one, what the last baseline was measured at
    trainings : designs that may be trained because they are best on some machine
    """

    machines: tuple[Machine, ...]
    space: Space
    limits: Limits
    baselines: Mapping[str, DesignPoint]
    trainings: int

    def ideas(self, trials: Sequence[Trial]) -> list[Idea]:
        """Designs that should be faster than any measured one on a machine, the largest gains first."""
        spent = sum(trial.proposal.origin is Origin.FURTHER for trial in trials)
        if spent >= self.trainings:
            return []
        gains: dict[DesignPoint, tuple[float, Predicted]] = {}
        for verdict in self.verdicts(trials):
            better = verdict.expected
            if better is not None:
                gain = verdict.latency_s / better.latency_s
                if better.point not in gains or gain > gains[better.point][0]:
                    gains[better.point] = gain, better
        order = sorted(gains.values(), key=lambda found: -found[0])
        return [
            Idea(point=better.point, origin=Origin.FURTHER, predicted_accuracy=better.accuracy)
            for _, better in order[: min(AT_ONCE, self.trainings - spent)]
        ]

    def verdicts(self, trials: Sequence[Trial]) -> list[Verdict]:
        """One for each machine."""
        measured = summarise(trials)
        tried = {trial.point for trial in trials}
        rival = list(self.baselines.values())[-1]
        floor = self.limits.accuracy
        if floor is None:
            floor = next(m.accuracy for m in measured if m.point == rival)
        learnt = learn(self.space, trials)
        good = [m for m in measured if m.accuracy >= floor]
        found = [
            self._verdict(machine, known, good, tried, rival, learnt, floor)
            for machine, known in zip(self.machines, self._known, strict=True)
        ]
        return [replace(v, leading=_leads(v, found)) for v in found]

    @cached_property
    def _known(self) -> list[_Known]:
        """What has been priced on each machine: the model changes with every training, the machines do not."""
        return [
            _Known(
                layer_costs=layer_costs(machine.run_cost, self.space),
                latency_s=cache(machine.run_cost.latency_s),
                energy_j=cache(machine.run_cost.energy_j),
            )
            for machine in self.machines
        ]

    def _verdict(
        self,
        machine: Machine,
        known: _Known,
        good: Sequence[Measured],
        tried: set[DesignPoint],
        rival: DesignPoint,
        learnt: AccuracyModel,
        floor: float,
    ) -> Verdict:
        limits = self.limits
        metrics = {
            "energy_j": Metric(cost=known.energy_j, layer_cost=known.layer_costs["energy_j"]),
            "peak_memory_bytes": Metric(cost=machine.run_cost.peak_memory_bytes),
        }
        most = {name: getattr(limits, name) for name in metrics if getattr(limits, name) is not None}
        priced = sorted(((known.latency_s(m.point), m) for m in good), key=lambda pair: pair[0])
        within = (
            (latency_s, m)
            for latency_s, m in priced
            if (limits.latency_s is None or latency_s <= limits.latency_s)
            and all(metrics[name].cost(m.point) <= limit for name, limit in most.items())
        )
        best_s, best = next(within, (float("inf"), None))
        front = learnt.front(
            latency=known.latency_s,
            layer_latency=known.layer_costs["latency_s"],
            metrics=metrics,
            limits=SearchLimits(accuracy_floor=floor, metrics=most),
        )
        expected = next((p for p in front if p.point not in tried), None)
        return Verdict(
            machine=machine,
            measured=best,
            latency_s=best_s,
            energy_j=float("nan") if best is None else known.energy_j(best.point),
            rival_latency_s=known.latency_s(rival),
            expected=expected if expected is not None and expected.latency_s < best_s else None,
            leading=False,
        )


def _leads(verdict: Verdict, others: Sequence[Verdict]) -> bool:
    mine = verdict.machine.run_cost.area_um2, verdict.latency_s
    if verdict.measured is None:
        return False
    theirs = [(v.machine.run_cost.area_um2, v.latency_s) for v in others]
    return not any(a <= mine[0] and s <= mine[1] and (a, s) != mine for a, s in theirs)


def rows_of(verdicts: Sequence[Verdict], rival: str) -> list[dict[str, Any]]:
    """Plain rows, smallest machine first; rival : label of the last baseline."""
    order = sorted(verdicts, key=lambda v: (v.machine.run_cost.area_um2, v.latency_s))
    return [
        {
            **verdict.machine.values,
            "area_um2": verdict.machine.run_cost.area_um2,
            "trial": None if verdict.measured is None else verdict.measured.trials[0],
            "latency_s": None if verdict.measured is None else verdict.latency_s,
            "energy_j": None if verdict.measured is None else verdict.energy_j,
            "accuracy": None if verdict.measured is None else verdict.measured.accuracy,
            f"latency_s of {rival}": verdict.rival_latency_s,
            "expected_latency_s": None if verdict.expected is None else verdict.expected.latency_s,
            "expected_accuracy": None if verdict.expected is None else verdict.expected.accuracy,
            "leading": verdict.leading,
        }
        for verdict in order
    ]


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header; an empty field where there is no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
