"""Every search method on real short trainings, at equal numbers of trainings of equal steps.

`python -m tests.bench.search_real RUNS [SEEDS]` trains what RUNS lacks, seed by seed; it can be stopped and
started again. `python -m tests.bench.search_report RUNS docs/results` shows it.

    dp, nsga2, tpe, random    channels and formats together
    prune, then quantize      half of the trainings on channels in float32; the fastest that lost no more than one point
                              is kept, and the other half goes to its formats
    quantize only             formats alone, all channels
    dp, half trainings first  `dp` on a ladder: half of a training, and the rest where the design can be on the front

At the end the fastest designs of each run within 0.5 and within 1 point of uniform float32, and the uniform policies,
are trained with seeds that no search has seen: what a search reports of its own picks is flattered by their choice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from codesign.design import DesignPoint
from codesign.errors import InfeasibleError
from codesign.runs.search_run import PreparedSearch, prepare
from codesign.runs.search_settings import load_settings
from codesign.runs.space import baseline_points, layer_costs
from codesign.search import (
    Budget,
    Execution,
    Group,
    Limits,
    Measured,
    Measurement,
    Method,
    Objective,
    ParetoFront,
    Schedule,
    SearchResult,
    Space,
    Trial,
    TrialLog,
    search,
    summarise,
)

CONFIG = "configs/searches/fashion-mnist-short.toml"
METHODS = tuple(method.value for method in Method)
SEQUENTIAL, FORMATS_ONLY, LADDER = "prune, then quantize", "quantize only", "dp, half trainings first"
VARIANTS = (*METHODS, SEQUENTIAL, FORMATS_ONLY, LADDER)
RUNGS = (0.5, 1.0)
DROPS = (0.005, 0.01)  # of accuracy, that a pick may lose
# Measured before any search on 7 designs with 4 seeds: the standard deviation between seeds, pooled over the six that
# stay within two points of uniform float32. On the same test images this is the noise of a comparison.
TRAINING_NOISE = 0.0034
# What a user would ask for: one point less than the mean of uniform float32 in that measurement, 84.9 %.
ACCURACY_FLOOR = 0.839
FRESH_SEEDS = tuple(range(10_000, 10_003))  # below 2**32 and, but for a coincidence, not among the seeds of trials


class Bench:
    """The trainings of a folder: each (design, seed) is trained once, whoever asks for it."""

    def __init__(self, prepared: PreparedSearch, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.prepared, self.folder = prepared, folder
        self._file = folder / "measurements.jsonl"
        self._known: dict[tuple[DesignPoint, int, float], Measurement] = {}
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.is_file() else []:
            record = json.loads(line)
            key = DesignPoint.from_json(record["point"]), record["seed"], record.get("fidelity", 1.0)
            self._known[key] = Measurement(**record["measurement"])

    def accuracy(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement:
        """The measurement that a search asks for."""
        if (point, seed, fidelity) not in self._known:
            measured = self.prepared.designs.accuracy(point, seed, fidelity)
            measured = replace(measured, standard_error=TRAINING_NOISE)
            self._known[point, seed, fidelity] = measured
            record = {"point": point.to_json(), "seed": seed, "fidelity": fidelity, "measurement": asdict(measured)}
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return self._known[point, seed, fidelity]

    def summary(self, variant: str, seed: int) -> Path:
        """What the last search of a variant spent; the file is there once the variant is finished."""
        name = _name(variant, seed)
        folder = self.folder / "ladder" if variant == LADDER else self.folder
        return folder / (f"{name}-quantize" if variant == SEQUENTIAL else name) / "summary.json"

    def run(self, variant: str, seed: int) -> list[SearchResult]:
        """The searches of a variant, one after the other."""
        space, trainings = self.prepared.space, self.prepared.settings.search.trainings
        name = _name(variant, seed)
        if variant in METHODS:
            return [self._search(name, space, trainings, method=Method(variant), seed=seed)]
        if variant == LADDER:
            settings = self.prepared.settings
            settings = replace(settings, search=replace(settings.search, ladder=RUNGS))
            paused = self.folder / "ladder" / "paused"
            paused.mkdir(parents=True, exist_ok=True)
            designs = replace(self.prepared.designs, settings=settings, paused=paused)
            prepared = replace(self.prepared, settings=settings, designs=designs)
            return [Bench(prepared, self.folder / "ladder")._search(name, space, trainings, seed=seed)]
        if variant == FORMATS_ONLY:
            full = replace(space, groups=tuple(replace(g, levels=g.levels[:1]) for g in space.groups))
            return [self._search(name, full, trainings, seed=seed)]
        plain = tuple(replace(x, formats=dict(list(x.formats.items())[:1])) for x in space.layers)
        first = self._search(f"{name}-prune", replace(space, layers=plain), trainings // 2, seed=seed, labels=("fp32",))
        channels = pick(first.trials, DROPS[-1]).point.channels
        layers = tuple(replace(x, in_group=None, out_group=None) for x in space.layers)
        with_channels = partial(replace, channels=channels)
        second = self._search(
            f"{name}-quantize",
            Space(layers=layers, default=space.default),
            trainings - trainings // 2,
            seed=seed,
            change=with_channels,
            labels=(),
        )
        return [first, second]

    def _search(
        self,
        name: str,
        space: Space,
        trainings: int,
        *,
        seed: int,
        method: Method = Method.DP,
        change: Callable[[DesignPoint], DesignPoint] | None = None,
        labels: Iterable[str] | None = None,
    ) -> SearchResult:
        run_cost, settings = self.prepared.run_cost, self.prepared.settings
        layer_latency = None if change else layer_costs(run_cost, space)["latency_s"]
        change = change or (lambda point: point)
        points = baseline_points(run_cost.workload, settings.space)
        points = {label: points[label] for label in (points if labels is None else labels)}
        with TrialLog(self.folder / name) as log:
            try:
                result = search(
                    space,
                    Objective(
                        latency=lambda point: run_cost.latency_s(change(point)),
                        accuracy=lambda point, seed, fidelity: self.accuracy(change(point), seed, fidelity),
                        layer_latency=layer_latency,
                    ),
                    Schedule(
                        budget=Budget(trainings=trainings),
                        method=method,
                        seed=seed,
                        ladder=settings.search.ladder,
                        baselines=points,
                    ),
                    Limits(accuracy_floor=ACCURACY_FLOOR),
                    Execution(log=log),
                )
            except InfeasibleError as error:  # nothing that was measured is accurate enough: an outcome like any other
                result = without_best(log.trials, str(error))
        trials = tuple(replace(t, proposal=replace(t.proposal, point=change(t.point))) for t in result.trials)
        summary = self.folder / name / "summary.json"
        if not summary.is_file():  # a run that is only read again spends nothing
            spent = {"own_cpu_s": result.own_cpu_s, "training_cpu_s": result.training_cpu_s}
            agreement = None if result.agreement is None else asdict(result.agreement)
            summary.write_text(json.dumps({**spent, "agreement": agreement, "notes": result.notes}, indent=1) + "\n")
        return replace(result, trials=trials)


def without_best(trials: Sequence[Trial], note: str) -> SearchResult:
    """The result of a search of which nothing can be handed out."""
    spent = [t.measurement for t in trials if t.measurement is not None]
    return SearchResult(
        front=ParetoFront.of_trials(trials),
        best=None,
        trials=tuple(trials),
        agreement=None,
        notes=(note,),
        trainings=sum(t.trainings for t in trials),
        training_cpu_s=sum(m.cpu_s for m in spent),
        training_wall_s=sum(m.wall_s for m in spent),
        own_cpu_s=float("nan"),
    )


def _name(variant: str, seed: int) -> str:
    return f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A design that a run would hand out, and its accuracy with each fresh seed."""

    point: DesignPoint
    latency_s: float
    reported: float
    fresh: tuple[float, ...]


