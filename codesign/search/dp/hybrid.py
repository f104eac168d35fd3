"""The method `dp`. While its surrogate ranks designs badly, half of the next ones come from NSGA-II."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from codesign.search.dp.agreement import agreement_of
from codesign.search.dp.problem import Problem
from codesign.search.dp.propose import propose
from codesign.search.knowledge import BATCH, Idea, Knowledge, Propose


class Hybrid:
    """Both see everything that was measured: the front so far is in NSGA-II's first generations, its finds are in the surrogate.

    Handing over for good was worse: a surrogate that ranks badly after 20 designs mostly ranks well after 60.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def ideas(self, knowledge: Knowledge, rng: np.random.Generator) -> list[Idea]:
        """The next designs."""
        found = propose(self._problem, knowledge, rng)
        if not agreement_of(knowledge.trials, knowledge.full).weak:
            return found
        found = found[: BATCH // 2]
        choices = {self._problem.space.choice(idea.point) for idea in found}
        rest = replace(knowledge, tried=knowledge.tried | {c for c in choices if c is not None})
        return [*found, *self._genetic(rest, rng)[: BATCH - len(found)]]

    @cached_property
    def _genetic(self) -> Propose:
        from codesign.search.optuna_sampler import OptunaSampler, Sampler  # loads Optuna, which most runs never need

        return OptunaSampler(self._problem.space, Sampler.NSGA2).ideas
