"""`codesign simulate` for single layers: one product, one convolution, or many as CSV."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from typing import Any

from codesign.cli.cost_tables import print_report
from codesign.cost import CostReport, simulate
from codesign.cost.scalesim import ScaleSimCase, ScaleSimConvolution, counts_record, scalesim
from codesign.cost.verify import case_of
from codesign.design import DesignPoint, uniform
from codesign.errors import ConfigError, did_you_mean
from codesign.hardware import Accelerator, Dataflow, load_accelerator
from codesign.workload import GemmShape, Workload, single_convolution, single_linear

_CONVOLUTION = ("size", "in", "out", "kernel", "stride", "pad", "dilation", "groups")


def add_layer_options(command: argparse.ArgumentParser) -> None:
    """Options that only concern single layers."""
    group = command.add_argument_group("single layers")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--gemm", metavar="M,N,K", help="C[m,n] += A[m,k] B[k,n]")
    one.add_argument("--conv", metavar="KEY=VALUE,...", help="size, in, out, kernel; stride, pad, dilation, groups")
    group.add_argument("--array", metavar="ROWSxCOLS", help="instead of the accelerator's arrays: one of this size")
    group.add_argument("--dataflow", type=Dataflow, choices=list(Dataflow), help="instead of the accelerator's")
    group.add_argument(
        "--sram-kb", metavar="I,F,O", default="64,64,64", help="scalesim mode: ifmap, filter, ofmap (default 64,64,64)"
    )


def simulate_layers(arguments: argparse.Namespace) -> int:
    """`--gemm`, `--conv` or `-`."""
    if arguments.workload == "-":
        if arguments.mode != "scalesim":
            raise ConfigError("CSV from standard input is priced in scalesim mode; add --mode scalesim")
        return _many()
    if arguments.workload is not None:
        raise ConfigError("give either a workload or a single layer (--gemm, --conv), not both")
    if arguments.mode == "scalesim":
        return _scalesim(arguments)
    accelerator = _machine(arguments)
    workload = _single(arguments)
    point = DesignPoint.of(default=uniform(arguments.format or "bf16"))
    report = simulate(workload, point, accelerator, optimizer=arguments.optimizer)
    if arguments.json:
        print(json.dumps(_record(report), indent=1))
    else:
        print_report(report, detail=True)
    return 0


def _record(report: CostReport) -> dict[str, Any]:
    named = ("latency_s", "compute_s", "memory_s", "traffic_bits", "sram_bits", "energy_j", "utilisation")
    clock_hz = report.accelerator.array.clock_hz
    rows = []
    for row in report.rows:
        cost = row.cost
        rows.append(
            {
                "phase": row.phase.value,
                **{name: getattr(cost, name) for name in named},
                "cycles": round(cost.latency_s * clock_hz),
                "compute_cycles": round(cost.compute_s * clock_hz),
                "bound": cost.bound.value,
                "mapping": " + ".join(row.mappings),
            }
        )
    return {"schema": "codesign.simulate.layer/1", "mode": report.mode, "phases": rows}


def _machine(arguments: argparse.Namespace) -> Accelerator:
    machine = load_accelerator(arguments.accelerator or "edge")
    array = machine.array
    if arguments.array:
        rows, cols = _array(arguments.array)
        array = dataclasses.replace(array, rows=rows, cols=cols, count=1)
    if arguments.dataflow:
        array = dataclasses.replace(array, dataflows=(arguments.dataflow,))
    return dataclasses.replace(machine, array=array)


def _array(text: str) -> tuple[int, int]:
    rows, _, cols = text.lower().partition("x")
    if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
        raise ConfigError(f"--array must be ROWSxCOLS, for example 32x32, got '{text}'")
    return int(rows), int(cols)


def _integers(option: str, text: str, count: int) -> list[int]:
    parts = text.split(",")
    if len(parts) != count or not all(part.strip().lstrip("-").isdecimal() for part in parts):
        raise ConfigError(f"{option} must be {count} whole numbers with commas between them, got '{text}'")
    return [int(part) for part in parts]


def _gemm(text: str) -> GemmShape:
    m, n, k = _integers("--gemm", text, 3)
    return GemmShape(m=m, n=n, k=k)


def _convolution(text: str) -> dict[str, tuple[int, int]]:
    """Each key as (rows, columns); `size` and `kernel` may be written 32x48."""
    found = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in _CONVOLUTION:
            raise ConfigError(f"--conv: unknown key '{key}'{did_you_mean(key, _CONVOLUTION)}")
        rows, _, cols = value.partition("x")
        if not rows.isdecimal() or not (cols or rows).isdecimal():
            raise ConfigError(f"--conv: {key} must be a whole number, got '{value}'")
        found[key] = (int(rows), int(cols or rows))
    for key in ("size", "in", "out", "kernel"):
        if key not in found:
            raise ConfigError(f"--conv: '{key}' is missing")
    return {"stride": (1, 1), "pad": (0, 0), "dilation": (1, 1), "groups": (1, 1)} | found


def _single(arguments: argparse.Namespace) -> Workload:
    batch = 1 if arguments.batch is None else arguments.batch
    if arguments.gemm:
        gemm = _gemm(arguments.gemm)
        return single_linear(rows=gemm.m, in_features=gemm.k, out_features=gemm.n, batch=batch)
    values = _convolution(arguments.conv)
    return single_convolution(
        size=values["size"],
        in_channels=values["in"][0],
        out_channels=values["out"][0],
        kernel=values["kernel"],
        stride=values["stride"],
        padding=values["pad"],
        dilation=values["dilation"],
        groups=values["groups"][0],
        batch=batch,
    )


def _scalesim(arguments: argparse.Namespace) -> int:
    machine = _machine(arguments)
    ifmap_kb, filter_kb, ofmap_kb = _integers("--sram-kb", arguments.sram_kb, 3)
    case = ScaleSimCase(
        layer=_scalesim_layer(arguments),
        dataflow=machine.array.dataflows[0],
        rows=machine.array.rows,
        cols=machine.array.cols,
        ifmap_kb=ifmap_kb,
        filter_kb=filter_kb,
        ofmap_kb=ofmap_kb,
    )
    record = counts_record(scalesim([case])[0])
    if arguments.json:
        print(json.dumps({"schema": "codesign.simulate.scalesim-layer/1", "mode": "scalesim", **record}, indent=1))
    else:
        for name, value in record.items():
            print(f"{name:26} {value:>20,.6f}" if isinstance(value, float) else f"{name:26} {value:>20,}")
    return 0


def _scalesim_layer(arguments: argparse.Namespace) -> GemmShape | ScaleSimConvolution:
    if arguments.gemm:
        return _gemm(arguments.gemm)
    values = _convolution(arguments.conv)
    if values["groups"] != (1, 1) or values["dilation"] != (1, 1):
        raise ConfigError("--conv: groups and dilation do not exist in scalesim mode")
    if values["stride"][0] != values["stride"][1]:
        raise ConfigError("--conv: scalesim mode has one stride for rows and columns")
    return ScaleSimConvolution(
        in_rows=values["size"][0] + 2 * values["pad"][0],
        in_cols=values["size"][1] + 2 * values["pad"][1],
        channels=values["in"][0],
        kernel_rows=values["kernel"][0],
        kernel_cols=values["kernel"][1],
        stride=values["stride"][0],
        filters=values["out"][0],
    )


def _many() -> int:
    """CSV in, CSV out: the columns of `scalesim_cycles.csv`, a line of counts for each line of layers."""
    rows = list(csv.DictReader(sys.stdin))
    results = scalesim([case_of(row) for row in rows])
    names = list(counts_record(results[0])) if results else []
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["case_id", *names])
    for i, (row, counts) in enumerate(zip(rows, results, strict=True)):
        record = counts_record(counts)
        writer.writerow([row.get("case_id", i), *(record[name] for name in names)])
    return 0
