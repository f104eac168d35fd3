"""Did the model that proposed designs rank them as training did? The ground on which a search may go on with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign.search.front import Measured
from codesign.search.trial import Trial

ENOUGH = 20  # proposed and measured designs before a verdict
LATEST = 40  # the model changes as it learns: only its latest proposals count
WEAK = 0.7  # rank correlation below which the additive model is not trusted
# One-sided 95 % quantile of the normal distribution: without correlation, Spearman is about normal, deviation
# 1 / sqrt(designs - 1).
USELESS_Z = 1.645
# Misses up to this multiple of the noise of one training say nothing against a model: its predictions are noisy, too.
EXCUSED = 2.0
DRAWS = 100  # of the noise, for the correlation that a perfect model would show


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Predicted against measured accuracy of the latest designs that the model proposed, none of them known to it.

    rank_correlation : Spearman; nan with fewer than three designs
    attainable : what a perfect model would exceed in 19 cases of 20, given the noise of the trainings
    bias, rms : mean and root mean square of measured - predicted
    noise : root mean square of the standard errors of what was measured
    """

    designs: int
    rank_correlation: float
    attainable: float
    bias: float
    rms: float
    noise: float

    @property
    def weak(self) -> bool:
        """Whether the model ranks badly, and the noise is not to blame.

        Where a perfect model might show no more than a useless one shows in 1 case of 20, no verdict is possible.
        """
        if (
            self.designs < ENOUGH
            or self.rms <= EXCUSED * self.noise
            or self.attainable < USELESS_Z / math.sqrt(self.designs - 1)
        ):
            return False
        return self.rank_correlation < min(WEAK, self.attainable)


def agreement_of(trials: Sequence[Trial], measured: Sequence[Measured]) -> Agreement:
    """Agreement over the last `LATEST` designs that a model proposed; `measured` summarises the full trainings."""
    predictions = {t.index: t.proposal.predicted_accuracy for t in trials}
    predicted_of = [(predictions[m.trials[0]], m) for m in measured]
    pairs = [(predicted, m) for predicted, m in predicted_of if predicted is not None][-LATEST:]
    if len(pairs) < 3:
        return Agreement(
            designs=len(pairs), rank_correlation=math.nan, attainable=math.nan, bias=0.0, rms=0.0, noise=0.0
        )
    predicted = np.array([p for p, _ in pairs])
    found = np.array([m.accuracy for _, m in pairs])
    noise = np.array([m.standard_error for _, m in pairs])
    rng = np.random.default_rng(0)
    ideal = [spearman(predicted, predicted + noise * rng.standard_normal(len(noise))) for _ in range(DRAWS)]
    return Agreement(
        designs=len(pairs),
        rank_correlation=spearman(predicted, found),
        attainable=float(np.quantile(ideal, 0.05)),
        bias=float(np.mean(found - predicted)),
        rms=float(np.sqrt(np.mean((found - predicted) ** 2))),
        noise=float(np.sqrt(np.mean(noise**2))),
    )


def spearman(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation; 0 if one side is constant."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale else 0.0


def _ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Position in rising order; equal values share the mean of theirs."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return ((last - count + last - 1) / 2)[which]
