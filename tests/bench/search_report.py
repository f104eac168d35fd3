"""`python -m tests.bench.search_report RUNS FOLDER`: search.md, search.csv, search.svg from what `search_real` trained."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.figure import Figure
from scipy.stats import t as student

from codesign.hardware import Accelerator, load_accelerator
from codesign.runs.space import baseline_points, layer_costs
from codesign.search import (
    AccuracyModel,
    Limits,
    Origin,
    ParetoFront,
    Trial,
    convergence,
    hypervolume,
    learn,
    summarise,
    training_noise,
)
from codesign.whatif.axes import with_values
from tests.bench.search_real import (
    ACCURACY_FLOOR,
    DROPS,
    FRESH_SEEDS,
    METHODS,
    VARIANTS,
    Bench,
    Pick,
    fresh,
    order,
    picks,
    prepared_bench,
)

WORST_DROP = 0.02  # reference of the hypervolume: this far below uniform float32, and the latency of uniform bfloat16
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the training time at which runs are compared
# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers
COLOURS = dict(
    zip(VARIANTS, ("#0072b2", "#d55e00", "#009e73", "#777777", "#cc79a7", "#e69f00", "#56b4e9"), strict=True)
)
CANDIDATES = 4  # fastest predicted designs of an accelerator that are trained


@dataclass(frozen=True, kw_only=True)
class Run:
    """One variant with one seed. `trials` are numbered anew, so that runs can be put together."""

    variant: str
    seed: int
    trials: tuple[Trial, ...]
    picks: list[Pick]
    summary: dict[str, object]


def runs_of(bench: Bench) -> list[Run]:
    """All finished runs."""
    found, first = [], 0
    for variant, seed in order(100):
        if not bench.summary(variant, seed).is_file():
            continue
        results = bench.run(variant, seed)
        trials = [t for result in results for t in result.trials]
        numbered = tuple(replace(t, index=first + i) for i, t in enumerate(trials))
        first += len(trials)
        summary = json.loads(bench.summary(variant, seed).read_text(encoding="utf-8"))
        own = picks(bench, numbered)
        found.append(Run(variant=variant, seed=seed, trials=numbered, picks=own, summary=summary))
    return found


def interval(values: Sequence[float]) -> str:
    """Mean and half of its 95 % interval by Student's t."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.2f} ± {half:.2f}"


class Yardstick:
    """Hypervolume in % of that of all runs together."""

    def __init__(self, bench: Bench, runs: Sequence[Run], model: AccuracyModel) -> None:
        everything = [t for run in runs for t in run.trials]
        measured = {m.label: m for m in summarise(everything)}
        self.reference = measured["bf16"].latency_s, measured["fp32"].accuracy - WORST_DROP
        self.model = model
        self.whole = convergence(everything, latency_s=self.reference[0], accuracy=self.reference[1], steps=1)[0]
        space = bench.prepared.space
        self.choice = space.choice
        self.smooth_whole = self._smooth(everything)

    def curve(self, run: Run) -> list[tuple[float, float]]:
        """(training CPU s, %) after every trial."""
        latency_s, accuracy = self.reference
        steps = convergence(run.trials, latency_s=latency_s, accuracy=accuracy, steps=len(run.trials))
        return [(p.training_cpu_s, 100 * p.hypervolume / self.whole.hypervolume) for p in steps]

    def smooth(self, run: Run) -> float:
        """% by what all trainings together say of the designs on the front of this run."""
        return 100 * self._smooth(run.trials) / self.smooth_whole

    def _smooth(self, trials: Sequence[Trial]) -> float:
        front = ParetoFront.of_trials(trials)
        leading = [m for m, leads in zip(front.members, front.leading, strict=True) if leads]
        rows = [c for m in leading if (c := self.choice(m.point)) is not None]
        latencies = [m.latency_s for m in leading if self.choice(m.point) is not None]
        errors = self.model.surrogate.mean(rows)
        return hypervolume(latencies, errors, reference=(self.reference[0], 1 - self.reference[1]))


def at(curve: Sequence[tuple[float, float]], cpu_s: float) -> float:
    """The value that a curve had reached."""
    return max((value for spent, value in curve if spent <= cpu_s), default=0.0)


