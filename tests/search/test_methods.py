"""What a method promises, on those that there are and on the example of the documentation."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from codesign import uniform
from codesign.cli.search import METHODS
from codesign.search import (
    BATCH,
    Budget,
    Group,
    Limits,
    Measurement,
    Method,
    Objective,
    Origin,
    Schedule,
    SearchLayer,
    Space,
    search,
)
from codesign.search.dp.problem import problem_of
from codesign.search.knowledge import knowledge_of
from codesign.search.methods import propose_by

PAGE = Path(__file__).parents[2] / "docs/extending/search_method.md"
FORMATS = {name: uniform(name) for name in ("bf16", "e4m3", "e2m1")}
SPACE = Space(
    layers=tuple(SearchLayer(name=n, formats=FORMATS, out_group=n) for n in "abc"),
    groups=tuple(Group(name=n, levels=(16, 12, 8, 4)) for n in "abc"),
    default=uniform("fp32"),
)


def latency(point):
    kept = dict(point.channels)
    return sum(kept.get(n, 16) * point.formats_of(n).weight.bits for n in "abc") * 1e-3


def accuracy(point, seed, fidelity):
    lost = sum(0.05 * (1 - k / 16) for _, k in point.channels)
    lost += sum(0.05 * 2.0 ** -point.formats_of(n).weight.mantissa_bits for n in "abc")
    return Measurement(accuracy=0.9 - lost, standard_error=0.002)


def proposers():
    problem = problem_of(SPACE, latency=latency, layer_latency=None, metrics={}, limits=Limits())
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S).group(1), names)
    return {
        **{method.value: propose_by(method, problem) for method in Method},
        "example": partial(names["propose_neighbours"], SPACE),
    }


@pytest.fixture(scope="module")
def trials():
    schedule = Schedule(budget=Budget(trainings=30), method=Method.RANDOM, finalist_seeds=1)
    return search(SPACE, Objective(latency=latency, accuracy=accuracy), schedule).trials


@pytest.mark.parametrize("name", [*[method.value for method in Method], "example"])
def test_the_contract(name, trials):
    known = knowledge_of(SPACE, trials, {})
    ideas = proposers()[name](known, np.random.default_rng(0))
    choices = [SPACE.choice(idea.point) for idea in ideas]
    assert 0 < len(ideas) <= BATCH
    assert None not in choices
    assert len(set(choices)) == len(choices)
    assert known.tried.isdisjoint(choices)
    for idea in ideas:
        assert idea.origin in (Origin.FRONT, Origin.EXPLORE)
        assert (idea.predicted_accuracy is not None) == (idea.origin is Origin.FRONT)
    # a function of its two arguments, whatever it was asked before
    used = proposers()[name]
    used(knowledge_of(SPACE, trials[:20], {}), np.random.default_rng(5))
    assert used(known, np.random.default_rng(0)) == ideas


def test_the_command_line_offers_every_method():
    assert tuple(method.value for method in Method) == METHODS
