"""Costs as they were when they were frozen: every built-in workload on every preset, some sweeps, option tables.

`python -m tests.cost.frozen tests/data/costs.json.gz` writes the file; `test_frozen.py` compares.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codesign import DesignPoint, LayerFormats, Workload, load_accelerator, simulate, uniform
from codesign.cost import Scales, option_table
from codesign.hardware import accelerator_names
from codesign.optimizers import Optimizer
from codesign.whatif import sweep
from codesign.workload import builtin_workload, workload_names

# Whole numbers and their quotients: a digest of every row. Columns in joules are kept as sums.
COUNTED = ("latency_s", "compute_s", "vector_s", "memory_s", "macs", "traffic_bits", "first_bits", "second_bits",
           "result_bits", "sram_bits")  # fmt: skip
JOULES = ("mac_j", "sram_j", "dram_j")
BATCHES = (3, 64)
LEVELS = (0.5, 0.8, 1.0)


def points(workload: Workload) -> Iterator[tuple[str, DesignPoint]]:
    """One set of formats for all layers, formats per layer, fewer channels."""
    for name in ("fp32", "bf16", "fp8-hybrid", "int8"):
        yield name, DesignPoint.of(default=uniform(name))
    layers = [name for i, name in enumerate(workload.weight_layers) if i % 3 == 0]
    narrow = LayerFormats.parse(
        uniform("e4m3").names() | {"error": "e5m2", "gradient": "e8m10", "optimizer_state": "bfloat16"}
    )
    yield "mixed", DesignPoint.of(default=uniform("bf16"), formats=dict.fromkeys(layers, narrow))
    # Heads of attention were fixed when the numbers were frozen.
    groups = [group for group in workload.channel_groups.values() if group.units and group.unit == 1 and group.layers]
    kept = {group.producers[0]: max(1, group.channels * 3 // 4) for group in groups}
    yield "fewer channels", DesignPoint.of(default=uniform("bf16"), channels=kept)


def step(workload: Workload, point: DesignPoint, accelerator: str, **how: Any) -> list[Any]:
    """Total, phases, digest of the rows, joules, area, bytes of memory; the message of a refusal."""
    try:
        report = simulate(workload, point, load_accelerator(accelerator), **how)
    except ValueError as error:
        return [str(error)]
    rows = hashlib.sha256()
    for name in COUNTED:
        rows.update(np.ascontiguousarray(report.columns[name], np.float64).tobytes())
    for name, column in sorted(report.mappings.items()):
        rows.update(name.encode() + np.ascontiguousarray(column, np.int64).tobytes())
    return [
        report.latency_s,
        report.traffic_bits,
        [cost.latency_s for cost in report.by_phase().values()],
        rows.hexdigest()[:16],
        [float(report.columns[name].sum()) for name in JOULES],
        report.area_um2,
        report.memory.peak_bytes,
    ]


def steps(workload_name: str, accelerator: str) -> dict[str, list[Any]]:
    """Every point at every batch."""
    found = {}
    for batch in BATCHES:
        workload = builtin_workload(workload_name, batch=batch)
        found |= {f"{name}, {batch}": step(workload, point, accelerator) for name, point in points(workload)}
    return found


def layers(workload_name: str, accelerator: str) -> dict[str, list[float]]:
    """Layer -> seconds, bits, multiply-accumulates, of one batch in one format, to find what a digest only notices."""
    workload = builtin_workload(workload_name, batch=BATCHES[0])
    report = simulate(workload, DesignPoint.of(default=uniform("bf16")), load_accelerator(accelerator))
    return {name: [cost.latency_s, cost.traffic_bits, cost.macs] for name, cost in report.by_layer().items()}


def variants(accelerator: str) -> dict[str, list[Any]]:
    """Shared scales and other optimizers."""
    workload = builtin_workload("vit-b16", batch=8)
    point = DesignPoint.of(default=uniform("e4m3"))
    return {
        "scales": step(workload, point, accelerator, scales=Scales(block=32, bits=8)),
        "sgd": step(workload, point, accelerator, optimizer=Optimizer.SGD),
        "adam": step(workload, point, accelerator, optimizer=Optimizer.ADAM),
    }


def sweeps(workload_name: str, accelerator: str) -> dict[str, dict[str, list[Any]]]:
    """Columns of small sweeps, mappings searched and fixed."""
    network, machine = builtin_workload(workload_name, batch=16), load_accelerator(accelerator)
    vary = {
        "array.rows": [machine.array.rows, 2 * machine.array.rows],
        "array.clock_hz": [7e8, machine.array.clock_hz],
        "dram.bandwidth_bytes_per_s": [1e10, 1.23e11],
        "sram.capacity_bytes": [1 << 18, 1 << 22],
        "format": ["bf16", "fp8-hybrid"],
        "keep": [0.6, 1],
        "vector.lanes": [16, 1000],
        "batch": [4, 31],
    }
    names = ("latency_s", "traffic_bits", "energy_j", "area_um2", "utilisation", "remapped")
    frames = {mapping: sweep(network, machine, vary, mapping=mapping) for mapping in ("searched", "fixed")}
    return {mapping: {name: frame[name].tolist() for name in names} for mapping, frame in frames.items()}


def options(workload_name: str, accelerator: str) -> dict[str, list[Any]]:
    """Weight layer -> seconds of all options flat, sum of bytes, sum of joules."""
    workload = builtin_workload(workload_name, batch=16)
    free = [group for group in workload.channel_groups.values() if not group.pinned]
    levels = {group.name: [max(1, int(share * group.channels)) for share in LEVELS] for group in free[:4]}
    formats = [uniform(name) for name in ("bf16", "fp8-hybrid", "e2m1")]
    table = option_table(workload, load_accelerator(accelerator), levels=levels, formats=formats)
    return {
        name: [
            hashlib.sha256(seconds.tobytes() + table.traffic_bytes[name].tobytes()).hexdigest()[:16],
            seconds[0, 0].ravel().tolist(),
            float(table.energy_j[name][0, 0].sum()),
        ]
        for name, seconds in table.seconds.items()
    }


def everything() -> dict[str, Any]:
    """All that is frozen."""
    pairs = [(workload, accelerator) for workload in workload_names() for accelerator in accelerator_names()]
    few = [("vgg-digits", "edge"), ("mobilenet-v2", "tpuv3")]
    return {
        "steps": {f"{w} on {a}": steps(w, a) for w, a in pairs},
        "layers": {f"{w} on {a}": layers(w, a) for w, a in pairs if a in ("edge", "h100")},
        "variants": {name: variants(name) for name in ("edge", "b200")},
        "sweeps": {f"{w} on {a}": sweeps(w, a) for w, a in (("vgg-digits", "edge"), ("mobilenet-v2", "h100"))},
        "options": {f"{w} on {a}": options(w, a) for w, a in few},
    }


if __name__ == "__main__":
    text = json.dumps(everything(), separators=(",", ":"), allow_nan=True)
    Path(sys.argv[1]).write_bytes(gzip.compress(text.encode(), 9, mtime=0))
