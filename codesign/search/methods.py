"""What every method shares. A method is a function of what has been measured so far, and of nothing else.

So a run can be taken up after any trial, and gives the same trials whatever the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codesign.design import DesignPoint
from codesign.search.front import Measured
from codesign.search.space import Choice
from codesign.search.trial import Origin, Trial

BATCH = 10  # designs proposed together; fixed, so that the number of workers does not change the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """A design worth training, before it has a seed and a number."""

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

    known : measured designs, in the order of their first trials
    tried : every design of the space that was proposed, those whose training failed among them
    full : every design that was trained in full, baselines outside of the space among them
    trials : behind all of it, in the order of their index
    total : the budget in full trainings, as far as it is known by now; inf before
    """

    known: tuple[Known, ...]
    tried: frozenset[Choice]
    full: tuple[Measured, ...]
    trials: tuple[Trial, ...]
    total: float = math.inf


# The next designs, given what is known and a generator that is fresh for each batch; none if the method has no more.
Propose = Callable[[Knowledge, np.random.Generator], list[Idea]]
