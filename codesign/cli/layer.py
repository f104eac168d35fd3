"""`codesign simulate` for single layers: one product, one convolution, or many as CSV."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Mapping

from codesign.cli.cost_tables import print_report
from codesign.cost import NO_SCALES, CostReport, Product, Scales, folds_of, products, scalesim, simulate, verify
from codesign.design import DesignPoint, uniform
from codesign.errors import ConfigError, did_you_mean, located
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
        return _many(arguments)
    if arguments.workload is not None:
        raise ConfigError("give either a workload or a single layer (--gemm, --conv), not both")
    if arguments.mode == "scalesim":
        return _scalesim(arguments)
    for option in ("formats", "keep"):
        if getattr(arguments, option) is not None:
            raise ConfigError(f"--{option} needs a whole network, not a single layer")
    report = _priced(arguments)
    if arguments.json:
        print(json.dumps(_record(report), indent=1))
    else:
        print_report(report, detail=True)
    return 0


def _priced(arguments: argparse.Namespace) -> CostReport:
    point = DesignPoint.of(default=uniform(arguments.format or "bf16"))
    machine, scales = _machine(arguments), Scales.parse(arguments.scales) if arguments.scales else NO_SCALES
    return simulate(_single(arguments), point, machine, optimizer=arguments.optimizer, scales=scales)


def _record(report: CostReport) -> dict[str, object]:
    named = ("latency_s", "compute_s", "memory_s", "traffic_bits", "first_bits", "second_bits", "result_bits",
             "sram_bits", "energy_j", "utilisation")  # fmt: skip
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
    product, forward = _forward(report), rows[0]
    folds, efficiency = folds_of(report, product, 0)
    return {
        "schema": "codesign.simulate.layer/1",
        "mode": report.mode,
        "compute_cycles": forward["compute_cycles"],
        "total_cycles": forward["cycles"],
        "folds": folds,
        "mapping_efficiency": efficiency,
        "overall_utilisation": forward["utilisation"],
        "dram_ifmap_bits": forward["first_bits"],
        "dram_filter_bits": forward["second_bits"],
        "dram_ofmap_bits": forward["result_bits"],
        "phases": rows,
    }


def _forward(report: CostReport) -> Product:
    return products(report.network.layers[0], report.network.batch)[0]


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
    record = scalesim.counts_record(scalesim.counts_of([_scalesim_case(arguments)])[0])
    if arguments.json:
        print(json.dumps({"schema": "codesign.simulate.scalesim-layer/1", "mode": "scalesim", **record}, indent=1))
    else:
        for name, value in record.items():
            print(f"{name:26} {value:>20,.6f}" if isinstance(value, float) else f"{name:26} {value:>20,}")
    return 0


def _scalesim_case(arguments: argparse.Namespace) -> scalesim.ScaleSimCase:
    machine = _machine(arguments)
    ifmap_kb, filter_kb, ofmap_kb = _integers("--sram-kb", arguments.sram_kb, 3)
    return scalesim.ScaleSimCase(
        layer=_scalesim_layer(arguments),
        dataflow=machine.array.dataflows[0],
        rows=machine.array.rows,
        cols=machine.array.cols,
        ifmap_kb=ifmap_kb,
        filter_kb=filter_kb,
        ofmap_kb=ofmap_kb,
    )


def _scalesim_layer(arguments: argparse.Namespace) -> GemmShape | scalesim.ScaleSimConvolution:
    if arguments.gemm:
        return _gemm(arguments.gemm)
    values = _convolution(arguments.conv)
    if values["groups"] != (1, 1) or values["dilation"] != (1, 1):
        raise ConfigError("--conv: groups and dilation do not exist in scalesim mode")
    if values["stride"][0] != values["stride"][1]:
        raise ConfigError("--conv: scalesim mode has one stride for rows and columns")
    return scalesim.ScaleSimConvolution(
        in_rows=values["size"][0] + 2 * values["pad"][0],
        in_cols=values["size"][1] + 2 * values["pad"][1],
        channels=values["in"][0],
        kernel_rows=values["kernel"][0],
        kernel_cols=values["kernel"][1],
        stride=values["stride"][0],
        filters=values["out"][0],
    )


def _many(arguments: argparse.Namespace) -> int:
    """CSV in, CSV out, a line of results for each layer.

    Columns in: m, n, k of a product or the keys of --conv; array and dataflow, where they are not those of the options.
    Scalesim mode also reads the columns of the reference file of `codesign verify scalesim`.
    """
    reader = csv.DictReader(sys.stdin)
    rows = list(reader)
    records: list[Mapping[str, int | float | None]]
    if "layer_kind" in (reader.fieldnames or ()) and arguments.mode == "scalesim":
        names = [row.get("case_id", str(i)) for i, row in enumerate(rows)]
        cases = [verify.case_of(row) for row in rows]
        limited = [case.bandwidth is not None for case in cases]
        records = [
            scalesim.counts_record(x, limited=y) for x, y in zip(scalesim.counts_of(cases), limited, strict=True)
        ]
        if any(limited):
            print(
                f"{sum(limited)} layers have a bandwidth limit; what stalls and refetching change is not modelled there and "
                "left empty",
                file=sys.stderr,
            )
    else:
        names = [row.get("name") or str(i) for i, row in enumerate(rows)]
        records = []
        for number, row in enumerate(rows, start=2):
            with located(f"line {number}"):
                layer = _line(arguments, row)
                if arguments.mode == "scalesim":
                    records.append(scalesim.counts_record(scalesim.counts_of([_scalesim_case(layer)])[0]))
                else:
                    records.append(_totals(_priced(layer)))
    if arguments.json:
        lines = [{"name": name, **record} for name, record in zip(names, records, strict=True)]
        print(json.dumps({"schema": "codesign.simulate.layers/1", "mode": arguments.mode, "layers": lines}, indent=1))
        return 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["case_id" if "case_id" in (reader.fieldnames or ()) else "name", *(records[0] if records else ())])
    for name, record in zip(names, records, strict=True):
        writer.writerow([name, *record.values()])
    return 0


def _line(arguments: argparse.Namespace, row: dict[str, str]) -> argparse.Namespace:
    """The options with which one line would have been given alone."""
    values = {key.strip().lower(): value.strip() for key, value in row.items() if key and value and value.strip()}
    values.pop("name", None)
    layer = argparse.Namespace(**vars(arguments))
    layer.array = values.pop("array", arguments.array)
    dataflow = values.pop("dataflow", arguments.dataflow)
    product = [values.pop(key) for key in ("m", "n", "k") if key in values]
    try:
        layer.dataflow = Dataflow(dataflow) if dataflow else None
    except ValueError:
        raise ConfigError(f"dataflow must be os, ws or is, got '{dataflow}'") from None
    if len(product) == 3 and not values:
        layer.gemm, layer.conv = ",".join(product), None
    elif values and not product:
        layer.gemm, layer.conv = None, ",".join(f"{key}={value}" for key, value in values.items())
    else:
        raise ConfigError(f"a layer has either m, n, k or {', '.join(_CONVOLUTION)}; got {dict(row)}")
    return layer


def _totals(report: CostReport) -> dict[str, float]:
    """One line for one layer: the step, and the latency of each phase."""
    phases = {f"{p.value.replace('-', '_')}_latency_s": cost.latency_s for p, cost in report.by_phase().items()}
    total = report.total
    return {
        "latency_s": total.latency_s,
        **phases,
        "compute_s": total.compute_s,
        "memory_s": total.memory_s,
        "traffic_bits": total.traffic_bits,
        "energy_j": total.energy_j,
        "utilisation": total.utilisation,
    }
