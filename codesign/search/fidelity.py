"""Short training runs first: what they say about full ones, and which are worth going on with.

To use it, hand `search` a ladder of shares of the full training that rises to 1, and an `accuracy` that can stop there:

    search(space, objective, Schedule(budget=Budget(trainings=24), ladder=(0.5, 1.0)))

* `accuracy(point, seed, 0.5)` trains the first half of the steps of the *full* schedule (the same learning rates and
  order of images: a prefix of the whole run), measures, and keeps a checkpoint under (point, seed).
* `accuracy(point, seed, 1.0)` of the same point and seed goes on from it, perhaps in another process and after a restart.
  `cpu_s` and `wall_s` are those of this call alone. Without a checkpoint it trains from the start, at its full price.
* A design that was left behind can come back later, so checkpoints may go only when the search has ended.
* Baselines, uniform policies and the method's designs all start on the first rung; finalists' further seeds are full.
* `Budget.trainings` counts shares: half a training costs 0.5. Nothing else of `search` changes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from codesign.design import DesignPoint
from codesign.search.front import CONFIDENCE_Z, Measured, dominates, summarise
from codesign.search.trial import Measurement, Origin, Proposal, Trial

ENOUGH_PAIRS = 5  # trainings known at both lengths before anything is dropped; below, their spread means nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What full training adds to the accuracy after a short one: mean and spread over designs known at both."""

    mean: float
    deviation: float


def gain_of(trials: Sequence[Trial], fidelity: float) -> Gain | None:
    """The gain from `fidelity` to full training; None while fewer than `ENOUGH_PAIRS` designs show it."""
    short, full = (
        {
            (t.point, t.proposal.seed): t.measurement.accuracy
            for t in trials
            if t.measurement is not None and _usable(t.measurement) and t.proposal.fidelity == at
        }
        for at in (fidelity, 1.0)
    )
    gains = [full[key] - short[key] for key in short if key in full]
    if len(gains) < ENOUGH_PAIRS:
        return None
    return Gain(mean=statistics.fmean(gains), deviation=statistics.stdev(gains))


def extrapolated(trials: Sequence[Trial], full: Sequence[Measured]) -> list[Measured]:
    """Designs without a usable full training (those are `full`), each by its longest training.

    The spread of the gain is part of an extrapolated design's standard error. A design whose training broke, without a
    number, counts as bad as the worst one that gave a number.
    """
    covered = {index for m in full for index in m.trials}
    rest = [t for t in trials if t.measurement is not None and t.index not in covered]
    known = {m.point for m in full} if rest else set()
    longest: dict[DesignPoint, Trial] = {}
    for trial in rest:
        if trial.point not in known:
            before = longest.get(trial.point)
            if before is None or trial.proposal.fidelity > before.proposal.fidelity:
                longest[trial.point] = trial
    finite = [t.measurement.accuracy for t in trials if t.measurement is not None and _finite(t.measurement)]
    gains = {f: gain_of(trials, f) for f in {t.proposal.fidelity for t in longest.values()}}
    found = []
    for trial in longest.values():
        measured, gain = trial.measurement, gains[trial.proposal.fidelity]
        assert measured is not None
        if not finite or (gain is None and _usable(measured)):
            continue
        lift = gain if gain is not None and _usable(measured) else Gain(mean=0.0, deviation=0.0)
        found.append(
            Measured(
                point=trial.point,
                label=trial.proposal.label,
                trials=(trial.index,),
                latency_s=trial.latency_s,
                accuracy=(measured.accuracy if _finite(measured) else min(finite)) + lift.mean,
                standard_error=math.hypot(measured.standard_error, lift.deviation),
                metrics=trial.metrics,
            )
        )
    return found


def promotions(trials: Sequence[Trial], ladder: Sequence[float]) -> list[Proposal]:
    """Short trainings to go on with, each to the next rung.

    One is dropped only if even its optimistic bound (accuracy + mean gain + z x spread of the gain) is dominated by a
    fully trained design. Baselines always go on: they show the gain.
    """
    full = summarise(trials)
    gains = {fidelity: gain_of(trials, fidelity) for fidelity in ladder[:-1]}
    longest: dict[tuple[DesignPoint, int], Trial] = {}
    broken = set()
    for trial in trials:
        key = (trial.point, trial.proposal.seed)
        if trial.measurement is None:
            broken.add(key)
        elif key not in longest or trial.proposal.fidelity > longest[key].proposal.fidelity:
            longest[key] = trial
    found = []
    for key, trial in longest.items():
        reached = trial.proposal.fidelity
        if key in broken or reached not in gains:
            continue
        if _hopeless(trial, gains[reached], full) and trial.proposal.origin is not Origin.BASELINE:
            continue
        found.append(
            Proposal(
                point=trial.point,
                origin=Origin.BASELINE if trial.proposal.origin is Origin.BASELINE else Origin.PROMOTE,
                label=trial.proposal.label,
                seed=trial.proposal.seed,
                fidelity=min(f for f in ladder if f > reached),
                continued_from=reached,
                predicted_accuracy=trial.proposal.predicted_accuracy,
            )
        )
    return found


def _hopeless(trial: Trial, gain: Gain | None, full: Sequence[Measured]) -> bool:
    measured = trial.measurement
    assert measured is not None
    if not _usable(measured):
        return True
    if gain is None:
        return False
    bound = Measured(
        point=trial.point,
        label="",
        trials=(trial.index,),
        latency_s=trial.latency_s,
        accuracy=measured.accuracy + gain.mean + CONFIDENCE_Z * math.hypot(measured.standard_error, gain.deviation),
        standard_error=0.0,
    )
    return any(dominates(other, bound) for other in full if other.point != trial.point)


def _finite(measurement: Measurement) -> bool:
    return math.isfinite(measurement.accuracy)


def _usable(measurement: Measurement) -> bool:
    return _finite(measurement) and not measurement.diverged
