"""What a run does next, as a function of its trials: baselines, uniform policies, promotions, designs, repeats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.design import DesignPoint
from codesign.errors import ConfigError
from codesign.search.fidelity import extrapolated, promotions
from codesign.search.front import CONFIDENCE_Z, Measured, ParetoFront, summarise
from codesign.search.methods import Idea, Knowledge, Known, Propose
from codesign.search.space import Choice, Space
from codesign.search.trial import Origin, Proposal, Trial

# Uniform policies before a method has its first word: this many, but no more than this share of the budget. On the
# synthetic problems 16, 30 and 60 gave the same within a point, the fewest the most; single changes of the densest design
# were worse where layers interact.
MOST_UNIFORM, UNIFORM_SHARE, LEAST_UNIFORM = 16, 0.15, 4
# Share of the budget kept for training finalists with further seeds.
REPEAT_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent on training: full trainings, CPU seconds of training, or whichever ends first.

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
        """The budget and what is left of it, in full trainings at the mean cost so far; inf while that is unknown."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The fixed part of a run.

    uniform : uniform policies, fastest first
    ladder : fidelities at which a design is looked at, rising to 1
    accuracy_floor : finalists are the fastest designs above it, if there is one
    choices : a cache of the choice behind each trial; None where the design is not in the space
    """

    space: Space
    propose: Propose
    budget: Budget
    seed: int
    baselines: Mapping[str, DesignPoint]
    uniform: Sequence[DesignPoint]
    ladder: tuple[float, ...]
    finalist_seeds: int
    accuracy_floor: float | None
    choices: dict[int, Choice | None]

    def next_batch(self, batch: int, trials: Sequence[Trial]) -> list[Proposal]:
        """The proposals of batch number `batch` after all `trials` of the batches before it; none at the end."""
        total, left = self.budget.in_trainings([t for t in trials if t.proposal.origin is not Origin.FURTHER])
        if left <= 0:
            return []
        dense = self.space.point((0,) * len(self.space.sizes))
        if batch == 0:
            labelled = dict(self.baselines)
            if dense not in labelled.values():
                labelled["dense"] = dense
            ideas = [Idea(point=p, origin=Origin.BASELINE, label=label) for label, p in labelled.items()]
            return self._affordable(self.numbered(ideas, trials), left)
        reserve = REPEAT_SHARE * total if self.finalist_seeds > 1 and math.isfinite(total) else 0.0
        if left > reserve:
            proposals = promotions(trials, self.ladder) if len(self.ladder) > 1 else []
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
        total, _ = self.budget.in_trainings(trials)
        knowledge = replace(knowledge_of(self.space, trials, self.choices), total=total)
        return self.propose(knowledge, np.random.default_rng([self.seed, batch])) if knowledge.known else []

    def numbered(self, ideas: Sequence[Idea], trials: Sequence[Trial], fidelity: float | None = None) -> list[Proposal]:
        """Ideas as trainings to be done after `trials`, at the first rung of the ladder or another `fidelity`."""
        return [
            Proposal(
                point=idea.point,
                origin=idea.origin,
                label=idea.label,
                seed=trial_seed(self.seed, len(trials) + i),
                fidelity=self.ladder[0] if fidelity is None else fidelity,
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
        baselines = [m for m in measured if m.point in set(self.baselines.values())]
        order = {m.point: m for m in [*baselines[:1], *chosen, *baselines[1:]]}
        failed = {t.point for t in trials if t.measurement is None}
        wanted = [
            Idea(point=m.point, origin=Origin.REPEAT, label=m.label)
            for m in order.values()
            if m.point not in failed
            for _ in range(self.finalist_seeds - m.seeds)
        ]
        return [
            Proposal(point=w.point, origin=w.origin, label=w.label, seed=trial_seed(self.seed, len(trials) + i))
            for i, w in enumerate(wanted)
        ]

    @staticmethod
    def _affordable(proposals: list[Proposal], trainings: float) -> list[Proposal]:
        """The first proposals that `trainings` pays for."""
        cost = np.cumsum([p.fidelity - p.continued_from for p in proposals])
        return proposals[: int(np.searchsorted(cost, trainings + 1e-9, side="right"))]


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


def finalists(front: ParetoFront, accuracy_floor: float | None) -> list[Measured]:
    """Designs of a front in the order in which further seeds are worth most.

    With a floor, first the designs whose interval holds it, nearest first, as far as none is known to meet it and to be
    faster. Then, spread along the front, the leading designs that the noise leaves undecided: no faster one is worse
    beyond it. Then the other leading designs, and last those that lead only within the noise.
    """
    pairs = list(zip(front.members, front.leading, strict=True))
    leading = [m for m, leads in pairs if leads]
    unsure: list[Measured] = []
    if accuracy_floor is not None:
        floor = accuracy_floor
        sure_s = min((m.latency_s for m in front.members if m.interval[0] >= floor), default=math.inf)
        unsure = [m for m in front.members if m.interval[0] < floor <= m.interval[1] and m.latency_s < sure_s]
        unsure.sort(key=lambda m: abs(m.accuracy - floor))
    noise = [math.hypot(a.standard_error, b.standard_error) for a, b in itertools.pairwise(leading)]
    steps = [b.accuracy - a.accuracy for a, b in itertools.pairwise(leading)]
    near = [step <= CONFIDENCE_Z * error for step, error in zip(steps, noise, strict=True)]
    contested = [m for i, m in enumerate(leading) if any(near[max(i - 1, 0) : i + 1])]
    spread = [[some[i] for i in _by_halving(len(some))] for some in (contested, leading)]
    rest = [m for m, leads in pairs if not leads]
    return list({m.point: m for m in [*unsure, *spread[0], *spread[1], *rest]}.values())


def trial_seed(root: int, index: int) -> int:
    """Seed of a trial: it depends on the seed of the search and the number of the trial alone."""
    return int(np.random.SeedSequence(root, spawn_key=(index,)).generate_state(1)[0])


def _by_halving(count: int) -> list[int]:
    """0 .. count - 1, ordered so that every beginning is spread out: the ends, the middle, the quarters, ..."""
    order: dict[int, None] = {}
    parts = 1
    while len(order) < count:
        for i in range(parts + 1):
            order[round(i * (count - 1) / parts)] = None
        parts *= 2
    return list(order)
