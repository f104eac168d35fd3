"""`dp` as long as its model ranks designs as training does; NSGA-II from where it stands as soon as it does not."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from codesign.search.agreement import agreement_of
from codesign.search.dp import Problem, dp_ideas
from codesign.search.methods import Idea, Knowledge, Propose
from codesign.search.trial import Origin


class Hybrid:
    """The method `dp`. What it hands over is all it measured: the front it found is in NSGA-II's first generations."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def ideas(self, knowledge: Knowledge, rng: np.random.Generator) -> list[Idea]:
        """The next designs."""
        handed_over = any(t.proposal.origin is Origin.EXPLORE for t in knowledge.trials)
        if handed_over or agreement_of(knowledge.trials, knowledge.full).weak:
            return self._genetic(knowledge, rng)
        return dp_ideas(self._problem, knowledge, rng)

    @cached_property
    def _genetic(self) -> Propose:
        from codesign.search.evolve import OptunaSampler  # loads Optuna, which most runs never need

        return OptunaSampler(self._problem.space, "nsga2").ideas
