"""Hypervolume of every search method on the synthetic problems, in % of the true front, at equal numbers of trainings.

`python -m tests.bench.search_methods [--seeds 3] [--trainings 1000] [--methods dp nsga2 ...] [--problems cliff ...]`
prints one line per method and problem as it is finished; a problem is named by any part of its name.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from codesign.search import Budget, Method, ParetoFront, Schedule, Trial, search
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
    "dp": (Method.DP, True, 1000),
    "nsga2": (Method.NSGA2, False, 1000),
    "nsga2 + uniform": (Method.NSGA2, True, 1000),
    "tpe": (Method.TPE, False, 500),
    "tpe + uniform": (Method.TPE, True, 500),
    "random": (Method.RANDOM, False, 1000),
    "random + uniform": (Method.RANDOM, True, 1000),
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


def main() -> None:
    """Print the table: mean, deviation between problems and lowest; CPU seconds of the search itself per training."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=CHECKPOINTS[-1], help="no more than these")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--problems", nargs="+", default=[""])
    asked = parser.parse_args()
    print(f"{'problem':26s}{'method':18s}" + "".join(f"{n:>20d}" for n in CHECKPOINTS) + "  own CPU ms / training")
    for name in asked.methods:
        method, uniform_start, most = METHODS[name]
        for variant, drawn in VARIANTS.items():
            if not any(part in variant for part in asked.problems):
                continue
            rows, own_cpu_ms = [], []
            for seed in range(asked.seeds):
                problem = draw(seed, **drawn)  # type: ignore[arg-type]
                result = search(
                    problem.space,
                    problem.objective(),
                    Schedule(
                        budget=Budget(trainings=min(most, asked.trainings)),
                        method=method,
                        uniform_start=uniform_start,
                        seed=seed,
                        baselines={},
                        finalist_seeds=1,
                    ),
                )
                rows.append(shares(problem, result.trials, problem.optimum()))
                own_cpu_ms.append(1e3 * result.own_cpu_s / result.trainings)
            cells = [
                f"{statistics.fmean(c):.1f} +- {statistics.stdev(c) if len(c) > 1 else 0:.1f} ({min(c):.1f})"
                for c in zip(*rows, strict=True)
            ]
            table = "".join(f"{cell:>20s}" for cell in cells).ljust(20 * len(CHECKPOINTS))
            print(f"{variant:26s}{name:18s}{table}{statistics.median(own_cpu_ms):23.1f}", flush=True)


if __name__ == "__main__":
    main()
