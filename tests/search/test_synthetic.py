"""The bar of the synthetic benchmark, on problems of two kinds. All of them: `python -m tests.bench.search_methods`."""

import statistics

from codesign.search import Budget, ParetoFront, Schedule, SearchResult, search
from tests.bench.search_problem import Problem, draw


def searched(problem: Problem) -> SearchResult:
    return search(
        problem.space,
        problem.objective(),
        Schedule(budget=Budget(trainings=200), baselines={}, finalist_seeds=1),
    )


def test_two_hundred_noisy_trainings_reach_95_percent_of_the_optimal_hypervolume():
    shares = []
    for seed in range(3):
        problem = draw(seed)
        result = searched(problem)
        shares.append(share(problem, result))
        assert result.agreement.rank_correlation > 0.8
    assert min(shares) >= 0.95
    assert statistics.median(shares) >= 0.975


def share(problem: Problem, result: SearchResult) -> float:
    front = ParetoFront.of_trials(result.trials)
    leading = [m.point for m, leads in zip(front.members, front.leading, strict=True) if leads]
    return problem.share_of_optimum(leading, problem.optimum())


def test_strong_interactions_between_neighbours_leave_the_bar_where_it_is():
    problems = [draw(seed, interaction="neighbours", shape="cliff") for seed in range(3)]
    assert statistics.fmean(share(problem, searched(problem)) for problem in problems) >= 0.95


def test_losses_that_amplify_each_other_are_noticed_and_do_not_stop_the_search():
    # 60 % of the optimum without a link; 94 to 97 % on other problems with one
    problem = draw(10, interaction="collapse", shape="cliff")
    result = searched(problem)
    assert share(problem, result) >= 0.9
    assert any("losses amplify each other" in note for note in result.notes)
