"""A `Trial`: a design, what it costs, and what training it with one seed for some time gave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from codesign.design import DesignPoint


class Origin(StrEnum):
    """Why a trial was made."""

    BASELINE = "baseline"  # a uniform policy that every run measures
    UNIFORM = "uniform"  # the same relative choice everywhere
    FRONT = "front"  # on the front that the fitted model predicts
    EXPLORE = "explore"  # proposed by the sampler of nsga2, tpe or random
    PROMOTE = "promote"  # trained on from its own checkpoint
    REPEAT = "repeat"  # a finalist with another seed
    FURTHER = "further"  # beyond the budget, for a caller who asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What training one design with one seed gave.

    accuracy : share of the test set, 0 to 1
    standard_error : of `accuracy` through the finite test set, as far as the caller knows it; 0 if exact
    cpu_s, wall_s : spent on this call alone, not on the training that it continued
    diverged : training blew up; `accuracy` is then what the broken network scores
    """

    accuracy: float
    standard_error: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    diverged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A training to be done.

    fidelity : share of the full training, above 0 and at most 1
    continued_from : fidelity that the same point and seed has been trained to already
    predicted_accuracy : at full training, by the model that proposed the point; None if none did
    """

    point: DesignPoint
    origin: Origin
    label: str = ""
    seed: int
    fidelity: float = 1.0
    continued_from: float = 0.0
    predicted_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A finished proposal.

    index : counts the proposals of a run, whatever the number of workers
    batch, batch_size : proposals that were made together, without knowing each other's outcome
    latency_s : of the whole training run, simulated
    metrics : further simulated costs by name
    measurement : None if the training failed; `failure` then says why
    """

    index: int
    batch: int
    batch_size: int
    proposal: Proposal
    latency_s: float
    metrics: tuple[tuple[str, float], ...] = ()
    measurement: Measurement | None
    failure: str = ""

    @property
    def point(self) -> DesignPoint:
        """The design."""
        return self.proposal.point

    @property
    def trainings(self) -> float:
        """Full trainings that this trial cost."""
        return self.proposal.fidelity - self.proposal.continued_from

    def to_json(self) -> dict[str, Any]:
        """One flat record; `from_json` reads it back. Numbers that are not finite are written as null."""
        proposal, measured = self.proposal, self.measurement
        record = {
            "trial": self.index,
            "batch": self.batch,
            "batch_size": self.batch_size,
            "origin": proposal.origin.value,
            "label": proposal.label,
            "seed": proposal.seed,
            "fidelity": proposal.fidelity,
            "continued_from": proposal.continued_from,
            "predicted_accuracy": proposal.predicted_accuracy,
            "latency_s": self.latency_s,
            "metrics": dict(self.metrics),
            "failure": self.failure,
            "point": proposal.point.to_json(),
        }
        if measured is not None:
            record["measurement"] = {
                "accuracy": measured.accuracy if math.isfinite(measured.accuracy) else None,
                "standard_error": measured.standard_error,
                "wall_s": measured.wall_s,
                "cpu_s": measured.cpu_s,
                "diverged": measured.diverged,
            }
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trial:
        """The trial that `to_json` wrote."""
        measured = record.get("measurement")
        if measured is not None:
            accuracy = math.nan if measured["accuracy"] is None else measured["accuracy"]
            measured = Measurement(**(measured | {"accuracy": accuracy}))
        return cls(
            index=record["trial"],
            batch=record["batch"],
            batch_size=record["batch_size"],
            proposal=Proposal(
                point=DesignPoint.from_json(record["point"]),
                origin=Origin(record["origin"]),
                label=record["label"],
                seed=record["seed"],
                fidelity=record["fidelity"],
                continued_from=record["continued_from"],
                predicted_accuracy=record["predicted_accuracy"],
            ),
            latency_s=record["latency_s"],
            metrics=tuple(record["metrics"].items()),
            measurement=measured,
            failure=record["failure"],
        )
