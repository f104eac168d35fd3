"""`dp` as long as its model ranks designs as training does; NSGA-II from where it stands as soon as it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.search.agreement import agreement_of
from codesign.search.dp import Problem, dp_ideas
from codesign.search.evolve import OptunaSampler
from codesign.search.methods import Idea, Knowledge
from codesign.search.trial import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Hybrid:
    """The method `dp`. What it hands over is all it measured: the front it found is in NSGA-II's first generations."""

    problem: Problem
    genetic: OptunaSampler

    def ideas(self, knowledge: Knowledge, rng: np.random.Generator) -> list[Idea]:
        """The next designs."""
        handed_over = any(t.proposal.origin is Origin.EXPLORE for t in knowledge.trials)
        if handed_over or agreement_of(knowledge.trials, knowledge.full).weak:
            return self.genetic.ideas(knowledge, rng)
        return dp_ideas(self.problem, knowledge, rng)
