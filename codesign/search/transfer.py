"""What the trials of a run taught about accuracy. It does not depend on the accelerator, so it serves for others too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.search.dp.fit import surrogate_of
from codesign.search.dp.prior import prior_of
from codesign.search.dp.problem import problem_of
from codesign.search.dp.propose import candidates_of, error_limit_of, undominated
from codesign.search.dp.surrogate import Surrogate
from codesign.search.knowledge import knowledge_of
from codesign.search.limits import Limits
from codesign.search.objective import LayerTable, Metric, PointCost
from codesign.search.space import Space
from codesign.search.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A design that was not trained: its exact simulated latency, and the accuracy that the surrogate expects.

    deviation : standard deviation of the expected accuracy
    """

    point: DesignPoint
    latency_s: float
    accuracy: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyModel:
    """The surrogate of a space, fitted to a run; `best_accuracy` is the highest that was measured, 0 to 1."""

    space: Space
    surrogate: Surrogate
    best_accuracy: float

    def front(
        self,
        *,
        latency: PointCost,
        layer_latency: LayerTable | None = None,
        metrics: Mapping[str, Metric] | None = None,
        limits: Limits | None = None,
    ) -> tuple[Predicted, ...]:
        """The predicted front on any accelerator, fastest first, without training anything.

        Called in a loop over accelerators, it is the outer search over the hardware: the functions are then those of
        each accelerator that an area or energy budget allows. Designs beyond the limits are left out.

        Raises
        ------
        ConfigError : a limit on a metric that is not there
        CostError : a table that does not fit
        """
        limits, metrics = limits or Limits(), metrics or {}
        problem = problem_of(self.space, latency=latency, layer_latency=layer_latency, metrics=metrics, limits=limits)
        error_limit = error_limit_of(limits, self.best_accuracy)
        choices = [
            choice
            for choice in candidates_of(problem, self.surrogate, error_limit)
            for point in [self.space.point(choice)]
            if (limits.latency_s is None or latency(point) <= limits.latency_s)
            and all(metrics[name].cost(point) <= limit for name, limit in limits.metrics.items())
        ]
        errors = self.surrogate.mean(choices)
        order = [
            i for i in undominated(problem.latency.of_all(problem.loose, choices), errors) if errors[i] <= error_limit
        ]
        deviations = self.surrogate.deviation([choices[i] for i in order])
        points = [self.space.point(choices[i]) for i in order]
        return tuple(
            Predicted(point=p, latency_s=latency(p), accuracy=float(1.0 - errors[i]), deviation=float(d))
            for p, i, d in zip(points, order, deviations, strict=True)
        )

    def sensitivities(self) -> pd.DataFrame:
        """Expected loss of accuracy of each single change of the densest design, with its standard deviation.

        Columns: decision (group or layer), entry (channels kept or name of the option), loss, loss_deviation.
        """
        import pandas as pd

        dense = (0,) * len(self.space.sizes)
        effects, spreads = self.surrogate.effects_at(dense), self.surrogate.deviations_at(dense)
        base = float(self.surrogate.mean([dense])[0])
        link = self.surrogate.link
        start = link.latent_of(np.array(base))
        slope = link.slope_at(start)
        named = [(g.name, [str(level) for level in g.levels]) for g in self.space.groups]
        named += [(layer.name, list(layer.formats)) for layer in self.space.layers]
        rows = [
            {
                "decision": decision,
                "entry": entry,
                "loss": float(link.error_of(start + effect) - base),
                "loss_deviation": float(spread * slope),
            }
            for (decision, entries), mean, deviation in zip(named, effects, spreads, strict=True)
            for entry, effect, spread in zip(entries, mean, deviation, strict=True)
        ]
        return pd.DataFrame(rows)


def learn(space: Space, trials: Sequence[Trial], *, proxy: PointCost | None = None) -> AccuracyModel:
    """Fit the surrogate to the trials of a run, whichever method made them.

    proxy : see `Objective`

    Raises
    ------
    ConfigError : no trial measured a design of the space
    """
    knowledge = knowledge_of(space, trials, {})
    if not knowledge.known:
        raise ConfigError("none of these trials measured a design of this space; search it first")
    return AccuracyModel(
        space=space,
        surrogate=surrogate_of(prior_of(space, proxy), knowledge),
        best_accuracy=max(k.measured.accuracy for k in knowledge.known),
    )
