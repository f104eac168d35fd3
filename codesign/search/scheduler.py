"""What a run does next, as a function of its trials: baselines, uniform policies, promotions, designs, repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codesign.design import DesignPoint
from codesign.search.fidelity import promotions
from codesign.search.finalists import finalists
from codesign.search.front import ParetoFront, summarise
from codesign.search.knowledge import Idea, Propose, knowledge_of
from codesign.search.schedule import Schedule
from codesign.search.space import Choice, Space
from codesign.search.trial import Origin, Proposal, Trial

# Uniform policies before a method has its first word: this many, but no more than this share of the budget. On the
# synthetic problems 16, 30 and 60 gave the same within a point, the fewest the most; single changes of the densest design
# were worse where layers interact.
MOST_UNIFORM, UNIFORM_SHARE, LEAST_UNIFORM = 16, 0.15, 4
# Share of the budget kept for training finalists with further seeds.
REPEAT_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """The fixed part of a run.

    propose : the method, see `methods`
    uniform : uniform policies, fastest first
    accuracy_floor : finalists are the fastest designs above it, if there is one
    choices : a cache of the choice behind each trial; None where the design is not in the space
    """

    space: Space
    schedule: Schedule
    propose: Propose
    uniform: Sequence[DesignPoint]
    accuracy_floor: float | None
    choices: dict[int, Choice | None] = field(default_factory=dict)

    def next_batch(self, batch: int, trials: Sequence[Trial]) -> list[Proposal]:
        """The proposals of batch number `batch` after all `trials` of the batches before it; none at the end."""
        total, left = self.schedule.budget.in_trainings([t for t in trials if t.proposal.origin is not Origin.FURTHER])
        if left <= 0:
            return []
        dense = self.space.point((0,) * len(self.space.sizes))
        if batch == 0:
            labelled = dict(self.schedule.baselines)
            if dense not in labelled.values():
                labelled["dense"] = dense
            ideas = [Idea(point=p, origin=Origin.BASELINE, label=label) for label, p in labelled.items()]
            return self._affordable(self.numbered(ideas, trials), left)
        reserve = REPEAT_SHARE * total if self.schedule.finalist_seeds > 1 and math.isfinite(total) else 0.0
        if left > reserve:
            proposals = promotions(trials, self.schedule.ladder) if len(self.schedule.ladder) > 1 else []
            if not proposals:
                begun = any(t.proposal.origin not in (Origin.BASELINE, Origin.PROMOTE) for t in trials)
                ideas = [] if begun else self._uniform_ideas(total, trials)
                proposals = self.numbered(ideas or self._ideas(batch, trials), trials)
            proposals = self._affordable(proposals, left - reserve)
            if proposals:
                return proposals
        return self._affordable(self._repeats(trials), left)

    def _uniform_ideas(self, total: float, trials: Sequence[Trial]) -> list[Idea]:
        known = {t.point for t in trials}
        fresh = [point for point in self.uniform if point not in known]
        count = min(MOST_UNIFORM, max(LEAST_UNIFORM, round(min(UNIFORM_SHARE * total, 1e6))), len(fresh))
        picked = dict.fromkeys(round(i) for i in np.linspace(0, len(fresh) - 1, count)) if fresh else {}
        return [Idea(point=fresh[i], origin=Origin.UNIFORM) for i in picked]

    def _ideas(self, batch: int, trials: Sequence[Trial]) -> list[Idea]:
        total, _ = self.schedule.budget.in_trainings(trials)
        knowledge = replace(knowledge_of(self.space, trials, self.choices), total=total)
        return self.propose(knowledge, np.random.default_rng([self.schedule.seed, batch])) if knowledge.known else []

    def numbered(self, ideas: Sequence[Idea], trials: Sequence[Trial], fidelity: float | None = None) -> list[Proposal]:
        """Ideas as trainings to be done after `trials`, at the first rung of the ladder or another `fidelity`."""
        return [
            Proposal(
                point=idea.point,
                origin=idea.origin,
                label=idea.label,
                seed=trial_seed(self.schedule.seed, len(trials) + i),
                fidelity=self.schedule.ladder[0] if fidelity is None else fidelity,
                predicted_accuracy=idea.predicted_accuracy,
            )
            for i, idea in enumerate(ideas)
        ]

    def _repeats(self, trials: Sequence[Trial]) -> list[Proposal]:
        """Finalists, each with as many further seeds as it lacks.

        First the first baseline, because everything is compared with it; then `finalists`; then the other baselines.
        """
        measured = summarise(trials)
        chosen = finalists(ParetoFront.of(measured), self.accuracy_floor)
        baselines = [m for m in measured if m.point in set(self.schedule.baselines.values())]
        order = {m.point: m for m in [*baselines[:1], *chosen, *baselines[1:]]}
        failed = {t.point for t in trials if t.measurement is None}
        wanted = [
            Idea(point=m.point, origin=Origin.REPEAT, label=m.label)
            for m in order.values()
            if m.point not in failed
            for _ in range(self.schedule.finalist_seeds - m.seeds)
        ]
        return [
            Proposal(
                point=w.point, origin=w.origin, label=w.label, seed=trial_seed(self.schedule.seed, len(trials) + i)
            )
            for i, w in enumerate(wanted)
        ]

    @staticmethod
    def _affordable(proposals: list[Proposal], trainings: float) -> list[Proposal]:
        """The first proposals that `trainings` pays for."""
        cost = np.cumsum([p.fidelity - p.continued_from for p in proposals])
        return proposals[: int(np.searchsorted(cost, trainings + 1e-9, side="right"))]


def trial_seed(root: int, index: int) -> int:
    """Seed of a trial: it depends on the seed of the search and the number of the trial alone."""
    return int(np.random.SeedSequence(root, spawn_key=(index,)).generate_state(1)[0])
