"""Seconds to find the groups of known networks and to cut them to given counts."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise

import torch

from codesign.prune import channel_groups, l1_importance, plan_from_counts, prune
from tests.prune import networks

NETWORKS = {
    "VGG-16 (32x32)": (networks.vgg, 32),
    "ResNet-18": (networks.resnet18, 224),
    "ResNet-50": (networks.resnet50, 224),
    "MobileNet-v2": (networks.mobilenet_v2, 224),
    "DenseNet-121": (networks.densenet, 224),
    "ViT-B/16": (networks.ViT, 224),
}


def main() -> None:
    """Print the median of 5 of each step, in CPU and wall seconds; one thread."""
    torch.set_num_threads(1)
    print(f"{'network':<16} {'one pass':>9} {'groups':>9} {'plan':>9} {'prune':>9} {'prune':>9}   parameters")
    print(f"{'':<16} {'wall s':>9} {'wall s':>9} {'wall s':>9} {'wall s':>9} {'CPU s':>9}")
    for name, (make, size) in NETWORKS.items():
        model, image = make().eval(), torch.randn(1, 3, size, size)
        rows = []
        for _ in range(5):
            marks = [time.perf_counter()]
            with torch.no_grad():
                model(image)
            marks.append(time.perf_counter())
            groups = channel_groups(model, image)
            marks.append(time.perf_counter())
            units = {
                layer: unit
                for group in groups.groups
                for layer, unit in zip(group.layers, group.unit_channels, strict=True)
            }
            counts = {x: max(units[x], int(n * 0.7) // units[x] * units[x]) for x, n in groups.channels.items()}
            plan = plan_from_counts(model, groups, counts, l1_importance(model))
            marks.append(time.perf_counter())
            cpu = time.process_time()
            smaller = prune(model, plan)
            marks.append(time.perf_counter())
            steps = [after - before for before, after in pairwise(marks)]
            rows.append([*steps, time.process_time() - cpu])
        before = sum(p.numel() for p in model.parameters())
        after = sum(p.numel() for p in smaller.parameters())
        cells = " ".join(f"{statistics.median(column):9.3f}" for column in zip(*rows, strict=True))
        print(f"{name:<16} {cells}   {before:,} -> {after:,}", flush=True)


if __name__ == "__main__":
    main()
