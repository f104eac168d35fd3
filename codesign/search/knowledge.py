"""What has been measured, as a method sees it, and what a method says: values that every method shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.design import DesignPoint
from codesign.search.fidelity import extrapolated
from codesign.search.front import Measured, summarise
from codesign.search.space import Choice, Space
from codesign.search.trial import Origin, Trial

BATCH = 10  # designs proposed together; fixed, so that the number of workers does not change the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """A design worth training, before it has a seed and a number.

    predicted_accuracy : at full training, 0 to 1, by the surrogate that proposed it; None if none did
    """

    point: DesignPoint
    origin: Origin
    label: str = ""
    predicted_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A measured design of the search space."""

    choice: Choice
    measured: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """All that a method may look at.

    known : measured designs, in the order of their first trials; those without a full training run are extrapolated
    tried : every design of the space that was proposed, those whose training run failed among them
    full : every design that was trained in full, baselines outside of the space among them
    trials : behind all of it, in the order of their index
    total : the budget in full training runs, as far as it is known by now; inf before
    """

    known: tuple[Known, ...]
    tried: frozenset[Choice]
    full: tuple[Measured, ...]
    trials: tuple[Trial, ...]
    total: float = math.inf


# A method: see the contract in `methods`.
Propose = Callable[[Knowledge, np.random.Generator], list[Idea]]


def knowledge_of(space: Space, trials: Sequence[Trial], choices: dict[int, Choice | None]) -> Knowledge:
    """What the methods may look at; `choices` is filled as a cache."""
    for trial in trials[len(choices) :]:
        choices[trial.index] = space.choice(trial.point)
    full = summarise(trials)
    measured = sorted([*full, *extrapolated(trials, full)], key=lambda m: m.trials[0])
    known = [(choices[m.trials[0]], m) for m in measured]
    return Knowledge(
        known=tuple(Known(choice=c, measured=m) for c, m in known if c is not None),
        tried=frozenset(c for c in choices.values() if c is not None),
        full=tuple(full),
        trials=tuple(trials),
    )
