"""Accuracy in few bits as converted, with nothing retrained: `python -m tests.bench.outputs [SEED ...]`.

VGG-16 at an eighth of its width (`configs/experiments/quantization_fashion.toml`): a float32 network of each seed is
trained, then all its weights are rounded for the outputs of the layers on 256 unlabelled training images. Beside it, what
`allocate` gives by the weights alone, and integers by largest magnitude. Times are CPU seconds of this process.
"""

from __future__ import annotations

import copy
import sys
import time

import torch

from codesign.nn import quantize_network
from codesign.quantize import allocate
from codesign.reproduce import quantization, settings, workbench

IMAGES = 256


def main() -> None:
    experiment = quantization.load_quantization(settings.shipped("quantization_fashion"))
    bench = workbench.Workbench.of(experiment.subject)
    print("seed  float32 %  bits  integers, largest magnitude %  empirical %  by outputs %  s")
    for seed in map(int, sys.argv[1:] or range(5)):
        network = bench.train(bench.fresh(seed), bench.stages(experiment.epochs), seed).network.eval()
        for bits in (4, 3, 2):
            started_s = time.process_time()
            rounded = quantize_network(network, bench.images[:IMAGES], bits).network
            took_s = time.process_time() - started_s
            plain = [by_weights(network, bits, method) for method in ("integer-absmax", "empirical")]
            found = [f"{accuracy(bench, each):8.2f}" for each in (*plain, rounded)]
            print(f"{seed:4} {accuracy(bench, network):8.2f} {bits:4}", *found, f"{took_s:6.2f}", flush=True)


def by_weights(network: torch.nn.Module, bits: int, method: str) -> torch.nn.Module:
    """A copy whose weights are rounded as `allocate` says."""
    smaller = copy.deepcopy(network)
    with torch.no_grad():
        for module in smaller.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                weight = module.weight.contiguous()
                module.weight.copy_(allocate(weight, bits, axis=0, method=method, allow_zeros=True).round(weight))
    return smaller


def accuracy(bench: workbench.Workbench, network: torch.nn.Module) -> float:
    """Per cent of the test images."""
    return 100 * bench.trainer.measure(network).top1


if __name__ == "__main__":
    main()
