"""The default method: learn what each decision does to the error, solve for the front exactly, measure it, repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.search.methods import BATCH, Idea, Known, spread_along
from codesign.search.model import Block, Sensitivity, fit
from codesign.search.solve import Solution, Step, solve
from codesign.search.space import Choice, Space
from codesign.search.tables import CostTables
from codesign.search.trial import Origin

Floats = NDArray[np.float64]

LABELS = 2000  # labels per state of the dynamic program inside a search


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the dynamic program works on; `loose` is the space without the couplings that had to be cut."""

    space: Space
    loose: Space
    tables: CostTables
    blocks: tuple[Block, ...]


def front_of(problem: Problem, effects: Sequence[Floats], *, keep: int = LABELS) -> Solution:
    """Front of the tabulated cost against the error that `effects` give, one array per decision."""
    groups = len(problem.space.groups)
    steps = []
    for layer, table, effect in zip(problem.loose.layers, problem.tables.layers, effects[groups:], strict=True):
        in_group, out_group = (
            None if name is None else problem.space.group_index[name] for name in (layer.in_group, layer.out_group)
        )
        loss = np.broadcast_to(effect, table.shape)
        steps.append(Step(in_group=in_group, out_group=out_group, latency_s=table, loss=loss))
    return solve(steps, effects[:groups], keep=keep)


def profile_choices(space: Space, most: int) -> list[Choice]:
    """Single changes of the densest design, coarse before fine, `most` of them at the most."""
    dense = (0,) * len(space.sizes)
    chosen: dict[Choice, None] = {}
    for depth in (2, 4, 8, 16):
        for position, size in enumerate(space.sizes):
            for part in range(1, depth, 2):
                entry = round((size - 1) * part / depth)
                if entry and len(chosen) < most:
                    chosen[(*dense[:position], entry, *dense[position + 1 :])] = None
    return list(chosen)


def fitted(problem: Problem, known: Sequence[Known]) -> Sensitivity:
    """The model of all that has been measured."""
    return fit(
        problem.blocks,
        [k.choice for k in known],
        np.array([1.0 - k.measured.accuracy for k in known]),
        np.array([k.measured.standard_error**2 for k in known]),
    )


def dp_ideas(
    problem: Problem, profile: Sequence[Choice], known: Sequence[Known], rng: np.random.Generator
) -> list[Idea]:
    """What is left of the profile; after that, designs spread along the front of the fitted model."""
    space, seen = problem.space, {k.choice for k in known}
    left = [choice for choice in profile if choice not in seen]
    if left:
        return [Idea(point=space.point(c), origin=Origin.PROFILE) for c in left]
    model = fitted(problem, known)
    solution = front_of(problem, model.effects(model.sample(rng)))
    fresh = [i for i, choice in enumerate(solution.choices) if choice not in seen]
    picked = [fresh[i] for i in spread_along([-solution.loss[i] for i in fresh], BATCH)]
    choices = [solution.choices[i] for i in picked]
    predicted, _ = model.predict(choices)
    return [
        Idea(point=space.point(c), origin=Origin.FRONT, predicted_accuracy=float(1.0 - p))
        for c, p in zip(choices, predicted, strict=True)
    ]
