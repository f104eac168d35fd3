"""The default method: learn what each decision does to the error, solve for the front exactly, measure it, repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.search.methods import BATCH, Idea, Knowledge
from codesign.search.model import Prior, Surrogate, fit
from codesign.search.solve import Solution, Step, solve
from codesign.search.space import Choice, Space, widths
from codesign.search.tables import CostTables
from codesign.search.trial import Origin

Floats = NDArray[np.float64]

# Labels per state of the dynamic program inside a search: 99.86 % of the exact hypervolume on the synthetic problems,
# from which ten designs are picked. For a front to be read, `solve` keeps 2000 (99.9 % and more).
LABELS = 500
ANCHORS = 6  # designs along the front around which an interacting model is made additive
NEIGHBOURHOODS = 5  # designs whose single changes are considered once the front itself is measured
# Standard deviations by which each effect (for the program) and each design (for the choice among its fronts) counts
# worse than expected: an optimum finds whatever is thought too good. 0.15 to 0.6 and 0.5 do the same within a point.
EFFECT_CAUTION, DESIGN_CAUTION = 0.2, 0.5
BLENDS = (0.3, 0.6, 0.9)  # weights of a limited metric against latency in further fronts


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the method works on.

    loose : the space without the couplings that had to be cut
    latency : tables of latency for `loose`
    limited : tables of every metric with a limit, and the limit
    wider : see `wider_options`
    error_limit : designs with a larger predicted error are of no interest; None means `DEFAULT_FLOOR` decides
    """

    space: Space
    loose: Space
    latency: CostTables
    limited: Mapping[str, tuple[CostTables, float]]
    wider: tuple[NDArray[np.bool_], ...]
    latency_limit_s: float | None
    error_limit: float | None
    prior: Prior


# Without an accuracy floor from the user, designs with less than this share of the best accuracy are of no interest.
DEFAULT_FLOOR = 0.5


def front_of(problem: Problem, cost: Sequence[Floats], effects: Sequence[Floats], *, keep: int = LABELS) -> Solution:
    """Front of a tabulated cost against the error that `effects` give, one array per decision."""
    groups, index = len(problem.space.groups), problem.space.group_index
    steps = [
        Step(
            in_group=None if layer.in_group is None else index[layer.in_group],
            out_group=None if layer.out_group is None else index[layer.out_group],
            latency_s=table,
            loss=np.broadcast_to(effect, table.shape),
        )
        for layer, table, effect in zip(problem.loose.layers, cost, effects[groups:], strict=True)
    ]
    return solve(steps, effects[:groups], keep=keep)


def dp_ideas(problem: Problem, knowledge: Knowledge, rng: np.random.Generator) -> list[Idea]:
    """Designs that add most to the front by the fitted model.

    Once the predicted front is measured, its single changes are tried, and what is uncertain counts as good.
    """
    model = surrogate_of(problem.prior, knowledge)
    error_limit = problem.error_limit
    if error_limit is None:
        error_limit = 1.0 - DEFAULT_FLOOR * max(k.measured.accuracy for k in knowledge.known)
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


def surrogate_of(prior: Prior, knowledge: Knowledge) -> Surrogate:
    """The model of all that has been measured."""
    known = knowledge.known
    return fit(
        prior,
        [k.choice for k in known],
        np.array([1.0 - k.measured.accuracy for k in known]),
        np.array([k.measured.standard_error for k in known]),
    )


def candidates_of(problem: Problem, model: Surrogate, error_limit: float) -> list[Choice]:
    """Fronts of the model made additive: around the densest design, and where pairs matter around designs along it."""
    dense = (0,) * len(problem.space.sizes)
    deviations = model.deviations_at(dense)  # elsewhere they are not much different, and dear
    effects = _cautious(problem, model.effects_at(dense), deviations)
    found = dict.fromkeys(front_of(problem, problem.latency.layers, effects).choices)
    for tables, limit in problem.limited.values():
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


def wider_options(space: Space) -> tuple[NDArray[np.bool_], ...]:
    """Per layer, whether option i has as many bits as option j in every part and role, and more in one; or is option j."""
    found = []
    for layer in space.layers:
        bits = np.array(widths(list(layer.formats.values()))).reshape(len(layer.formats), -1)
        no_fewer = (bits[:, None] >= bits[None]).all(axis=-1)
        found.append((no_fewer & ~no_fewer.T) | np.eye(len(bits), dtype=bool))
    return tuple(found)


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
    if problem.latency_limit_s is not None:
        allowed &= latency_s <= problem.latency_limit_s
    for tables, limit in problem.limited.values():
        allowed &= tables.of_all(problem.loose, candidates) <= limit
    reference = (problem.latency.of(problem.loose, (0,) * len(problem.space.sizes)), error_limit)
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
