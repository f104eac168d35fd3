"""Speed of the accelerator simulator: CPU time of one thread, medians of several runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from codesign import DesignPoint, load_accelerator, simulate, uniform
from codesign.cost import IMAGE_COLUMNS, SIZE_COLUMNS, lower, option_table, simulate_batch
from codesign.cost.scalesim import counts_of
from codesign.cost.verify import REFERENCE, case_of, read_rows
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.workload import builtin_workload

FORMATS = [FloatFormat.parse(text) for text in ("e8m7", "e4m3fn", "e5m2", "e3m2", "e2m1", "e8m23")]


def cpu_s(work: Callable[[], object], repeats: int = 9) -> float:
    """Median CPU seconds of a call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def layer_phases(count: int) -> dict[str, np.ndarray]:
    """Products of ResNet-50, VGG-16 and a GPT with channels cut at random: all different, in random formats."""
    rng = np.random.default_rng(1)
    rows = []
    names = (*SIZE_COLUMNS, *IMAGE_COLUMNS)
    bf16 = uniform("bf16")
    for name in ("resnet50-imagenet", "vgg16-cifar", "gpt-small"):
        workload = builtin_workload(name, batch=32)
        work = lower(((layer, bf16) for layer in workload.layers), workload.batch, Optimizer.SGD)
        rows.append(np.stack([work.sizes[column] for column in names]))
    table = np.concatenate(rows, axis=1)[:, rng.integers(sum(part.shape[1] for part in rows), size=count)]
    columns = dict(zip(names, table, strict=True))
    for name in ("n", "k"):  # a cut of some channels
        columns[name] = np.maximum(1, (columns[name] * rng.uniform(0.3, 1, count)).astype(int))
    columns |= {name: rng.integers(len(FORMATS) - 1, size=count) for name in ("first", "second", "result")}
    return columns | {"accumulator": np.array([len(FORMATS) - 1])}


def rates(machine: Accelerator, count: int = 4000) -> tuple[float, float]:
    """(rows a second with fixed mappings, with the tile search)."""
    columns = layer_phases(count)
    found = simulate_batch([machine], FORMATS, columns)
    searched = cpu_s(lambda: simulate_batch([machine], FORMATS, columns), 5)
    mapped = cpu_s(lambda: simulate_batch([machine], FORMATS, columns, mappings=found))
    return count / mapped, count / searched


def main() -> None:
    """Print the figures."""
    print("accelerator simulator, one thread")
    print(
        f"  {'machine':8} {'fixed mapping':>16} {'tile search':>16}   layer-phases a second, all different; goals 1e6, 5e4"
    )
    for name in ("edge", "tpuv1", "tpuv4", "h100"):
        mapped, searched = rates(load_accelerator(name))
        print(f"  {name:8} {mapped:16,.0f} {searched:16,.0f}")

    point = DesignPoint.of(default=uniform("bf16"))
    print("  a whole training step, from workload to report, tile search included (goal for VGG-16: 1 ms)")
    for name, batch in (("vgg16-cifar", 128), ("resnet50-imagenet", 32), ("gpt-small", 8)):
        workload = builtin_workload(name, batch=batch)
        for machine in ("edge", "tpuv1", "h100"):
            accelerator = load_accelerator(machine)
            took = cpu_s(lambda w=workload, a=accelerator: simulate(w, point, a).latency_s, 21)
            print(f"  {name:18} batch {batch:3} on {machine:6} {1e3 * took:8.2f} ms")

    workload = builtin_workload("vgg16-cifar", batch=128)
    free = [group for group in workload.groups if not group.pinned]
    levels = {group.name: tuple(group.channels * i // 8 for i in range(8, 0, -1)) for group in free}
    options = [uniform(f"e{e}m{m}") for e in range(2, 6) for m in range(1, 8)]
    took = cpu_s(lambda: option_table(workload, load_accelerator("edge"), levels=levels, formats=options), 1)
    count = sum(len(levels.get(x.in_group, (1,))) * len(levels.get(x.out_group, (1,))) for x in workload.weight_layers.values()) * len(options)  # fmt: skip
    print(f"  option table of VGG-16: {count:,} options (8 levels in and out, 28 formats) in {took:.2f} s")

    rows = read_rows(REFERENCE / "scalesim_cycles.csv")
    cases = [case_of(row) for row in rows]
    gemms = [case for row, case in zip(rows, cases, strict=True) if row["layer_kind"] == "gemm"]
    theirs = {kind: sum(float(row["cpu_s"]) for row in rows if row["layer_kind"] == kind) for kind in ("gemm", "conv")}
    ours = cpu_s(lambda: counts_of(gemms))
    convolutions = [case for row, case in zip(rows, cases, strict=True) if row["layer_kind"] == "conv"]
    ours_conv = cpu_s(lambda: counts_of(convolutions), 3)
    print(f"  SCALE-Sim 3.0.0 on its {len(gemms)} products: {theirs['gemm']:.0f} s, ours {1e3 * ours:.2f} ms: ratio {theirs['gemm'] / ours:,.0f}")  # fmt: skip
    print(f"  on its {len(convolutions)} convolutions, whose ifmap stream we simulate too: {theirs['conv']:.0f} s, ours {ours_conv:.3f} s: ratio {theirs['conv'] / ours_conv:,.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
