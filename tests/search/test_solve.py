"""The dynamic program against enumeration and against an integer program (independent oracles)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.search import hypervolume
from codesign.search.dp.solve import Step, solve, widest_state
from tests.bench.search_problem import WORST_ERROR, draw
from tests.reference import search_oracle

GRAPHS = {
    "free": [(None, 0), (None, 1), (None, 2), (None, None)],
    "chain": [(None, 0), (0, 1), (1, 2), (2, None)],
    "residual": [(None, 0), (0, 1), (1, 0), (0, 2)],
    "depthwise": [(None, 1), (1, 1), (1, 0), (0, None)],
    "shortcut": [(None, 0), (0, 1), (1, 2), (0, 2)],
    "backwards": [(2, 0), (1, 2), (None, 1), (0, 1)],
}


def drawn(graph, *, groups, levels, options, seed):
    rng = np.random.default_rng(seed)
    steps = []
    for in_group, out_group in graph:
        shape = (levels if in_group is not None else 1, levels if out_group is not None else 1, options)
        steps.append(
            Step(in_group=in_group, out_group=out_group, latency_s=rng.random(shape), loss=rng.random(shape) - 0.2)
        )
    return steps, [rng.random(levels) for _ in range(groups)]


def oracle(steps, group_loss):
    layers = [(s.in_group, s.out_group, s.latency_s, s.loss) for s in steps]
    return search_oracle.front(search_oracle.all_designs(layers, group_loss))


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_four_layers_equal_enumeration(graph, seed):
    groups = 1 + max(g for pair in graph for g in pair if g is not None)
    steps, group_loss = drawn(graph, groups=groups, levels=3, options=3, seed=seed)
    solution = solve(steps, group_loss)
    assert solution.exact
    # Sums are taken in another order here: equal up to rounding, and designs closer than that count as one.
    expected = np.array(oracle(steps, group_loss))
    apart = np.concatenate([[True], np.diff(expected[:, 1]) < -1e-12])
    np.testing.assert_allclose(solution.latency_s, expected[apart, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(solution.loss, expected[apart, 1], rtol=0, atol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), graph=st.sampled_from(list(GRAPHS.values())))
def test_each_choice_costs_what_the_solution_says(seed, graph):
    groups = 1 + max(g for pair in graph for g in pair if g is not None)
    steps, group_loss = drawn(graph, groups=groups, levels=4, options=5, seed=seed)
    solution = solve(steps, group_loss, keep=8)
    assert (np.diff(solution.latency_s) > 0).all()
    assert (np.diff(solution.loss) < 0).all()
    for latency_s, loss, choice in zip(solution.latency_s, solution.loss, solution.choices, strict=True):
        levels, options = choice[:groups], choice[groups:]
        at = [
            (0 if s.in_group is None else levels[s.in_group], 0 if s.out_group is None else levels[s.out_group], o)
            for s, o in zip(steps, options, strict=True)
        ]
        assert latency_s == pytest.approx(sum(s.latency_s[i] for s, i in zip(steps, at, strict=True)), abs=1e-12)
        harm = sum(s.loss[i] for s, i in zip(steps, at, strict=True))
        assert loss == pytest.approx(harm + sum(g[v] for g, v in zip(group_loss, levels, strict=True)), abs=1e-12)


@pytest.mark.parametrize("coupled", [False, True], ids=["free", "coupled"])
def test_two_thousand_labels_lose_less_than_a_thousandth_of_the_hypervolume(coupled):
    problem = draw(0, coupled=coupled)
    steps, group_loss = problem.steps()
    reference = (1.05 * problem.dense_latency_s(), WORST_ERROR)
    exact = solve(steps, group_loss, keep=10**6)
    assert exact.exact
    few = solve(steps, group_loss, keep=2000)
    best, found = (hypervolume(s.latency_s, s.loss, reference=reference) for s in (exact, few))
    assert 0.999 * best <= found <= best


def test_sixteen_layers_of_224_options_equal_the_integer_program():
    problem = draw(1)
    steps, group_loss = problem.steps()
    solution = solve(steps, group_loss, keep=10**6)
    assert solution.exact
    latency, loss = [s.latency_s.ravel() for s in steps], [s.loss.ravel() for s in steps]
    rng = np.random.default_rng(0)
    for budget in rng.uniform(solution.latency_s[0], solution.latency_s[-1], 5):
        affordable = np.flatnonzero(solution.latency_s <= budget)[-1]
        # The solver's own feasibility tolerance is 1e-6 of its scaled rows.
        assert solution.loss[affordable] == pytest.approx(search_oracle.least_loss(latency, loss, budget), abs=1e-6)


def test_the_widest_state_of_a_chain_is_one_pair_and_of_a_residual_network_one_triple():
    assert widest_state([[0], [0, 1], [1, 2]], [5, 7, 3]) == (35, 1)
    assert widest_state([[0], [0, 1], [0, 1], [0, 2], [2, 0]], [5, 7, 3]) == (35, 1)
    assert widest_state([[0], [1], [2], [0, 1], [2]], [5, 7, 3]) == (105, 2)
