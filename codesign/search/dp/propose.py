"""The default method: learn what each decision does to the error, solve for the front exactly, measure it, repeat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codesign.search.dp.fit import surrogate_of
from codesign.search.dp.problem import Problem, front_of
from codesign.search.dp.surrogate import Surrogate
from codesign.search.knowledge import BATCH, Idea, Knowledge
from codesign.search.limits import Limits
from codesign.search.space import Choice
from codesign.search.trial import Origin

Floats = NDArray[np.float64]

ANCHORS = 6  # designs along the front around which an interacting model is made additive
NEIGHBOURHOODS = 5  # designs whose single changes are considered once the front itself is measured
# Standard deviations by which each effect (for the program) and each design (for the choice among its fronts) counts
# worse than expected: an optimum finds whatever is thought too good. 0.15 to 0.6 and 0.5 do the same within a point.
EFFECT_CAUTION, DESIGN_CAUTION = 0.2, 0.5
BLENDS = (0.3, 0.6, 0.9)  # weights of a limited metric against latency in further fronts
# Without an accuracy floor from the user, designs with less than this share of the best accuracy are of no interest.
DEFAULT_FLOOR = 0.5


def propose(problem: Problem, knowledge: Knowledge, rng: np.random.Generator) -> list[Idea]:
    """Designs that add most to the front by the fitted model.

    Once the predicted front is measured, its single changes are tried, and what is uncertain counts as good.
    """
    model = surrogate_of(problem.prior, knowledge)
    error_limit = error_limit_of(problem.limits, max(k.measured.accuracy for k in knowledge.known))
    known = [k.choice for k in knowledge.known]
    have = problem.latency.of_all(problem.loose, known), model.mean(known)
    candidates = [c for c in candidates_of(problem, model, error_limit) if c not in knowledge.tried]
    doubtful = model.mean(candidates) + DESIGN_CAUTION * model.deviation(candidates)
    picked = _pick(problem, candidates, doubtful, have, error_limit)
    if len(picked) < BATCH:
        candidates = [c for c in _neighbours(problem, known, have, rng) if c not in knowledge.tried | set(picked)]
        hopeful = model.mean(candidates) - 2.0 * model.deviation(candidates)
        picked += _pick(problem, candidates, hopeful, have, error_limit, count=BATCH - len(picked))
    predicted = model.mean(picked)
    return [
        Idea(point=problem.space.point(c), origin=Origin.FRONT, predicted_accuracy=float(1.0 - error))
        for c, error in zip(picked, predicted, strict=True)
    ]


def error_limit_of(limits: Limits, best_accuracy: float) -> float:
    """Designs with a larger predicted error are of no interest; `best_accuracy` is the highest measured one."""
    floor = DEFAULT_FLOOR * best_accuracy if limits.accuracy_floor is None else limits.accuracy_floor
    return 1.0 - floor


def candidates_of(problem: Problem, model: Surrogate, error_limit: float) -> list[Choice]:
    """Fronts of the model made additive: around the densest design, and where pairs matter around designs along it."""
    dense = problem.dense
    deviations = model.deviations_at(dense)  # elsewhere they are not much different, and dear
    effects = _cautious(problem, model.effects_at(dense), deviations)
    found = dict.fromkeys(front_of(problem, problem.latency.layers, effects).choices)
    for tables, limit in problem.limited:
        scale = problem.latency.of(problem.loose, dense) / limit
        for blend in BLENDS:
            mixed = [
                (1 - blend) * a + blend * scale * b for a, b in zip(problem.latency.layers, tables.layers, strict=True)
            ]
            found |= dict.fromkeys(front_of(problem, mixed, effects).choices)
    if model.pairs:
        choices = list(found)
        errors = model.mean(choices)
        order = undominated(problem.latency.of_all(problem.loose, choices), errors)
        order = order[errors[order] < error_limit]
        if len(order):
            aims = np.linspace(errors[order].min(), errors[order].max(), ANCHORS + 1)[1:]
            for anchor in dict.fromkeys(int(np.abs(errors[order] - aim).argmin()) for aim in aims):
                effects = _cautious(problem, model.effects_at(choices[order[anchor]]), deviations)
                found |= dict.fromkeys(front_of(problem, problem.latency.layers, effects).choices)
    return list(found)


def _cautious(problem: Problem, effects: Sequence[Floats], deviations: Sequence[Floats]) -> list[Floats]:
    """Effects for the program: doubt counts against them, and fewer channels or bits never help.

    Where the model expects help all the same, the smaller choice counts as good as the larger, and is the faster one.
    """
    doubtful = [effect + EFFECT_CAUTION * deviation for effect, deviation in zip(effects, deviations, strict=True)]
    groups = len(problem.space.groups)
    levels = [np.maximum.accumulate(effect) for effect in doubtful[:groups]]
    options = [
        np.where(wider, effect[:, None], -np.inf).max(axis=0)
        for wider, effect in zip(problem.wider, doubtful[groups:], strict=True)
    ]
    return [*levels, *options]


def undominated(latency_s: Floats, errors: Floats) -> NDArray[np.int64]:
    """Indices of the designs that no other beats, fastest first."""
    order = np.lexsort((errors, latency_s))
    lowest = np.minimum.accumulate(errors[order])
    return order[np.concatenate([[True], lowest[1:] < lowest[:-1]])] if len(order) else order


def _neighbours(
    problem: Problem, known: Sequence[Choice], have: tuple[Floats, Floats], rng: np.random.Generator
) -> list[Choice]:
    """All single changes of some designs of the front as it is."""
    front = undominated(*have)
    centres = rng.choice(front, size=min(NEIGHBOURHOODS, len(front)), replace=False)
    found: dict[Choice, None] = {}
    for centre in centres:
        choice = known[centre]
        for d, size in enumerate(problem.space.sizes):
            found |= dict.fromkeys((*choice[:d], entry, *choice[d + 1 :]) for entry in range(size))
    return list(found)


def _pick(
    problem: Problem,
    candidates: Sequence[Choice],
    errors: Floats,
    have: tuple[Floats, Floats],
    error_limit: float,
    *,
    count: int = BATCH,
) -> list[Choice]:
    """Up to `count` candidates, each adding the most hypervolume to what is there, within all limits."""
    if not candidates:
        return []
    latency_s = problem.latency.of_all(problem.loose, candidates)
    allowed = np.ones(len(candidates), bool)
    if problem.limits.latency_s is not None:
        allowed &= latency_s <= problem.limits.latency_s
    for tables, limit in problem.limited:
        allowed &= tables.of_all(problem.loose, candidates) <= limit
    reference = (problem.latency.of(problem.loose, problem.dense), error_limit)
    rows = np.flatnonzero(allowed)
    return [candidates[rows[i]] for i in by_hypervolume((latency_s[rows], errors[rows]), have, reference, count)]


def by_hypervolume(
    candidates: tuple[Floats, Floats], have: tuple[Floats, Floats], reference: tuple[float, float], count: int
) -> list[int]:
    """Indices of candidates (latency, error), chosen one after the other for the hypervolume that each adds."""
    x, y = candidates
    have_x, have_y = have
    chosen: list[int] = []
    for _ in range(min(count, len(x))):
        gain = np.where((x < reference[0]) & (y < reference[1]), _added(x, y, have_x, have_y, reference), 0.0)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen.append(best)
        have_x, have_y = np.append(have_x, x[best]), np.append(have_y, y[best])
    return chosen


def _added(x: Floats, y: Floats, have_x: Floats, have_y: Floats, reference: tuple[float, float]) -> Floats:
    """Hypervolume that each (x, y) alone would add: the area right of it and above it, under the staircase there is."""
    inside = (have_x < reference[0]) & (have_y < reference[1])
    order = undominated(have_x[inside], have_y[inside])
    left = np.concatenate([[-np.inf], have_x[inside][order]])
    right = np.append(left[1:], reference[0])
    height = np.concatenate([[reference[1]], have_y[inside][order]])
    width = np.clip(right[None, :] - np.maximum(left[None, :], x[:, None]), 0.0, None)
    return np.asarray((width * np.clip(height[None, :] - y[:, None], 0.0, None)).sum(axis=1))
