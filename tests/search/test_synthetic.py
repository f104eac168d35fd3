"""The bar of the synthetic benchmark, on two of its problems. All of them: `python -m tests.bench.search_methods`."""

import pytest

from codesign.search import Budget, ParetoFront, search
from tests.bench.search_problem import draw


@pytest.mark.parametrize(
    "variant", [{}, {"neighbour": 1.0, "shape": "cliff"}], ids=["additive", "strongly interacting"]
)
def test_two_hundred_noisy_trainings_reach_95_percent_of_the_optimal_hypervolume(variant):
    problem = draw(0, **variant)
    result = search(
        problem.space,
        latency=problem.latency,
        layer_latency=problem.layer_latency,
        accuracy=problem.accuracy,
        budget=Budget(trainings=200),
        baselines={},
        finalist_seeds=1,
    )
    front = ParetoFront.of_trials(result.trials)
    leading = [m.point for m, leads in zip(front.members, front.leading, strict=True) if leads]
    assert problem.share_of_optimum(leading, problem.optimum()) >= 0.95
    assert result.agreement.rank_correlation > 0.9
    if "neighbour" in variant:
        assert any("decisions interact" in note for note in result.notes)
