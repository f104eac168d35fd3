"""Accuracy as cut, with no training at all: `python -m tests.bench.reconstruction [SEED ...]`.

VGG-16 at an eighth of its width on 4,000 images of Fashion-MNIST (`configs/experiments/retraining_fashion.toml`): a dense
network of each seed is trained, the PCA of its feature maps gives the counts, and the channels are chosen and made up for
in four ways. Times are CPU seconds of this process.
"""

from __future__ import annotations

import sys
import time

import torch

from codesign.prune import (
    choose_channels,
    l1_importance,
    pca_channel_counts,
    plan_from_counts,
    prune,
    reconstruct,
)
from codesign.reproduce import settings, workbench

IMAGES = 512  # unlabelled, for the choice and the reconstruction


def main() -> None:
    experiment = settings.load_retraining(settings.shipped("retraining_fashion"))
    bench = workbench.Workbench.of(experiment.subject)
    batches = bench.images[:IMAGES].split(256)
    print("seed  dense %  parameters  L1 %  L1, rebuilt %  chosen %  chosen, rebuilt %  choice s  rebuilding s")
    for seed in map(int, sys.argv[1:] or range(5)):
        network = bench.train(bench.fresh(seed), bench.stages(experiment.dense_epochs), seed).network.eval()
        images = bench.images[: experiment.images].split(256)
        counts = pca_channel_counts(network, images, experiment.structure, groups=bench.groups).counts
        norm = plan_from_counts(network, bench.groups, counts, l1_importance(network))
        started_s = time.process_time()
        plan = choose_channels(network, bench.groups, batches).plan(counts)
        chosen_s = time.process_time() - started_s
        row = [accuracy(bench, network), 100 * (plan.parameters / bench.groups.parameters() - 1)]
        for each in (norm, plan):
            smaller = prune(network, each)
            row.append(accuracy(bench, smaller))
            started_s = time.process_time()
            reconstruct(network, smaller, each, batches)
            rebuilt_s = time.process_time() - started_s
            row.append(accuracy(bench, smaller))
        print(f"{seed:4}", *(f"{value:8.2f}" for value in [*row, chosen_s, rebuilt_s]), flush=True)


def accuracy(bench: workbench.Workbench, network: torch.nn.Module) -> float:
    """Per cent of the test images."""
    return 100 * bench.trainer.measure(network).top1


if __name__ == "__main__":
    main()
