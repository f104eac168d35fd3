"""The loop of every method: propose, train, record, until the budget is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

import numpy as np

from codesign.design import DesignPoint, uniform
from codesign.errors import CodesignError, ConfigError, CostError
from codesign.search.dp import Problem, dp_ideas, profile_choices
from codesign.search.front import ParetoFront, summarise
from codesign.search.log import TrialLog
from codesign.search.methods import Idea, Known, Propose, random_ideas
from codesign.search.model import blocks_of
from codesign.search.space import Space
from codesign.search.tables import Cost, LayerCost, loosened, tabulate
from codesign.search.trial import Measurement, Origin, Proposal, Trial


class Method(StrEnum):
    """How designs are proposed."""

    DP = "dp"
    NSGA2 = "nsga2"
    TPE = "tpe"
    RANDOM = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent on training: full trainings, CPU seconds of training, or whichever ends first.

    A batch that has begun is finished, so CPU seconds can be passed by part of a batch.
    """

    trainings: float | None = None
    cpu_s: float | None = None

    def __post_init__(self) -> None:
        if self.trainings is None and self.cpu_s is None:
            raise ConfigError("a budget needs trainings or cpu_s")
        for name in ("trainings", "cpu_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"budget: {name} must be positive, got {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A further simulated cost, such as energy, area or peak memory, recorded for every trial.

    limit : designs above it are not proposed; None for a cost that is only recorded
    """

    cost: Cost
    limit: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found and what it spent.

    notes : what a reader must know to believe the result, one sentence each
    own_cpu_s : CPU seconds of the search itself in this process, without the trainings
    """

    front: ParetoFront
    trials: tuple[Trial, ...]
    notes: tuple[str, ...]
    trainings: float
    training_cpu_s: float
    training_wall_s: float
    own_cpu_s: float


class Accuracy(Protocol):
    """Trains `point` with `seed` for a share `fidelity` of the full training and measures its accuracy.

    A higher fidelity of a point and seed that it has trained before goes on from there; the costs in the measurement
    are those of this call. An exception makes the trial a failed one; a CodesignError ends the search.
    """

    def __call__(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement: ...


class Evaluate(Protocol):
    """Applies a function to jobs and yields results as they come, in any order: `map`, or a pool's `imap_unordered`."""

    def __call__(self, function: Callable[[Any], Any], jobs: Iterable[Any], /) -> Iterable[Any]: ...


def standard_baselines() -> dict[str, DesignPoint]:
    """The uniform policies that every run measures: all channels, one format everywhere."""
    presets = {"fp32": "fp32", "bf16": "bf16", "fp8-hybrid": "fp8-hybrid", "int8": "e0m7"}
    return {label: DesignPoint(default=uniform(name)) for label, name in presets.items()}


def search(
    space: Space,
    *,
    latency: Cost,
    accuracy: Accuracy,
    budget: Budget,
    method: str = Method.DP,
    seed: int = 0,
    layer_latency: LayerCost | None = None,
    metrics: Mapping[str, Metric] | None = None,
    accuracy_floor: float | None = None,
    latency_limit_s: float | None = None,
    baselines: Mapping[str, DesignPoint] | None = None,
    log: TrialLog | None = None,
    identity: Mapping[str, Any] | None = None,
    evaluate: Evaluate = map,
    on_trial: Callable[[Trial], None] | None = None,
) -> SearchResult:
    """Find the designs of `space` that trade training latency for accuracy best."""
    started_s = time.process_time()
    method = Method(method)
    metrics = metrics or {}
    baselines = standard_baselines() if baselines is None else baselines
    if log is not None:
        log.claim({"space": space.to_json(), "method": method.value, "seed": seed, **(identity or {})})
    history: list[Trial] = list(log.trials) if log is not None else []
    propose, notes = _proposer(space, method, latency, layer_latency, budget, seed)
    batch = 0
    while True:
        done = [t for t in history if t.batch < batch]
        begun = [t for t in history if t.batch == batch]
        if begun and len(begun) == begun[0].batch_size:
            batch += 1
            continue
        proposals = _next_batch(space, propose, baselines, done, batch, seed)
        proposals = proposals[: _affordable(budget, done)]
        if not proposals:
            break
        first = len(done)
        finished = {t.index for t in begun}
        jobs = [(first + i, p) for i, p in enumerate(proposals) if first + i not in finished]
        costs = {i: _costs(p.point, latency, metrics) for i, p in jobs}
        for index, measured, failure in evaluate(partial(_train, accuracy), jobs):
            latency_s, extra = costs[index]
            trial = Trial(
                index=index,
                batch=batch,
                batch_size=len(proposals),
                proposal=proposals[index - first],
                latency_s=latency_s,
                metrics=extra,
                measurement=measured,
                failure=failure,
            )
            history.append(trial)
            if log is not None:
                log.append(trial)
            if on_trial is not None:
                on_trial(trial)
        history.sort(key=lambda t: t.index)
        batch += 1
    front = ParetoFront.of_trials(history)
    spent = [t.measurement for t in history if t.measurement is not None]
    return SearchResult(
        front=front,
        trials=tuple(history),
        notes=tuple(notes),
        trainings=sum(t.trainings for t in history),
        training_cpu_s=sum(m.cpu_s for m in spent),
        training_wall_s=sum(m.wall_s for m in spent),
        own_cpu_s=time.process_time() - started_s,
    )


def _proposer(
    space: Space, method: Method, latency: Cost, layer_latency: LayerCost | None, budget: Budget, seed: int
) -> tuple[Propose, list[str]]:
    if method is Method.RANDOM:
        return partial(random_ideas, space), []
    tables = tabulate(space, latency, layer_latency, seed=seed)
    loose, cut = loosened(space)
    problem = Problem(space=space, loose=loose, tables=tables, blocks=blocks_of(space))
    notes = []
    if tables.worst_error:
        notes.append(
            f"latency is not a sum over layers: the tables are off by up to "
            f"{tables.worst_error:.1%}; the latency of every trial is exact"
        )
    if cut:
        notes.append(
            f"the input channels of {', '.join(cut)} were priced as full "
            "inside the dynamic program; the latency of every trial is exact"
        )
    profile = profile_choices(space, int(0.3 * (budget.trainings or 100)))
    return partial(dp_ideas, problem, profile), notes


def _next_batch(
    space: Space, propose: Propose, baselines: Mapping[str, DesignPoint], done: Sequence[Trial], batch: int, seed: int
) -> list[Proposal]:
    if batch == 0 and baselines:
        ideas = [Idea(point=p, origin=Origin.BASELINE, label=label) for label, p in baselines.items()]
    else:
        measured = [(space.choice(m.point), m) for m in summarise(done)]
        known = [Known(choice=c, measured=m) for c, m in measured if c is not None]
        ideas = propose(known, np.random.default_rng([seed, batch]))
    return [
        Proposal(
            point=idea.point,
            origin=idea.origin,
            label=idea.label,
            seed=trial_seed(seed, len(done) + i),
            predicted_accuracy=idea.predicted_accuracy,
        )
        for i, idea in enumerate(ideas)
    ]


def trial_seed(root: int, index: int) -> int:
    """Seed of a trial: it depends on the seed of the search and the number of the trial alone."""
    return int(np.random.SeedSequence(root, spawn_key=(index,)).generate_state(1)[0])


def _affordable(budget: Budget, done: Sequence[Trial]) -> int:
    """Full trainings that the rest of the budget pays for, by the mean cost so far."""
    left = math.inf
    if budget.trainings is not None:
        left = budget.trainings - sum(t.trainings for t in done)
    cpu = [t.measurement.cpu_s for t in done if t.measurement is not None]
    if budget.cpu_s is not None and sum(cpu) > 0:
        left = min(left, math.ceil((budget.cpu_s - sum(cpu)) / (sum(cpu) / len(cpu))))
    return max(0, math.floor(left + 1e-9)) if math.isfinite(left) else 10**9


def _costs(
    point: DesignPoint, latency: Cost, metrics: Mapping[str, Metric]
) -> tuple[float, tuple[tuple[str, float], ...]]:
    found = {"latency": float(latency(point))} | {name: float(m.cost(point)) for name, m in metrics.items()}
    for name, value in found.items():
        if not math.isfinite(value):
            raise CostError(f"{name} of {point.to_json()} is {value}; it must be a finite number")
    return found.pop("latency"), tuple(found.items())


def _train(accuracy: Accuracy, job: tuple[int, Proposal]) -> tuple[int, Measurement | None, str]:
    """Runs where the worker is; an error of one training becomes a failed trial."""
    index, proposal = job
    try:
        return index, accuracy(proposal.point, proposal.seed, proposal.fidelity), ""
    except CodesignError:
        raise
    except Exception as error:
        return index, None, f"{type(error).__name__}: {error}"
