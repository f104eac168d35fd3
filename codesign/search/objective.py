"""What a search is handed: functions of a design that cost it, and one that trains it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codesign.design import DesignPoint
from codesign.errors import CostError
from codesign.search.space import SearchLayer
from codesign.search.trial import Measurement

# A simulated cost of a whole training run, such as its seconds.
PointCost = Callable[[DesignPoint], float]
# The same cost as a table of each layer, shape (levels of in_group or 1, levels of out_group or 1, options).
LayerTable = Callable[[SearchLayer], NDArray[np.float64]]


class Accuracy(Protocol):
    """Trains `point` with `seed` for a share `fidelity` of the full training run and measures its accuracy.

    A higher fidelity of a point and seed that it has trained before goes on from there; the costs in the measurement
    are those of this call. An exception makes the trial a failed one; a CodesignError ends the search.
    """

    def __call__(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement:
        """Accuracy and what it cost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A further simulated cost, such as energy, area or peak memory, recorded for every trial.

    cost : in the unit that the metric's name ends in
    layer_cost : its tables in one call per layer; otherwise differences of `cost` give them
    """

    cost: PointCost
    layer_cost: LayerTable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a design is judged by.

    latency : exact simulated seconds of the whole training run of a design
    accuracy : real training, see `Accuracy`
    layer_latency : the tables of latency in one call per layer; otherwise differences of `latency` give them
    metrics : further costs by name
    proxy : a cheap number that grows with the damage done to a design; `dp` expects it to hold until measured
    """

    latency: PointCost
    accuracy: Accuracy
    layer_latency: LayerTable | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    proxy: PointCost | None = None

    def costs_of(self, point: DesignPoint) -> tuple[float, tuple[tuple[str, float], ...]]:
        """Latency in seconds of a design, and its metrics by name.

        Raises
        ------
        CostError : one of them is not finite
        """
        latency_s = float(self.latency(point))
        metrics = {name: float(metric.cost(point)) for name, metric in self.metrics.items()}
        for name, value in {"latency": latency_s, **metrics}.items():
            if not math.isfinite(value):
                raise CostError(f"{name} of {point.to_json()} is {value}; it must be a finite number")
        return latency_s, tuple(metrics.items())