def methods_table(runs: Sequence[Run], yardstick: Yardstick) -> tuple[list[str], list[dict[str, object]]]:
    """Hypervolume at equal training time."""
    curves = {(r.variant, r.seed): yardstick.curve(r) for r in runs}
    whole_s = min(curve[-1][0] for curve in curves.values())
    heads = [f"{share * whole_s:.0f} s" for share in SHARES]
    lines = [f"| | {' | '.join(heads)} | whole run | whole run, judged by all trainings |", "|---" * 7 + "|"]
    rows: list[dict[str, object]] = []
    for variant in VARIANTS:
        own = [r for r in runs if r.variant == variant]
        if not own:
            continue
        cells = [interval([at(curves[variant, r.seed], share * whole_s) for r in own]) for share in SHARES]
        cells += [interval([curves[variant, r.seed][-1][1] for r in own]), interval([yardstick.smooth(r) for r in own])]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
        rows += [
            {"variant": variant, "seed": r.seed, "training_cpu_s": s, "hypervolume_percent": v}
            for r in own
            for s, v in curves[variant, r.seed]
        ]
    return lines, rows


def picks_table(bench: Bench, runs: Sequence[Run]) -> list[str]:
    """Speed-up and accuracy of the picks of every variant, with fresh seeds, against the uniform policies."""
    space = bench.prepared.settings.space
    points = baseline_points(bench.prepared.run_cost.workload, space)
    everything = {m.point: m for r in runs for m in summarise(r.trials)}
    uniform = {name: fresh(bench, everything[point]) for name, point in points.items()}
    exact = uniform["fp32"]

    def lost(pick: Pick) -> list[float]:
        return [100 * (a - b) for a, b in zip(exact.fresh, pick.fresh, strict=True)]

    names = {"fp32": "FP32", "bf16": "BF16", "fp8-hybrid": "FP8", "e0m7": "INT8"}
    lines = [f"| | {' | '.join(f'times as fast as {names[n]}' for n in uniform)} | points lost, fresh seeds |"]
    lines.append("|---" * (len(uniform) + 2) + "|")
    for name, pick in uniform.items():
        speeds = [f"{other.latency_s / pick.latency_s:.2f}" for other in uniform.values()]
        lines.append(f"| uniform {names[name]} | {' | '.join(speeds)} | {interval(lost(pick))} |")
    for variant in VARIANTS:
        for i, drop in enumerate(DROPS):
            own = [r.picks[i] for r in runs if r.variant == variant]
            if not own:
                continue
            speeds = [interval([other.latency_s / p.latency_s for p in own]) for other in uniform.values()]
            values = [x for p in own for x in lost(p)]
            lines.append(f"| {variant}, <= {100 * drop:g} points | {' | '.join(speeds)} | {interval(values)} |")
    return lines


def accelerators() -> dict[str, Accelerator]:
    """`edge`, and two machines that differ from it in what bounds them and in what a short format buys."""
    edge = load_accelerator("edge")
    fast = {"dram.bandwidth_bytes_per_s": 204.8e9, "array.rows": 8, "array.cols": 8, "throughput.law": "iso-area"}
    return {
        "compute-bound": with_values(edge, fast),
        "bandwidth-bound": with_values(edge, {"dram.bandwidth_bytes_per_s": 1.6e9}),
        "edge": edge,
    }


def hardware_table(bench: Bench, model: AccuracyModel, floor: float) -> list[str]:
    """The fastest accurate design of each accelerator, on all of them."""
    space = bench.prepared.space
    pricings = {name: replace(bench.prepared.run_cost, accelerator=a) for name, a in accelerators().items()}
    chosen: dict[str, Pick] = {}
    for name, run_cost in pricings.items():
        layer_latency = layer_costs(run_cost, space)["latency_s"]
        predicted = model.front(
            latency=run_cost.latency_s, layer_latency=layer_latency, limits=Limits(accuracy_floor=floor)
        )
        sure = [d for d in predicted if d.accuracy - d.deviation >= floor] or list(predicted[-CANDIDATES:])
        for design in sure[:CANDIDATES]:
            values = [bench.accuracy(design.point, seed, 1.0).accuracy for seed in FRESH_SEEDS]
            chosen[name] = Pick(
                point=design.point, latency_s=design.latency_s, reported=design.accuracy, fresh=tuple(values)
            )
            if fmean(values) >= floor:
                break
    lines = [f"| optimised for | {' | '.join(f'on {n}' for n in pricings)} | accuracy, % | channels | formats |"]
    lines.append("|---" * 6 + "|")
    least = {n: min(p.latency_s(c.point) for c in chosen.values()) for n, p in pricings.items()}
    for name, pick in chosen.items():
        cells = [
            f"{p.latency_s(pick.point):.4g} s ({p.latency_s(pick.point) / least[n]:.2f})" for n, p in pricings.items()
        ]
        full = dict(pick.point.channels)
        counts = [str(full.get(x.name, "all")) for x in space.layers if x.out_group]
        choice = space.choice(pick.point) or ()
        names = [list(x.formats)[o] for x, o in zip(space.layers, choice[len(space.groups) :], strict=True)]
        accuracy = interval([100 * v for v in pick.fresh])
        lines.append(f"| {name} | {' | '.join(cells)} | {accuracy} | {' '.join(counts)} | {', '.join(names)} |")
    return lines


