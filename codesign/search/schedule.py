"""What a search may spend, and in which order: budget, method, seed, and the designs that every run trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codesign.design import DesignPoint, uniform
from codesign.errors import ConfigError
from codesign.search.methods import Method
from codesign.search.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent on training: full training runs, CPU seconds of training, or whichever ends first.

    A batch that has begun is finished, so CPU seconds can be passed by part of a batch.
    """

    trainings: float | None = None
    cpu_s: float | None = None

    def __post_init__(self) -> None:
        if self.trainings is None and self.cpu_s is None:
            raise ConfigError("a budget needs trainings or cpu_s")
        for name, value in (("trainings", self.trainings), ("cpu_s", self.cpu_s)):
            if value is not None and not value > 0:
                raise ConfigError(f"budget: {name} must be positive, got {value:g}")

    def in_trainings(self, trials: Sequence[Trial]) -> tuple[float, float]:
        """The budget and what is left of it, in full training runs at the mean cost so far; inf while that is unknown."""
        spent = sum(t.trainings for t in trials)
        spent_cpu_s = sum(t.measurement.cpu_s for t in trials if t.measurement is not None)
        total, left = math.inf, math.inf
        if self.trainings is not None:
            total, left = self.trainings, self.trainings - spent
        if self.cpu_s is not None and spent_cpu_s > 0:
            each_s = spent_cpu_s / spent
            total = min(total, self.cpu_s / each_s)
            left = min(left, (self.cpu_s - spent_cpu_s) / each_s)
        return total, left


def standard_baselines() -> dict[str, DesignPoint]:
    """The uniform policies that every run measures: all channels, one format everywhere. int8 is sign and 7 bits."""
    presets = {"fp32": "fp32", "bf16": "bf16", "fp8-hybrid": "fp8-hybrid", "int8": "e0m7"}
    return {label: DesignPoint(default=uniform(name)) for label, name in presets.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How the budget is spent.

    budget : what all training runs together may cost
    method : how designs are proposed
    seed : of everything that is drawn
    ladder : shares of the full training run at which a design is looked at, rising to 1; see `fidelity`
    finalist_seeds : training runs of each finalist and baseline at the end, out of a fifth of the budget; 1 for none
    baselines : measured first, by label
    uniform_start : begin with designs that have one level and one option everywhere, whatever the method
    """

    budget: Budget
    method: Method = Method.DP
    seed: int = 0
    ladder: tuple[float, ...] = (1.0,)
    finalist_seeds: int = 3
    baselines: Mapping[str, DesignPoint] = field(default_factory=standard_baselines)
    uniform_start: bool = True

    def __post_init__(self) -> None:
        checked_ladder(self.ladder)
        if self.finalist_seeds < 1:
            raise ConfigError(f"finalist_seeds must be at least 1, got {self.finalist_seeds}")


def checked_ladder(ladder: Sequence[float]) -> tuple[float, ...]:
    """The rungs, if they rise from above 0 to 1."""
    rungs = tuple(float(f) for f in ladder)
    if not rungs or rungs[-1] != 1.0 or rungs[0] <= 0 or any(a >= b for a, b in itertools.pairwise(rungs)):
        raise ConfigError(f"ladder must rise from above 0 to 1, got {list(ladder)}")
    return rungs
