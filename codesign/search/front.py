"""The Pareto front of measured designs: fast training against accuracy, honest about noise."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.design import DesignPoint
from codesign.search.trial import Trial

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "codesign.front/1"
# One-sided 95 % quantile of the normal distribution: a design is dropped only if it is worse at that confidence.
CONFIDENCE_Z = 1.645
# Two-sided 95 % quantile, for the interval that is printed.
INTERVAL_Z = 1.960


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that the trials of one design say about it, at full training.

    trials : index of each trial, the first of which names the design for the user
    standard_error : of the mean `accuracy`: training noise and the finite test set together
    """

    point: DesignPoint
    label: str
    trials: tuple[int, ...]
    latency_s: float
    accuracy: float
    standard_error: float
    metrics: tuple[tuple[str, float], ...] = ()

    @property
    def seeds(self) -> int:
        """Number of trainings behind `accuracy`."""
        return len(self.trials)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        margin = INTERVAL_Z * self.standard_error
        return self.accuracy - margin, self.accuracy + margin


def dominates(a: Measured, b: Measured, *, z: float = CONFIDENCE_Z) -> bool:
    """Whether `a` is no slower than `b` and more accurate by more than `z` standard errors of the difference.

    With z = 0 and equal accuracies, the faster one dominates.
    """
    gain = a.accuracy - b.accuracy
    if a.latency_s > b.latency_s:
        return False
    noise = z * math.hypot(a.standard_error, b.standard_error)
    return gain > noise or (gain == noise == 0 and a.latency_s < b.latency_s)


def summarise(trials: Iterable[Trial]) -> list[Measured]:
    """One `Measured` per design that was trained in full without failing, in the order of its first trial.

    The standard error of one training is the larger of what the caller states and the spread between seeds, pooled
    over all designs that have several; designs with one seed borrow that pooled spread.
    """
    by_point: dict[DesignPoint, list[Trial]] = {}
    for trial in trials:
        measured = trial.measurement
        if measured is not None and trial.proposal.fidelity == 1.0 and math.isfinite(measured.accuracy):
            by_point.setdefault(trial.point, []).append(trial)
    groups = list(by_point.values())
    spread = training_noise(groups)
    found = []
    for group in groups:
        values = [t.measurement for t in group if t.measurement is not None]
        stated = math.sqrt(sum(v.standard_error**2 for v in values) / len(values))
        found.append(
            Measured(
                point=group[0].point,
                label=next((t.proposal.label for t in group if t.proposal.label), ""),
                trials=tuple(t.index for t in group),
                latency_s=group[0].latency_s,
                accuracy=sum(v.accuracy for v in values) / len(values),
                standard_error=max(stated, spread) / math.sqrt(len(values)),
                metrics=group[0].metrics,
            )
        )
    return found


def training_noise(groups: Iterable[Sequence[Trial]]) -> float:
    """Standard deviation of the accuracy between seeds of one design, pooled over designs; 0 if none has two.

    Diverged trainings are left out: they are outcomes of another kind, not the tail of this one.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        values = [t.measurement.accuracy for t in group if t.measurement is not None and not t.measurement.diverged]
        if len(values) > 1:
            mean = sum(values) / len(values)
            squares += sum((v - mean) ** 2 for v in values)
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoFront:
    """Designs that no measured design dominates beyond the noise, fastest first.

    leading : for each, whether it also stands by the plain means
    """

    members: tuple[Measured, ...]
    leading: tuple[bool, ...]

    @classmethod
    def of(cls, measured: Sequence[Measured], *, z: float = CONFIDENCE_Z) -> ParetoFront:
        """The front of `measured`."""
        members = [m for m in measured if not any(dominates(other, m, z=z) for other in measured)]
        members.sort(key=lambda m: (m.latency_s, -m.accuracy))
        best, leading = -math.inf, []
        for member in members:
            leading.append(member.accuracy > best)
            best = max(best, member.accuracy)
        return cls(members=tuple(members), leading=tuple(leading))

    @classmethod
    def of_trials(cls, trials: Iterable[Trial], *, z: float = CONFIDENCE_Z) -> ParetoFront:
        """The front of every design that was trained in full."""
        return cls.of(summarise(trials), z=z)

    def hypervolume(self, *, latency_s: float, accuracy: float) -> float:
        """Area in seconds x accuracy between the front's mean values and a reference that is slow and inaccurate."""
        return hypervolume(
            [m.latency_s for m in self.members],
            [1.0 - m.accuracy for m in self.members],
            reference=(latency_s, 1.0 - accuracy),
        )

    def to_records(self) -> list[dict[str, Any]]:
        """One flat dictionary per member; `trial` is the name by which a point is taken from the run."""
        return [
            {
                "trial": m.trials[0],
                "label": m.label,
                "latency_s": m.latency_s,
                "accuracy": m.accuracy,
                "accuracy_standard_error": m.standard_error,
                "accuracy_low": m.interval[0],
                "accuracy_high": m.interval[1],
                "seeds": m.seeds,
                "leading": leading,
                **dict(m.metrics),
            }
            for m, leading in zip(self.members, self.leading, strict=True)
        ]

    def to_frame(self) -> pd.DataFrame:
        """`to_records` as a pandas DataFrame, units in the column names."""
        import pandas as pd

        return pd.DataFrame(self.to_records())

    def to_json(self) -> str:
        """`to_records` with the design of each, as one JSON document."""
        points = [
            {**record, "point": m.point.to_json()} for record, m in zip(self.to_records(), self.members, strict=True)
        ]
        return json.dumps({"schema": SCHEMA, "points": points}, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """`to_records` as comma-separated values with a header line; empty if the front is."""
        text = io.StringIO()
        records = self.to_records()
        if records:
            writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
        return text.getvalue()


def hypervolume(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    *,
    reference: tuple[float, float],
) -> float:
    """Area dominated by points of which both coordinates are to be small, up to `reference`.

    Points beyond the reference in either coordinate add nothing.
    """
    area, floor = 0.0, reference[1]
    for x, y in sorted(zip(first, second, strict=True)):
        if x < reference[0] and y < floor:
            area += (reference[0] - x) * (floor - y)
            floor = y
    return float(area)


@dataclass(frozen=True, slots=True, kw_only=True)
class Convergence:
    """What had been spent and found after some trials of a run."""

    trials: int
    trainings: float
    training_cpu_s: float
    hypervolume: float


def convergence(trials: Sequence[Trial], *, latency_s: float, accuracy: float, steps: int = 50) -> list[Convergence]:
    """Hypervolume (seconds x accuracy, up to the reference) as the budget was spent, at `steps` even points.

    This is what methods are compared by. The numbers are measured means: where trainings are noisy, they flatter every
    method a little, and the one that trained most designs the most.
    """
    found = []
    for count in sorted({round(i * len(trials) / steps) for i in range(1, steps + 1)} - {0}):
        made = trials[:count]
        measured = summarise(made)
        found.append(
            Convergence(
                trials=count,
                trainings=sum(t.trainings for t in made),
                training_cpu_s=sum(t.measurement.cpu_s for t in made if t.measurement is not None),
                hypervolume=hypervolume(
                    [m.latency_s for m in measured],
                    [1.0 - m.accuracy for m in measured],
                    reference=(latency_s, 1.0 - accuracy),
                ),
            )
        )
    return found