def pick(trials: Sequence[Trial], drop: float) -> Measured:
    """The fastest design measured no more than `drop` below uniform float32."""
    measured = summarise(trials)
    floor = next(m.accuracy for m in measured if m.label == "fp32")
    return min((m for m in measured if m.accuracy >= floor - drop), key=lambda m: m.latency_s)


def picks(bench: Bench, trials: Sequence[Trial]) -> list[Pick]:
    """The picks of a run, one for each of `DROPS`."""
    return [fresh(bench, pick(trials, drop)) for drop in DROPS]


def fresh(bench: Bench, measured: Measured) -> Pick:
    """`measured` with seeds that no search has seen."""
    values = [bench.accuracy(measured.point, seed, 1.0).accuracy for seed in FRESH_SEEDS]
    return Pick(point=measured.point, latency_s=measured.latency_s, reported=measured.accuracy, fresh=tuple(values))


def prepared_bench(folder: Path) -> Bench:
    """The bench of a folder; says what is searched."""
    prepared = prepare(load_settings(CONFIG), CONFIG)
    space: Space = prepared.space
    groups: tuple[Group, ...] = space.groups
    print(f"{prepared.designs.steps} steps a training; 10^{space.log10_designs:.1f} designs; {len(groups)} groups")
    return Bench(prepared, folder)


def order(seeds: int) -> list[tuple[str, int]]:
    """Runs in the order in which they are made: the methods with every seed, then the partial searches."""
    return [(v, seed) for part in (METHODS, VARIANTS[len(METHODS) :]) for seed in range(seeds) for v in part]


def main(folder: Path, seeds: int) -> None:
    """Train what is missing."""
    bench = prepared_bench(folder)
    for variant, seed in order(seeds):
        spent_s = sum(run.training_cpu_s for run in bench.run(variant, seed))
        print(f"{seed} {variant:22s}{spent_s:8.0f} training CPU s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
