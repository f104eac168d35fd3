"""Method M1 against a conventional train, prune, retrain: accuracy and time of retraining, beside controls."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator

from torch import nn

from codesign.prune import l1_importance, pca_channel_counts, random_importance, uniform_counts
from codesign.reproduce.ledger import Ledger, Row
from codesign.reproduce.settings import RetrainingSettings, digest
from codesign.reproduce.workbench import OTHER_WEIGHTS, Workbench, parameters

DENSE = "dense, as trained"
DENSE_SHORT, DENSE_LONG = "dense, trained on, short", "dense, trained on, long"
M1_SHORT, M1_LONG = "M1, short", "M1, long"
CONVENTIONAL_SHORT, CONVENTIONAL_LONG = "conventional, short", "conventional, long"
RANDOM_SHORT, SAME_MACS_SHORT = "M1's counts, random ranking, short", "uniform width at M1's MACs, short"
SCRATCH = "M1's structure from scratch"
METHODS = {
    DENSE: "the network that is pruned",
    M1_SHORT: "PCA counts, largest L1 norm, short retraining",
    M1_LONG: "the same, long retraining",
    CONVENTIONAL_SHORT: "largest L1 norm, the same share of every layer, as many parameters as M1; short retraining",
    CONVENTIONAL_LONG: "the same, long retraining",
    SAME_MACS_SHORT: "control: largest L1 norm, the same share of every layer, as many multiply-accumulates as M1",
    RANDOM_SHORT: "control: PCA counts, channels at random",
    SCRATCH: "control: the structure of M1 with fresh weights, trained as long as dense training and short retraining",
    DENSE_SHORT: "control: nothing pruned, trained on as long as M1",
    DENSE_LONG: "control: nothing pruned, trained on for the long retraining",
}


def trainings(settings: RetrainingSettings) -> int:
    """Rows that `run` writes."""
    return settings.subject.seeds * len(METHODS)


def run(settings: RetrainingSettings, ledger: Ledger, on_row: Callable[[Row], None]) -> None:
    """Write the rows of every seed that the ledger lacks; `on_row` is called for each, and for those that were there."""
    bench = Workbench.of(settings.subject)
    config = digest(settings)
    for seed in range(settings.subject.seeds):
        if any(not ledger.has(config, seed, method) for method in METHODS):
            for row in _seed(settings, bench, config, seed):
                if not ledger.has(config, seed, row.method):
                    ledger.append(row)
                on_row(row)
        else:
            for row in ledger.rows:
                if row.config == config and row.seed == seed:
                    on_row(row)


def _seed(settings: RetrainingSettings, bench: Workbench, config: str, seed: int) -> Iterator[Row]:
    """All rows of one seed: they share one trained network."""
    dense = bench.fresh(seed)
    groups, size = bench.groups, parameters(dense)
    macs = bench.workload.macs

    def fit(
        method: str, network: nn.Module, epochs: float, search_cpu_s: float = 0.0, *, searched: bool = False
    ) -> Row:
        cut_top1 = bench.accuracy(network).top1 if network is not dense else -1.0
        cost = bench.train(network, epochs, seed)
        accuracy = bench.accuracy(network)
        stages = [bench.stage(network, epochs)] + ([bench.search(dense, settings.images)] if searched else [])
        return Row(
            config=config,
            data=settings.subject.data.name,
            seed=seed,
            method=method,
            level=0,
            top1=accuracy.top1,
            top5=accuracy.top5,
            cut_top1=cut_top1,
            parameters=parameters(network),
            dense_parameters=size,
            macs=bench.macs(network),
            dense_macs=macs,
            epochs=epochs,
            search_cpu_s=search_cpu_s,
            cpu_s=cost.cpu_s,
            wall_s=cost.wall_s,
            simulated_s=bench.simulated_s(*stages),
        )

    yield fit(DENSE, dense, settings.dense_epochs)

    start = time.process_time()
    sample = bench.data.train_images[: settings.images].split(256)
    counts = pca_channel_counts(dense, sample, settings.structure, groups=groups).counts
    m1 = bench.cut(dense, counts, l1_importance(dense))
    search_s = time.process_time() - start

    def conventional(target: dict[str, int]) -> tuple[nn.Module, float]:
        start = time.process_time()
        network = bench.cut(dense, uniform_counts(groups, layers=counts, **target), l1_importance(dense))
        return network, time.process_time() - start

    yield fit(M1_SHORT, copy.deepcopy(m1), settings.short_epochs, search_s, searched=True)
    yield fit(M1_LONG, copy.deepcopy(m1), settings.long_epochs, search_s, searched=True)
    uniform, uniform_s = conventional({"parameters": parameters(m1)})
    yield fit(CONVENTIONAL_SHORT, copy.deepcopy(uniform), settings.short_epochs, uniform_s)
    yield fit(CONVENTIONAL_LONG, copy.deepcopy(uniform), settings.long_epochs, uniform_s)
    same_macs, same_macs_s = conventional({"macs": bench.macs(m1)})
    yield fit(SAME_MACS_SHORT, same_macs, settings.short_epochs, same_macs_s)
    chance = bench.cut(dense, counts, random_importance(dense, bench.order(seed)))
    yield fit(RANDOM_SHORT, chance, settings.short_epochs, search_s, searched=True)
    other = bench.fresh(OTHER_WEIGHTS + seed)  # weights that the search has not seen
    scratch = bench.cut(other, counts, l1_importance(other))
    yield fit(SCRATCH, scratch, settings.dense_epochs + settings.short_epochs)
    yield fit(DENSE_SHORT, copy.deepcopy(dense), settings.short_epochs)
    yield fit(DENSE_LONG, copy.deepcopy(dense), settings.long_epochs)
