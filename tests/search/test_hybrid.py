"""Who proposes what in `dp`: a matter of how the surrogate ranked, and of nothing else."""

import numpy as np
import pytest

from codesign import uniform
from codesign.search import (
    BATCH,
    Group,
    Limits,
    Measurement,
    Origin,
    Proposal,
    SearchLayer,
    Space,
    Trial,
)
from codesign.search.dp.hybrid import Hybrid
from codesign.search.dp.problem import problem_of
from codesign.search.knowledge import knowledge_of

FORMATS = {name: uniform(name) for name in ("bf16", "e4m3", "e3m2", "e2m1")}
SPACE = Space(
    layers=tuple(SearchLayer(name=n, formats=FORMATS, out_group=n) for n in "abcd"),
    groups=tuple(Group(name=n, levels=(16, 12, 8, 4)) for n in "abcd"),
    default=uniform("fp32"),
)


def latency(point):
    kept = dict(point.channels)
    return sum(kept.get(n, 16) * point.formats_of(n).weight.bits for n in "abcd") * 1e-3


def knowledge(predict, *, designs=30, standard_error=0.001):
    """Designs that a surrogate proposed, by what it predicted of an accuracy."""
    rng = np.random.default_rng(0)
    choices = {tuple(int(rng.integers(n)) for n in SPACE.sizes): None for _ in range(designs)}
    accuracies = rng.uniform(0.5, 0.9, len(choices))
    trials = [
        Trial(
            index=i,
            batch=i // BATCH,
            batch_size=BATCH,
            proposal=Proposal(
                point=SPACE.point(choice), origin=Origin.FRONT, seed=i, predicted_accuracy=float(predict(accuracy))
            ),
            latency_s=latency(SPACE.point(choice)),
            measurement=Measurement(accuracy=float(accuracy), standard_error=standard_error),
        )
        for i, (choice, accuracy) in enumerate(zip(choices, accuracies, strict=True))
    ]
    return knowledge_of(SPACE, trials, {})


def ideas(known, seed=0):
    problem = problem_of(SPACE, latency=latency, layer_latency=None, metrics={}, limits=Limits())
    return Hybrid(problem).ideas(known, np.random.default_rng(seed))


def upside_down(accuracy):
    return 1.4 - accuracy


def test_while_the_surrogate_ranks_badly_half_comes_from_it_and_nsga2_fills_the_batch():
    found = ideas(knowledge(upside_down))
    origins = [idea.origin for idea in found]
    assert 0 < origins.count(Origin.FRONT) <= BATCH // 2
    assert origins.count(Origin.EXPLORE) == BATCH - origins.count(Origin.FRONT)
    assert origins == sorted(origins, key=lambda origin: origin is Origin.EXPLORE)
    assert len({idea.point for idea in found}) == BATCH
    assert all((idea.predicted_accuracy is None) == (idea.origin is Origin.EXPLORE) for idea in found)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (knowledge(lambda accuracy: accuracy), "it ranks well"),
        (knowledge(upside_down, designs=19), "too few designs for a verdict"),
        (knowledge(upside_down, standard_error=0.3), "misses within the noise"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_otherwise_nsga2_proposes_nothing(known, why):
    found = ideas(known)
    assert found
    assert all(idea.origin is Origin.FRONT for idea in found)


def test_nothing_is_kept_between_calls_that_knowledge_does_not_say():
    problem = problem_of(SPACE, latency=latency, layer_latency=None, metrics={}, limits=Limits())
    used, fresh = Hybrid(problem), Hybrid(problem)
    early, late = knowledge(upside_down, designs=25), knowledge(upside_down)
    used.ideas(early, np.random.default_rng(1))
    assert used.ideas(late, np.random.default_rng(2)) == fresh.ideas(late, np.random.default_rng(2))