def draw(runs: Sequence[Run], yardstick: Yardstick, path: Path) -> None:
    """Hypervolume over training time: mean of the seeds, and their range."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    last_s = max(yardstick.curve(r)[-1][0] for r in runs)
    grid = [last_s * i / 200 for i in range(201)]
    for variant in VARIANTS:
        curves = [yardstick.curve(r) for r in runs if r.variant == variant]
        if not curves:
            continue
        values = [[at(curve, x) for curve in curves] for x in grid]
        style = "-" if variant in METHODS else "--"
        axes.plot(grid, [fmean(v) for v in values], style, color=COLOURS[variant], label=variant)
        axes.fill_between(grid, [min(v) for v in values], [max(v) for v in values], color=COLOURS[variant], alpha=0.12)
    axes.set_xlabel("time spent on training (CPU s)")
    axes.set_ylabel("hypervolume (% of all runs together)")
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def main(folder: Path, out: Path) -> None:
    """Write the page."""
    bench = prepared_bench(folder)
    runs = runs_of(bench)
    space, settings = bench.prepared.space, bench.prepared.settings
    joint = [t for r in runs if r.variant in METHODS for t in r.trials]
    model = learn(space, joint)
    yardstick = Yardstick(bench, runs, model)
    table, rows = methods_table(runs, yardstick)
    floor = fmean(fresh(bench, next(m for m in summarise(joint) if m.label == "fp32")).fresh) - DROPS[-1]
    noise = training_noise(_by_point(joint))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "search.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(runs, yardstick, out / "search")
    agreements = "\n".join(
        f"| {r.seed} | {a['designs']} | {a['rank_correlation']:.2f} | {a['attainable']:.2f} | {100 * a['rms']:.2f} |"
        for r in runs
        if r.variant == "dp" and isinstance(a := r.summary["agreement"], dict)
    )
    overheads = [100 * r.summary["own_cpu_s"] / r.summary["training_cpu_s"] for r in runs if r.variant == "dp"]  # type: ignore[operator]
    values = {
        "steps": bench.prepared.designs.steps,
        "batch": settings.training.batch,
        "trainings": settings.search.trainings,
        "images": f"{len(bench.prepared.designs.trainer.images.test_labels):,}",
        "asked": f"{100 * ACCURACY_FLOOR:g}",
        "drop": f"{100 * WORST_DROP:g}",
        "seeds": len({r.seed for r in runs}),
        "designs": f"{space.log10_designs:.1f}",
        "network": settings.network.name,
        "methods": "\n".join(table),
        "picks": "\n".join(picks_table(bench, runs)),
        "hardware": "\n".join(hardware_table(bench, model, floor)),
        "agreements": agreements,
        "noise": f"{100 * noise:.2f}",
        "pooled": len(joint),
        "overhead": f"{fmean(overheads):.1f}",
        "fresh": len(FRESH_SEEDS),
        "candidates": CANDIDATES,
        "floor": f"{100 * floor:.2f}",
        "own": proposed(next(r for r in runs if r.variant == "dp")),
    }
    template = (Path(__file__).parent / "search_report.md").read_text(encoding="utf-8")
    for name, value in values.items():
        template = template.replace("{" + name + "}", str(value))
    (out / "search.md").write_text(template, encoding="utf-8")
    (folder / "values.json").write_text(
        json.dumps({**values, "runs": [asdict(p) for r in runs for p in r.picks]}, default=str)
    )


def proposed(run: Run) -> int:
    """Trainings that the method of a run asked for."""
    return sum(t.proposal.origin in (Origin.FRONT, Origin.EXPLORE) for t in run.trials)


def _by_point(trials: Sequence[Trial]) -> list[list[Trial]]:
    found: dict[object, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.point, []).append(trial)
    return list(found.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
