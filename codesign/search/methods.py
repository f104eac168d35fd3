"""How the next designs are proposed. Every method is a function of what has been measured so far, and of nothing else.

So a run can be taken up after any trial, and gives the same trials whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from codesign.design import DesignPoint
from codesign.search.front import Measured
from codesign.search.space import Choice, Space
from codesign.search.trial import Origin

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


# What a method is: known designs, and a generator that is fresh for each batch, to the next designs.
Propose = Callable[[Sequence[Known], np.random.Generator], list[Idea]]


def spread_along(values: Sequence[float], count: int) -> list[int]:
    """Indices of `count` entries of rising `values` that divide their range most evenly; all if there are fewer."""
    if len(values) <= count:
        return list(range(len(values)))
    wanted = np.linspace(values[0], values[-1], count)
    nearest = np.abs(np.asarray(values)[None, :] - wanted[:, None]).argmin(axis=1)
    return list(dict.fromkeys(int(i) for i in nearest))


def random_ideas(space: Space, known: Sequence[Known], rng: np.random.Generator) -> list[Idea]:
    """Uniform policies first, then designs drawn uniformly from the space."""
    seen = {k.choice for k in known}
    ideas: dict[Choice, Idea] = {}
    for _ in range(100 * BATCH):
        choice = tuple(int(rng.integers(n)) for n in space.sizes)
        if choice not in seen and choice not in ideas:
            ideas[choice] = Idea(point=space.point(choice), origin=Origin.EXPLORE)
        if len(ideas) == BATCH:
            break
    return list(ideas.values())
