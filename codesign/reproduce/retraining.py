"""Method M1 against a conventional train, prune, retrain: accuracy and time of retraining, beside controls."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from codesign.cost import Stage
from codesign.prune import (
    batch_norm_importance,
    l1_importance,
    pca_channel_counts,
    plan_from_counts,
    random_importance,
    uniform_counts,
)
from codesign.reproduce.ledger import Ledger, Row
from codesign.reproduce.settings import RetrainingSettings, digest
from codesign.reproduce.workbench import OTHER_WEIGHTS, Workbench, parameters
from codesign.runs.pruning import chance

DENSE = "dense, as trained"
DENSE_SHORT, DENSE_LONG = "dense, trained on, short", "dense, trained on, long"
M1_SHORT, M1_LONG = "M1, short", "M1, long"
CONVENTIONAL_SHORT, CONVENTIONAL_LONG = "conventional, short", "conventional, long"
RANDOM_SHORT, SAME_MACS_SHORT = "M1's counts, random ranking, short", "uniform width at M1's MACs, short"
NORM_SHORT = "M1's counts, batch-norm scale, short"
SCRATCH = "M1's structure from scratch"
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


def run(settings: RetrainingSettings, ledger: Ledger, on_row: Callable[[Row], None]) -> None:
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


def _seed(settings: RetrainingSettings, bench: Workbench, seed: int, wanted: Sequence[str]) -> Iterator[Row]:
    """The wanted rows of one seed. They share one dense network, which is trained in any case."""
    dense = bench.fresh(seed)
    trained = _fit(settings, bench, seed, DENSE, dense, settings.dense_epochs)
    if DENSE in wanted:
        yield trained

    groups = bench.groups
    start = time.process_time()
    sample = bench.data.train_images[: settings.images].split(256)
    counts = pca_channel_counts(dense, sample, settings.structure, groups=groups).counts
    search_s = time.process_time() - start
    plan = plan_from_counts(dense, groups, counts)

    def cut(network: nn.Module, counts: Mapping[str, int], scores: Mapping[str, torch.Tensor]) -> nn.Module:
        return bench.cut(network, counts, scores)

    def conventional(**target: int) -> nn.Module:
        return cut(dense, uniform_counts(groups, layers=counts, **target), l1_importance(dense))

    def scratch() -> nn.Module:
        other = bench.fresh(OTHER_WEIGHTS + seed)
        return cut(other, counts, l1_importance(other))

    def m1() -> nn.Module:
        return cut(dense, counts, l1_importance(dense))

    made: dict[str, tuple[Callable[[], nn.Module], float]] = {
        M1_SHORT: (m1, settings.short_epochs),
        M1_LONG: (m1, settings.long_epochs),
        CONVENTIONAL_SHORT: (lambda: conventional(parameters=plan.parameters), settings.short_epochs),
        CONVENTIONAL_LONG: (lambda: conventional(parameters=plan.parameters), settings.long_epochs),
        SAME_MACS_SHORT: (lambda: conventional(macs=plan.macs), settings.short_epochs),
        RANDOM_SHORT: (lambda: cut(dense, counts, random_importance(dense, chance(seed))), settings.short_epochs),
        NORM_SHORT: (lambda: cut(dense, counts, batch_norm_importance(dense, groups)), settings.short_epochs),
        SCRATCH: (scratch, settings.dense_epochs + settings.short_epochs),
        DENSE_SHORT: (lambda: copy.deepcopy(dense), settings.short_epochs),
        DENSE_LONG: (lambda: copy.deepcopy(dense), settings.long_epochs),
    }
    for method, (make, epochs) in made.items():
        if method in wanted:
            start = time.process_time()
            network = make()
            cut_s = time.process_time() - start
            if method in BY_PCA:
                search = bench.search(dense, settings.images)
                yield _fit(settings, bench, seed, method, network, epochs, search_s + cut_s, search)
            else:
                yield _fit(settings, bench, seed, method, network, epochs, cut_s)


def _fit(
    settings: RetrainingSettings,
    bench: Workbench,
    seed: int,
    method: str,
    network: nn.Module,
    epochs: float,
    search_cpu_s: float = 0.0,
    *searches: Stage,
) -> Row:
    """Train one network and measure it before and after."""
    cut_top1 = bench.accuracy(network).top1 if method != DENSE else -1.0
    cost = bench.train(network, epochs, seed)
    accuracy = bench.accuracy(network)
    return Row(
        config=digest(settings),
        data=settings.subject.data.name,
        seed=seed,
        method=method,
        level=0,
        top1=accuracy.top1,
        top5=accuracy.top5,
        cut_top1=cut_top1,
        parameters=parameters(network),
        dense_parameters=bench.workload.parameters,
        macs=bench.macs(network),
        dense_macs=bench.workload.macs,
        epochs=epochs,
        search_cpu_s=search_cpu_s,
        cpu_s=cost.cpu_s,
        wall_s=cost.wall_s,
        simulated_s=bench.simulated_s(bench.stage(network, epochs), *searches),
    )
