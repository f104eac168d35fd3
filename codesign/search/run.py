"""The loop of every method: propose, train, record, until the budget is spent."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from codesign.design import DesignPoint, uniform
from codesign.errors import CodesignError, ConfigError, CostError, did_you_mean
from codesign.search.agreement import ENOUGH, WEAK, Agreement, agreement_of
from codesign.search.dp import Problem, surrogate_of, wider_options
from codesign.search.front import Measured, ParetoFront
from codesign.search.hybrid import Hybrid
from codesign.search.limits import Metric, best_of, check_reachable
from codesign.search.log import TrialLog
from codesign.search.methods import Idea, Knowledge, Propose
from codesign.search.model import MISFITS, prior_of
from codesign.search.space import Space
from codesign.search.stages import Budget, Stages, knowledge_of
from codesign.search.tables import Cost, LayerCost, loosened, sliced, tabulate
from codesign.search.trial import Measurement, Origin, Proposal, Trial


class Method(StrEnum):
    """How designs are proposed."""

    DP = "dp"
    NSGA2 = "nsga2"
    TPE = "tpe"
    RANDOM = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found and what it spent.

    front : all designs that none dominates beyond the noise, whether or not they meet the limits
    best : the fastest design that meets the accuracy floor and all limits; None if no floor was given
    agreement : how the model of `dp` predicted what was then measured; None for the other methods
    notes : what a reader must know to believe the result, one sentence each
    training_cpu_s, training_wall_s : sums over the trials
    own_cpu_s : CPU seconds of the search itself in this process, without the trainings
    """

    front: ParetoFront
    best: Measured | None
    trials: tuple[Trial, ...]
    agreement: Agreement | None
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

    def __call__(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement:
        """Accuracy and what it cost."""
        ...


class Evaluate(Protocol):
    """Applies a function to jobs and yields results as they come, in any order: `map`, or a pool's `imap_unordered`."""

    def __call__(self, function: Callable[[Any], Any], jobs: Iterable[Any], /) -> Iterable[Any]:
        """Results of `function`, one per job."""
        ...


def standard_baselines() -> dict[str, DesignPoint]:
    """The uniform policies that every run measures: all channels, one format everywhere. int8 is sign and 7 bits."""
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
    uniform_start: bool = True,
    ladder: Sequence[float] = (1.0,),
    finalist_seeds: int = 3,
    proxy: Cost | None = None,
    further: Callable[[Sequence[Trial]], Sequence[Idea]] | None = None,
    log: TrialLog | None = None,
    identity: Mapping[str, Any] | None = None,
    evaluate: Evaluate = map,
    on_trial: Callable[[Trial], None] | None = None,
) -> SearchResult:
    """Find the designs of `space` that trade training latency for accuracy best.

    Parameters
    ----------
    latency : exact simulated seconds of the whole training run of a design
    accuracy : real training, see `Accuracy`
    budget : what all trainings together may cost
    method : dp, nsga2, tpe or random
    layer_latency : the tables of latency (seconds) in one call per layer; otherwise differences of `latency` give them
    metrics : further costs by name
    accuracy_floor, latency_limit_s : what a design must meet to be the `best`
    baselines : measured first, by label; `standard_baselines()` if not given
    uniform_start : begin with designs that have one level and one option everywhere, whatever the method
    ladder : shares of the full training at which a design is looked at, rising to 1
    finalist_seeds : trainings of each finalist and baseline at the end, out of a fifth of the budget; 1 for none
    proxy : a cheap number that grows with the damage done to a design; `dp` expects it to hold until measured
    further : designs to train beyond the budget, asked with all trials once it is spent, until it names none
    log : record to write, and to go on from
    identity : whatever else makes the run what it is (data, network, accelerator); a record of another one is refused
    evaluate : applies the training to a batch, see `Evaluate`
    on_trial : called with every new trial, in the order in which they end

    Raises
    ------
    InfeasibleError : no design can meet, or no measured design met, the floor and the limits
    RunDirectoryError : the record belongs to another search
    """
    own = _Stopwatch()
    if method not in set(Method):
        raise ConfigError(f"unknown method '{method}'{did_you_mean(method, set(Method))}")
    method, ladder, metrics = Method(method), checked_ladder(ladder), metrics or {}
    if finalist_seeds < 1:
        raise ConfigError(f"finalist_seeds must be at least 1, got {finalist_seeds}")
    if log is not None:
        log.claim(
            {
                "space": space.to_json(),
                "method": method.value,
                "seed": seed,
                "ladder": list(ladder),
                "uniform_start": uniform_start,
                "finalist_seeds": finalist_seeds,
                "accuracy_floor": accuracy_floor,
                "latency_limit_s": latency_limit_s,
                "limits": {name: m.limit for name, m in metrics.items()},
                **(identity or {}),
            }
        )
    problem, notes = _problem(space, latency, layer_latency, metrics, accuracy_floor, latency_limit_s, proxy, seed)
    check_reachable(problem)
    stages = Stages(
        space=space,
        propose=_method(method, problem),
        budget=budget,
        seed=seed,
        baselines=standard_baselines() if baselines is None else baselines,
        uniform=_uniform_points(problem) if uniform_start else (),
        ladder=ladder,
        finalist_seeds=finalist_seeds,
        accuracy_floor=accuracy_floor,
        choices={},
    )
    trials: list[Trial] = []
    recorded = {t.index: t for t in log.trials} if log is not None else {}
    batch = 0
    blas = ThreadpoolController()  # matrices of a few hundred rows: threads cost up to 30 times the CPU time of one
    while True:
        proposals = _recorded_batch(recorded, len(trials), batch)
        if not proposals:
            with blas.limit(limits=1, user_api="blas"):
                proposals = stages.next_batch(batch, trials)
                if not proposals and further is not None:
                    proposals = stages.numbered(further(trials), trials, fidelity=1.0)
        if not proposals:
            break
        first = len(trials)
        done = {
            i: recorded[i]
            for i in range(first, first + len(proposals))
            if i in recorded and recorded[i].measurement is not None
        }
        jobs = [(first + i, p) for i, p in enumerate(proposals) if first + i not in done]
        costs = {index: _costs(p.point, latency, metrics) for index, p in jobs}
        for index, measured, failure in own.without(evaluate(partial(_train, accuracy), jobs)):
            latency_s, extra = costs[index]
            done[index] = Trial(
                index=index,
                batch=batch,
                batch_size=len(proposals),
                proposal=proposals[index - first],
                latency_s=latency_s,
                metrics=extra,
                measurement=measured,
                failure=failure,
            )
            if log is not None:
                log.append(done[index])
            if on_trial is not None:
                on_trial(done[index])
        trials += [done[i] for i in sorted(done)]
        if jobs and all(t.measurement is None for t in done.values()):
            raise CodesignError(f"every training of batch {batch} failed, the last with {trials[-1].failure}")
        batch += 1
    knowledge = knowledge_of(space, trials, stages.choices)
    best = best_of(knowledge.full, metrics, accuracy_floor, latency_limit_s)
    agreement = None
    if method is Method.DP:
        agreement = agreement_of(trials, knowledge.full)
        notes += _notes_on_model(problem, knowledge, agreement)
    spent = [t.measurement for t in trials if t.measurement is not None]
    return SearchResult(
        front=ParetoFront.of(knowledge.full),
        best=best,
        trials=tuple(trials),
        agreement=agreement,
        notes=tuple(notes),
        trainings=sum(t.trainings for t in trials),
        training_cpu_s=sum(m.cpu_s for m in spent),
        training_wall_s=sum(m.wall_s for m in spent),
        own_cpu_s=own.elapsed_s(),
    )


