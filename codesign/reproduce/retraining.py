"""Method M1 against a conventional train, prune, retrain: accuracy and time of retraining, beside controls."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from codesign.prune import (
    batch_norm_importance,
    l1_importance,
    pca_channel_counts,
    plan_from_counts,
    random_importance,
    uniform_counts,
)
from codesign.reproduce.ledger import Ledger, TrainedNetwork
from codesign.reproduce.settings import RetrainingSettings, digest
from codesign.reproduce.workbench import OTHER_WEIGHTS, Finished, Workbench, parameters
from codesign.runs import BATCH, Cut, PricedStage, Removal, chance

DENSE = "dense, as trained"
DENSE_SHORT, DENSE_LONG = "dense, trained on, short", "dense, trained on, long"
M1_SHORT, M1_LONG = "M1, short", "M1, long"
CONVENTIONAL_SHORT, CONVENTIONAL_LONG = "conventional, short", "conventional, long"
RANDOM_SHORT, SAME_MACS_SHORT = "M1's counts, random ranking, short", "uniform width at M1's MACs, short"
NORM_SHORT = "M1's counts, batch-norm scale, short"
SCRATCH = "M1's structure from scratch"
Scores = Callable[[nn.Module], Mapping[str, torch.Tensor]]
BY_PCA = (M1_SHORT, M1_LONG, RANDOM_SHORT, NORM_SHORT)  # methods that pay for the structure search
METHODS = {
    DENSE: "the network that is pruned",
    M1_SHORT: "PCA counts, largest L1 norm, short retraining",
    M1_LONG: "the same, long retraining",
    CONVENTIONAL_SHORT: "largest L1 norm, the same share of every layer, as many parameters as M1; short retraining",
    CONVENTIONAL_LONG: "the same, long retraining",
    SAME_MACS_SHORT: "control: largest L1 norm, the same share of every layer, as many multiply-accumulates as M1",
    RANDOM_SHORT: "control: PCA counts, channels at random",
    NORM_SHORT: "control: PCA counts, largest scale of the batch norm that follows",
    SCRATCH: "control: the structure of M1 with fresh weights, trained as long as dense training and short retraining",
    DENSE_SHORT: "control: nothing pruned, trained on as long as M1",
    DENSE_LONG: "control: nothing pruned, trained on for the long retraining",
}


def trainings(settings: RetrainingSettings) -> int:
    """Rows that `run` writes."""
    return settings.subject.seeds * len(METHODS)


def run(settings: RetrainingSettings, ledger: Ledger[TrainedNetwork], on_row: Callable[[TrainedNetwork], None]) -> None:
    """Write the rows of every seed that the ledger lacks; `on_row` is called for each, and for those that were there."""
    config = digest(settings)
    bench = Workbench.of(settings.subject)
    for seed in range(settings.subject.seeds):
        missing = [method for method in METHODS if not ledger.has(config, seed, method, 0)]
        for row in ledger.rows:
            if (row.config, row.seed) == (config, seed) and row.method in METHODS:
                on_row(row)
        if missing:
            for row in _seed(settings, bench, seed, missing):
                ledger.append(row)
                on_row(row)


def _seed(settings: RetrainingSettings, bench: Workbench, seed: int, wanted: Sequence[str]) -> Iterator[TrainedNetwork]:
    """The wanted rows of one seed. They share one dense network, which is trained in any case."""
    whole = bench.train(bench.fresh(seed), bench.stages(settings.dense_epochs), seed)
    dense, groups = whole.network, bench.groups
    if DENSE in wanted:
        yield _row(settings, bench, seed, DENSE, whole, settings.dense_epochs)

    start = time.process_time()
    sample = torch.split(bench.images[: settings.images], BATCH)
    counts = pca_channel_counts(dense, sample, settings.structure, groups=groups).counts
    search_s = time.process_time() - start
    plan = plan_from_counts(dense, groups, counts)

    def keeping(own: Mapping[str, int], scores: Scores) -> Cut:
        return lambda network, found: Removal(plan=plan_from_counts(network, found, own, scores(network)))

    def trained() -> nn.Module:
        return copy.deepcopy(dense)

    def fresh() -> nn.Module:
        return bench.fresh(OTHER_WEIGHTS + seed)

    m1 = keeping(counts, l1_importance)
    same_parameters = keeping(uniform_counts(groups, layers=counts, parameters=plan.parameters), l1_importance)
    same_macs = keeping(uniform_counts(groups, layers=counts, macs=plan.macs), l1_importance)
    by_chance = keeping(counts, lambda network: random_importance(network, chance(seed)))
    by_norm = keeping(counts, lambda network: batch_norm_importance(network, groups))
    short, long = settings.short_epochs, settings.long_epochs
    made: dict[str, tuple[Callable[[], nn.Module], Cut | None, float]] = {
        M1_SHORT: (trained, m1, short),
        M1_LONG: (trained, m1, long),
        CONVENTIONAL_SHORT: (trained, same_parameters, short),
        CONVENTIONAL_LONG: (trained, same_parameters, long),
        SAME_MACS_SHORT: (trained, same_macs, short),
        RANDOM_SHORT: (trained, by_chance, short),
        NORM_SHORT: (trained, by_norm, short),
        SCRATCH: (fresh, m1, settings.dense_epochs + short),
        DENSE_SHORT: (trained, None, short),
        DENSE_LONG: (trained, None, long),
    }
    searches = [bench.priced_search(dense, settings.images)]
    for method, (make, cut, epochs) in made.items():
        if method in wanted:
            network = make()
            before = bench.trainer.measure(network).top1
            run = bench.train(network, bench.stages(epochs, cuts=[cut]), seed)
            run = run if cut is not None else replace(run, cut_top1=before)
            if method in BY_PCA:
                yield _row(settings, bench, seed, method, run, epochs, search_s, searches)
            else:
                yield _row(settings, bench, seed, method, run, epochs)


def _row(
    settings: RetrainingSettings,
    bench: Workbench,
    seed: int,
    method: str,
    run: Finished,
    epochs: float,
    search_cpu_s: float = 0.0,
    searches: Sequence[PricedStage] = (),
) -> TrainedNetwork:
    """search_cpu_s, searches : of a structure search before the run."""
    return TrainedNetwork(
        config=digest(settings),
        data=settings.subject.data.name,
        seed=seed,
        method=method,
        level=0,
        top1=run.accuracy.top1,
        top5=run.accuracy.top5,
        cut_top1=run.cut_top1,
        parameters=parameters(run.network),
        dense_parameters=bench.workload.parameters,
        macs=bench.macs(run.network),
        dense_macs=bench.workload.macs,
        epochs=epochs,
        search_cpu_s=search_cpu_s + run.cut_cpu_s,
        cpu_s=run.effort.cpu_s,
        wall_s=run.effort.wall_s,
        simulated_s=bench.simulated_s(bench.priced(run.network, epochs), *searches),
    )
