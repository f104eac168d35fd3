"""What the trials of a run taught about accuracy. It does not depend on the accelerator, so it serves for others too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.search.dp import DEFAULT_FLOOR, Problem, candidates_of, surrogate_of, undominated, wider_options
from codesign.search.limits import Metric
from codesign.search.model import Surrogate, prior_of
from codesign.search.space import Space
from codesign.search.stages import knowledge_of
from codesign.search.tables import Cost, LayerCost, loosened, sliced, tabulate
from codesign.search.trial import Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A design that was not trained: its exact simulated latency, and the accuracy that the model expects.

    deviation : standard deviation of the expected accuracy
    """

    point: DesignPoint
    latency_s: float
    accuracy: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """The fitted model of a space; `best_accuracy` is the highest that was measured."""

    space: Space
    model: Surrogate
    best_accuracy: float

    def front(
        self,
        *,
        latency: Cost,
        layer_latency: LayerCost | None = None,
        metrics: Mapping[str, Metric] | None = None,
        accuracy_floor: float | None = None,
    ) -> tuple[Predicted, ...]:
        """The predicted front on any accelerator, fastest first, without training anything.

        Called in a loop over accelerators, it is the outer search over the hardware: the functions are then those of
        each accelerator that an area or energy budget allows. Designs above the limit of one of `metrics` are left out.
        """
        loose, _ = loosened(self.space)
        limited = {n: (m, m.limit) for n, m in (metrics or {}).items() if m.limit is not None}
        floor = DEFAULT_FLOOR * self.best_accuracy if accuracy_floor is None else accuracy_floor
        problem = Problem(
            space=self.space,
            loose=loose,
            latency=sliced(self.space, loose, tabulate(self.space, latency, layer_latency)),
            limited={
                name: (sliced(self.space, loose, tabulate(self.space, metric.cost, metric.layer_cost)), limit)
                for name, (metric, limit) in limited.items()
            },
            wider=wider_options(self.space),
            latency_limit_s=None,
            error_limit=1.0 - floor,
            prior=prior_of(self.space),
        )
        choices = [
            choice
            for choice in candidates_of(problem, self.model, 1.0 - floor)
            if all(metric.cost(self.space.point(choice)) <= limit for metric, limit in limited.values())
        ]
        errors = self.model.mean(choices)
        order = [i for i in undominated(problem.latency.of_all(loose, choices), errors) if errors[i] <= 1.0 - floor]
        deviations = self.model.deviation([choices[i] for i in order])
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
        effects, spreads = self.model.effects_at(dense), self.model.deviations_at(dense)
        base = float(self.model.mean([dense])[0])
        link = self.model.link
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


def learn(space: Space, trials: Sequence[Trial], *, proxy: Cost | None = None) -> Learnt:
    """Fit the model to the trials of a run, whichever method made them."""
    knowledge = knowledge_of(space, trials, {})
    if not knowledge.known:
        raise ConfigError("none of these trials measured a design of this space; search it first")
    return Learnt(
        space=space,
        model=surrogate_of(prior_of(space, proxy), knowledge),
        best_accuracy=max(k.measured.accuracy for k in knowledge.known),
    )