def _method(method: Method, problem: Problem) -> Propose:
    if method is Method.DP:
        return Hybrid(problem).ideas
    from codesign.search.evolve import OptunaSampler  # loads Optuna, which `dp` seldom needs

    return OptunaSampler(problem.space, method).ideas


class _Stopwatch:
    """CPU seconds of this process, without those spent while waiting for results of trainings."""

    def __init__(self) -> None:
        self._started_s = time.process_time()
        self._outside_s = 0.0

    def without(self, results: Iterable[Any]) -> Iterator[Any]:
        """The same results; the time that it takes to get them does not count."""
        iterator = iter(results)
        while True:
            before_s = time.process_time()
            try:
                result = next(iterator)
            except StopIteration:
                return
            finally:
                self._outside_s += time.process_time() - before_s
            yield result

    def elapsed_s(self) -> float:
        """Seconds so far."""
        return time.process_time() - self._started_s - self._outside_s


def checked_ladder(ladder: Sequence[float]) -> tuple[float, ...]:
    """The rungs, if they rise from above 0 to 1."""
    rungs = tuple(float(f) for f in ladder)
    if not rungs or rungs[-1] != 1.0 or rungs[0] <= 0 or any(a >= b for a, b in itertools.pairwise(rungs)):
        raise ConfigError(f"ladder must rise from above 0 to 1, got {list(ladder)}")
    return rungs


