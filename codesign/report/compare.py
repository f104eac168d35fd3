"""Several runs of one search problem side by side: what each had found when each had spent as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codesign.errors import ConfigError
from codesign.search import Convergence, Trial, convergence

DROPS_POINTS = (0.5, 1.0)  # points of accuracy that may be lost against the most accurate baseline
_BELOW = 0.10  # the reference accuracy of the hypervolume lies so far below the best baseline measured
# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers
_STYLES = (
    ("#0072b2", "-"),
    ("#d55e00", "--"),
    ("#009e73", "-."),
    ("#cc79a7", ":"),
    ("#e69f00", "-"),
    ("#56b4e9", "--"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One run among others.

    budget_cpu_s : training time that every run has spent
    hypervolume, final_hypervolume : seconds x accuracy that the designs dominate, after that time and in the end
    fastest_s, speed_up : by points lost against the run's most accurate baseline: the fastest design, None where there is
        none, and how many times as fast as the reference it is
    """

    name: str
    method: str
    trainings: float
    training_cpu_s: float
    budget_cpu_s: float
    hypervolume: float
    final_hypervolume: float
    fastest_s: dict[float, float | None]
    speed_up: dict[float, float | None]
    steps: list[Convergence]

    def record(self) -> dict[str, Any]:
        """Plain JSON, without the steps between."""
        return {name: value for name, value in asdict(self).items() if name != "steps"}


def compare_runs(
    names: Sequence[str], runs: Sequence[Mapping[str, Any]], trials: Sequence[Sequence[Trial]]
) -> list[Compared]:
    """Every run, measured by one reference: the uniform reference's latency, and 10 points below the best baseline.

    names : by which the runs are told apart; runs : their run.json; trials : their trials.jsonl
    """
    for key in ("accelerator", "network", "data", "reference"):
        values = {name: str(run[key]) for name, run in zip(names, runs, strict=True)}
        if len(set(values.values())) > 1:
            raise ConfigError(
                f"runs of different problems cannot be compared: {key} is "
                + ", ".join(f"'{value}' in {name}" for name, value in values.items())
            )
    references = [next(p for p in run["points"] if p["label"] == run["reference"]) for run in runs]
    latency_s = max(float(p["latency_s"]) for p in references)
    best = [_best_baseline(run) for run in runs]
    accuracy = max(best) - _BELOW
    steps = [convergence(own, latency_s=latency_s, accuracy=accuracy, steps=len(own)) for own in trials]
    budget_cpu_s = min(own[-1].training_cpu_s for own in steps)
    found = []
    for name, run, reference, top, own in zip(names, runs, references, best, steps, strict=True):
        fastest = {drop: _fastest(run, top, drop) for drop in DROPS_POINTS}
        found.append(
            Compared(
                name=name,
                method=run["method"],
                trainings=own[-1].trainings,
                training_cpu_s=own[-1].training_cpu_s,
                budget_cpu_s=budget_cpu_s,
                hypervolume=max((s.hypervolume for s in own if s.training_cpu_s <= budget_cpu_s), default=0.0),
                final_hypervolume=own[-1].hypervolume,
                fastest_s=fastest,
                speed_up={drop: None if s is None else reference["latency_s"] / s for drop, s in fastest.items()},
                steps=own,
            )
        )
    return found


def _best_baseline(run: Mapping[str, Any]) -> float:
    """Accuracy of the most accurate uniform design, against which the report counts points lost, too."""
    return max(float(p["accuracy"]) for p in run["points"] if p["kind"] == "baseline")


def _fastest(run: Mapping[str, Any], accuracy: float, drop: float) -> float | None:
    near = [p["latency_s"] for p in run["points"] if p["accuracy"] >= accuracy - drop / 100]
    return float(min(near)) if near else None


def draw_comparison(found: Sequence[Compared], path: Path) -> None:
    """Hypervolume against the training time spent, in percent of the best in the end; PNG, SVG or PDF."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"figures need matplotlib ({error}); pip install 'codesign[plot]'") from error
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--figure {path}: a picture must be .png, .svg or .pdf")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    most = max(each.final_hypervolume for each in found) or 1.0
    for i, each in enumerate(found):
        colour, line = _STYLES[i % len(_STYLES)]
        axes.step(
            [step.training_cpu_s for step in each.steps],
            [100 * step.hypervolume / most for step in each.steps],
            where="post", color=colour, ls=line, label=f"{each.name} ({each.method})",
        )  # fmt: skip
    axes.axvline(found[0].budget_cpu_s, color="#777777", lw=0.8)
    axes.set_xlabel("training time spent (CPU s); line: spent by every run")
    axes.set_ylabel("hypervolume (% of the best run's)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
