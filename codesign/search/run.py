"""The loop of every method: propose, train, record, until the budget is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from threadpoolctl import ThreadpoolController

from codesign.design import DesignPoint
from codesign.errors import CodesignError
from codesign.search.dp.agreement import Agreement
from codesign.search.dp.problem import Problem, check_reachable, problem_of
from codesign.search.execution import Execution, Stopwatch
from codesign.search.front import Measured, ParetoFront
from codesign.search.knowledge import knowledge_of
from codesign.search.limits import Limits, best_of
from codesign.search.methods import propose_by, verdict_on
from codesign.search.objective import Accuracy, Objective
from codesign.search.schedule import Schedule
from codesign.search.scheduler import Scheduler
from codesign.search.space import Space
from codesign.search.trial import Measurement, Proposal, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found and what it spent.

    front : all designs that none dominates beyond the noise, whether or not they meet the limits
    best : the fastest design that meets the accuracy floor and all limits; None if no floor was given
    agreement : how the surrogate of `dp` predicted what was then measured; None for the other methods
    notes : what a reader must know to believe the result, one sentence each
    trainings : full training runs that were spent
    training_cpu_s, training_wall_s : sums over the trials
    own_cpu_s : CPU seconds of the search itself in this process, without the training runs
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


def search(
    space: Space,
    objective: Objective,
    schedule: Schedule,
    limits: Limits | None = None,
    execution: Execution | None = None,
) -> SearchResult:
    """Find the designs of `space` that trade training latency for accuracy best.

    Parameters
    ----------
    objective : what a design costs, and how accurate it is
    schedule : how much may be spent, by which method
    limits : what the `best` design must meet; nothing if left out
    execution : where training runs take place and trials are recorded; this process and nowhere if left out

    Raises
    ------
    InfeasibleError : no design can meet, or no measured design met, the limits
    RunDirectoryError : the record belongs to another search
    CostError : a cost is not finite, or a table does not fit
    CodesignError : `accuracy` raised one, or every training run of a batch failed
    """
    own = Stopwatch()
    limits, execution = limits or Limits(), execution or Execution()
    log = execution.log
    if log is not None:
        log.claim({**_identity(space, objective, schedule, limits), **execution.identity})
    problem = problem_of(
        space,
        latency=objective.latency,
        layer_latency=objective.layer_latency,
        metrics=objective.metrics,
        limits=limits,
        proxy=objective.proxy,
        seed=schedule.seed,
    )
    check_reachable(problem)
    scheduler = Scheduler(
        space=space,
        schedule=schedule,
        propose=propose_by(schedule.method, problem),
        uniform=_uniform_points(problem) if schedule.uniform_start else (),
        accuracy_floor=limits.accuracy_floor,
    )
    trials: list[Trial] = []
    recorded = {t.index: t for t in log.trials} if log is not None else {}
    batch = 0
    blas = ThreadpoolController()  # matrices of a few hundred rows: threads cost up to 30 times the CPU time of one
    while True:
        proposals = _recorded_batch(recorded, len(trials), batch)
        if not proposals:
            with blas.limit(limits=1, user_api="blas"):
                proposals = scheduler.next_batch(batch, trials)
                if not proposals and execution.further is not None:
                    proposals = scheduler.numbered(execution.further(trials), trials, fidelity=1.0)
        if not proposals:
            break
        trials += _trained(objective, execution, recorded, proposals, len(trials), batch, own)
        batch += 1
    knowledge = knowledge_of(space, trials, scheduler.choices)
    best = best_of(knowledge.full, limits)
    agreement, notes = verdict_on(schedule.method, problem, knowledge)
    spent = [t.measurement for t in trials if t.measurement is not None]
    return SearchResult(
        front=ParetoFront.of(knowledge.full),
        best=best,
        trials=tuple(trials),
        agreement=agreement,
        notes=(*problem.notes, *notes),
        trainings=sum(t.trainings for t in trials),
        training_cpu_s=sum(m.cpu_s for m in spent),
        training_wall_s=sum(m.wall_s for m in spent),
        own_cpu_s=own.elapsed_s(),
    )


def _identity(space: Space, objective: Objective, schedule: Schedule, limits: Limits) -> dict[str, object]:
    """What makes two runs the same, as the record keeps it. The budget may grow."""
    return {
        "space": space.to_json(),
        "method": schedule.method.value,
        "seed": schedule.seed,
        "ladder": list(schedule.ladder),
        "uniform_start": schedule.uniform_start,
        "finalist_seeds": schedule.finalist_seeds,
        "accuracy_floor": limits.accuracy_floor,
        "latency_limit_s": limits.latency_s,
        "limits": {name: limits.metrics.get(name) for name in objective.metrics},
    }


def _uniform_points(problem: Problem) -> list[DesignPoint]:
    """Uniform policies, fastest first."""
    choices = problem.space.uniform_choices()
    order = np.argsort(problem.latency.of_all(problem.loose, choices), kind="stable")
    return [problem.space.point(choices[i]) for i in order]


def _recorded_batch(recorded: Mapping[int, Trial], first: int, batch: int) -> list[Proposal]:
    """The proposals of a batch that the record holds in full, failed training runs included; empty if it does not."""
    size = recorded[first].batch_size if first in recorded else 0
    members = [recorded.get(i) for i in range(first, first + size)]
    return [m.proposal for m in members if m is not None and m.batch == batch] if all(members) else []


def _trained(
    objective: Objective,
    execution: Execution,
    recorded: Mapping[int, Trial],
    proposals: Sequence[Proposal],
    first: int,
    batch: int,
    own: Stopwatch,
) -> list[Trial]:
    """The trials of a batch whose first has the index `first`; those that the record holds are not trained again."""
    done = {
        i: recorded[i]
        for i in range(first, first + len(proposals))
        if i in recorded and recorded[i].measurement is not None
    }
    jobs = [(first + i, p) for i, p in enumerate(proposals) if first + i not in done]
    costs = {index: objective.costs_of(proposal.point) for index, proposal in jobs}
    for index, measured, failure in own.without(execution.evaluate(partial(_train, objective.accuracy), jobs)):
        latency_s, metrics = costs[index]
        done[index] = Trial(
            index=index,
            batch=batch,
            batch_size=len(proposals),
            proposal=proposals[index - first],
            latency_s=latency_s,
            metrics=metrics,
            measurement=measured,
            failure=failure,
        )
        if execution.log is not None:
            execution.log.append(done[index])
        if execution.on_trial is not None:
            execution.on_trial(done[index])
    trials = [done[i] for i in sorted(done)]
    if jobs and all(t.measurement is None for t in trials):
        raise CodesignError(f"every training of batch {batch} failed, the last with {trials[-1].failure}")
    return trials


def _train(accuracy: Accuracy, job: tuple[int, Proposal]) -> tuple[int, Measurement | None, str]:
    """Runs where the worker is; an error of one training run becomes a failed trial."""
    index, proposal = job
    try:
        return index, accuracy(proposal.point, proposal.seed, proposal.fidelity), ""
    except CodesignError:
        raise
    except Exception as error:
        return index, None, f"{type(error).__name__}: {error}"