def _problem(
    space: Space,
    latency: Cost,
    layer_latency: LayerCost | None,
    metrics: Mapping[str, Metric],
    accuracy_floor: float | None,
    latency_limit_s: float | None,
    proxy: Cost | None,
    seed: int,
) -> tuple[Problem, list[str]]:
    """The tables that `dp` works on, and what is approximate about them."""
    loose, cut = loosened(space)
    tables = {"latency": tabulate(space, latency, layer_latency, seed=seed)}
    tables |= {n: tabulate(space, m.cost, m.layer_cost, seed=seed) for n, m in metrics.items() if m.limit is not None}
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
    return (
        Problem(
            space=space,
            loose=loose,
            latency=tables["latency"],
            limited={n: (tables[n], m.limit) for n, m in metrics.items() if m.limit is not None},
            wider=wider_options(space),
            latency_limit_s=latency_limit_s,
            error_limit=None if accuracy_floor is None else 1.0 - accuracy_floor,
            prior=prior_of(space, proxy),
        ),
        notes,
    )


def _uniform_points(problem: Problem) -> list[DesignPoint]:
    """Uniform policies, fastest first."""
    choices = problem.space.uniform_choices()
    order = np.argsort(problem.latency.of_all(problem.loose, choices), kind="stable")
    return [problem.space.point(choices[i]) for i in order]


def _recorded_batch(recorded: Mapping[int, Trial], first: int, batch: int) -> list[Proposal]:
    """The proposals of a batch that the record holds in full, failed trainings included; empty if it does not."""
    size = recorded[first].batch_size if first in recorded else 0
    members = [recorded.get(i) for i in range(first, first + size)]
    return [m.proposal for m in members if m is not None and m.batch == batch] if all(members) else []


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


def _notes_on_model(problem: Problem, knowledge: Knowledge, agreement: Agreement) -> list[str]:
    notes = []
    model = surrogate_of(problem.prior, knowledge) if len(knowledge.known) > 2 else None
    if model is not None and model.pairs:
        notes.append("decisions interact: pairs of them explain the measured errors better than their sum alone")
    if model is not None and model.link.bend > 0:
        notes.append("losses amplify each other: the measured errors grow faster than the sum of single losses")
    if model is not None and model.misfit > min(MISFITS):
        notes.append(
            f"decisions interact in ways that the model does not know: {100 * model.misfit:.0f} % of a design's loss is left "
            "unexplained"
        )
    explored = sum(t.proposal.origin is Origin.EXPLORE for t in knowledge.trials)
    if explored:
        notes.append(
            f"nsga2 proposed {explored} designs while the model ranked its own badly (rank correlation of its last ones "
            f"{agreement.rank_correlation:.2f}, {agreement.attainable:.2f} attainable under the noise)"
        )
    if agreement.designs >= ENOUGH and agreement.attainable < WEAK and not agreement.weak:
        notes.append(
            f"the noise of one training hides how the proposed designs rank (attainable rank correlation "
            f"{agreement.attainable:.2f}): more seeds or longer trainings are needed to tell them apart"
        )
    return notes
