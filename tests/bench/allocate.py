"""Allocation of VGG-16's weights: every split, 80 clips and what follows, one thread, CPU seconds.

python -m tests.bench.allocate
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from codesign.quantize import FloatHistogram, allocate
from codesign.workload import builtin_workload

_RUNS = 5


def _seconds(work) -> float:
    work()
    times = []
    for _ in range(_RUNS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    weights = []
    for layer in builtin_workload("vgg16-cifar").layers:
        if hasattr(layer, "kernel") and hasattr(layer, "out_channels"):
            shape = (layer.out_channels, layer.in_channels * layer.kernel[0] * layer.kernel[1])
            weights.append((rng.standard_t(6, shape) * rng.uniform(0.01, 0.03, (shape[0], 1))).astype(np.float32))
    numbers, channels = sum(w.size for w in weights), sum(len(w) for w in weights)
    print(f"allocation, one thread: {numbers:,} weights in {channels:,} channels of VGG-16; goal 1 CPU s at any width")
    for bits in (3, 4, 5, 6, 8):
        real = _seconds(lambda bits=bits: [allocate(w, bits) for w in weights])
        power = _seconds(lambda bits=bits: [allocate(w, bits, scale="power-of-two") for w in weights])
        print(f"  {bits} bits   real scales {real:6.2f} s   powers of two {power:6.2f} s")
    flat = np.concatenate([w.ravel() for w in weights])

    def streamed(channels: int, arrays: list[np.ndarray]) -> list[FloatHistogram]:
        histograms = [FloatHistogram(len(each) if channels > 1 else 1, mantissa_bits=7) for each in arrays]
        for histogram, each in zip(histograms, arrays, strict=True):
            histogram.update(each, axis=0 if channels > 1 else None)
        return histograms

    whole = streamed(1, [flat])[0]
    print("float-bit histograms of them, 7 mantissa bits")
    print(f"  update, one for all {_seconds(lambda: streamed(1, [flat])):6.3f} s   goal 0.01 s")
    print(f"  update, one a channel {_seconds(lambda: streamed(channels, weights)):6.3f} s")
    print(f"  one format of 8 bits for all, from the histogram {_seconds(lambda: whole.allocate(8)):6.3f} s")


if __name__ == "__main__":
    main()
