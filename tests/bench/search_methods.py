"""Hypervolume of every search method on the synthetic problems, in % of the true front, at equal numbers of trainings.

`python -m tests.bench.search_methods [SEEDS] [METHOD ...]` prints one line per method and problem as it is finished.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

from codesign.search import Budget, search
from codesign.search.front import ParetoFront
from codesign.search.trial import Trial
from tests.bench.search_problem import Interaction, Problem, draw

CHECKPOINTS = (200, 500, 1000)
VARIANTS: dict[str, dict[str, object]] = {
    "additive, exponential": {},
    "additive, power": {"shape": "power"},
    "additive, cliff": {"shape": "cliff"},
    "coupled channels": {"coupled": True},
    **{f"{kind}, exponential": {"interaction": kind} for kind in Interaction if kind != "none"},
    **{f"{kind}, cliff": {"interaction": kind, "shape": "cliff"} for kind in Interaction if kind != "none"},
}
# Name in the table: method, uniform start, trainings. TPE is asked for no more than it can do in reasonable time.
METHODS = {
    "dp": ("dp", True, 1000),
    "nsga2": ("nsga2", False, 1000),
    "nsga2 + uniform": ("nsga2", True, 1000),
    "tpe": ("tpe", False, 500),
    "tpe + uniform": ("tpe", True, 500),
    "random": ("random", False, 1000),
    "random + uniform": ("random", True, 1000),
}


def shares(problem: Problem, trials: Sequence[Trial], optimum: object) -> list[float]:
    """% of the optimal hypervolume at each checkpoint: true values of the designs that lead by what was measured."""
    found = []
    for count in CHECKPOINTS:
        if count <= len(trials):
            front = ParetoFront.of_trials(trials[:count])
            leading = [m.point for m, leads in zip(front.members, front.leading, strict=True) if leads]
            found.append(100 * problem.share_of_optimum(leading, optimum))
    return found


def main(seeds: int = 1, methods: Sequence[str] = ("dp", "nsga2 + uniform", "random")) -> None:
    """Print the table; CPU seconds are those of the search itself, for all of its trainings."""
    print(f"{'problem':26s}{'method':18s}" + "".join(f"{n:>8d}" for n in CHECKPOINTS) + "   lowest at 200   own CPU s")
    for name in methods:
        method, uniform_start, trainings = METHODS[name]
        for variant, drawn in VARIANTS.items():
            rows, own_cpu_s = [], []
            for seed in range(seeds):
                problem = draw(seed, **drawn)  # type: ignore[arg-type]
                result = search(
                    problem.space,
                    latency=problem.latency,
                    layer_latency=problem.layer_latency,
                    accuracy=problem.accuracy,
                    budget=Budget(trainings=trainings),
                    method=method,
                    uniform_start=uniform_start,
                    seed=seed,
                    baselines={},
                    finalist_seeds=1,
                )
                rows.append(shares(problem, result.trials, problem.optimum()))
                own_cpu_s.append(result.own_cpu_s)
            cells = "".join(f"{statistics.fmean(column):8.1f}" for column in zip(*rows, strict=True))
            cells = cells.ljust(8 * len(CHECKPOINTS))
            lowest = min(row[0] for row in rows)
            print(f"{variant:26s}{name:18s}{cells}{lowest:16.1f}{statistics.median(own_cpu_s):12.1f}", flush=True)


if __name__ == "__main__":
    started_s = time.process_time()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:] or tuple(METHODS))
    print(f"{time.process_time() - started_s:.0f} CPU s")
