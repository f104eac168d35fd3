"""What a run taught, used on another accelerator; and the account of what a run spent and found."""

import numpy as np
import pytest

from codesign.errors import ConfigError
from codesign.search import Budget, Limits, Schedule, convergence, hypervolume, learn, search
from tests.bench.search_problem import WORST_ERROR, draw


@pytest.fixture(scope="module")
def found():
    problem = draw(3)
    result = search(
        problem.space,
        problem.objective(),
        Schedule(budget=Budget(trainings=120), baselines={}, finalist_seeds=1),
    )
    return problem, result


def test_another_accelerator_gets_its_own_front_without_a_training(found):
    problem, result = found
    bits = {layer.name: [f.weight.bits for f in layer.formats.values()] for layer in problem.space.layers}

    def serial(layer):  # a machine whose time is bits x channels kept, in the first layer a hundredfold
        kept = np.array(problem.space.groups[problem.space.group_index[layer.out_group]].levels)
        return (
            (100.0 if layer.name == "conv0" else 1.0) * kept[None, :, None] * np.array(bits[layer.name])[None, None, :]
        )

    def latency(point):
        choice = problem.space.choice(point)
        return float(sum(serial(x)[0, choice[i], choice[16 + i]] for i, x in enumerate(problem.space.layers)))

    model = learn(problem.space, result.trials)
    new = model.front(latency=latency, layer_latency=serial, limits=Limits(accuracy_floor=1 - WORST_ERROR))
    assert all(p.latency_s == latency(p.point) for p in new)
    assert [p.latency_s for p in new] == sorted(p.latency_s for p in new)
    reference = (max(latency(problem.space.point((0,) * 32)), 1.0), WORST_ERROR)

    def true_area(points):
        choices = np.array([problem.space.choice(p) for p in points])
        return hypervolume([latency(p) for p in points], problem.errors(choices), reference=reference)

    old_points = [t.point for t in result.trials]
    assert true_area([p.point for p in new]) > 1.02 * true_area(old_points)


def test_sensitivities_name_every_single_change(found):
    problem, result = found
    frame = learn(problem.space, result.trials).sensitivities()
    assert len(frame) == sum(problem.space.sizes)
    dense = frame[(frame.decision == "conv0") & (frame.entry.isin(["64", "e5m7"]))]
    assert (dense.loss == 0).all()
    assert np.allclose(dense.loss_deviation, 0, atol=1e-6)
    true = np.concatenate([problem.loss[:, :, 0].ravel(), problem.loss[:, 0, :].ravel()])
    assert (np.abs(frame.loss - true) <= 3 * frame.loss_deviation + 1e-9).mean() > 0.97
    assert np.corrcoef(frame.loss, true)[0, 1] > 0.5  # changes that nobody would make are known badly, and said to be


def test_trials_of_another_space_teach_nothing(found):
    _, result = found
    with pytest.raises(ConfigError, match="none of these trials measured a design of this space"):
        learn(
            draw(0, coupled=True).space.__class__(
                layers=draw(0).space.layers[:2], groups=draw(0).space.groups[:2], default=draw(0).space.default
            ),
            result.trials,
        )


def test_progress_never_falls_and_ends_with_the_whole_run(found):
    problem, result = found
    steps = convergence(result.trials, latency_s=problem.dense_latency_s(), accuracy=0.6, steps=10)
    assert [s.trials for s in steps] == [12 * i for i in range(1, 11)]
    assert steps[-1].trainings == result.trainings
    assert steps[-1].training_cpu_s == pytest.approx(result.training_cpu_s)
    areas = [s.hypervolume for s in steps]
    assert areas == sorted(areas)
