"""`codesign simulate` and `codesign explain`: what one training step costs, what bounds it, what would help."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

from codesign.cli.cost_tables import print_explanation, print_report, print_scalesim
from codesign.cli.layer import add_layer_options, simulate_layers
from codesign.config import FormatChoice, load
from codesign.cost import NO_SCALES, Cost, CostReport, Scales, best_lever, levers, scalesim, simulate
from codesign.design import DesignPoint, LayerFormats, uniform
from codesign.errors import ConfigError, ModelError
from codesign.hardware import Accelerator, load_accelerator
from codesign.nn import import_function
from codesign.optimizers import Optimizer
from codesign.whatif import kept_channels
from codesign.workload import Workload, builtin_workload, workload_names


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatsFile:
    """Formats of every layer, and of single ones by name, as in `--formats FILE`."""

    default: FormatChoice
    layers: dict[str, FormatChoice] = field(default_factory=dict)


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser(
        "simulate",
        help="latency, traffic, energy and area of one training step",
        description="Latency, traffic, energy and area of one training step, per layer and phase; or of a single layer.",
        epilog="Single layers: `simulate --gemm M,N,K`, `simulate --conv size=32,in=64,out=128,kernel=3,stride=1,pad=1`, "
        "`simulate -` for many of them as CSV from standard input.",
    )
    command.add_argument(
        "workload", nargs="?", metavar="WORKLOAD", help=f"{', '.join(workload_names())}; module:function"
    )
    _add_point_options(command)
    command.add_argument("--detail", action="store_true", help="a line for each layer and phase, with its mapping")
    command.add_argument(
        "--mode", choices=("physical", "scalesim"), default="physical", help="laws (default: physical)"
    )
    command.add_argument("--json", action="store_true", help="machine-readable output")
    add_layer_options(command)
    command.set_defaults(execute=_simulate)

    command = commands.add_parser(
        "explain",
        help="what bounds each layer and phase, and which levers help",
        description="What bounds each layer and phase of a training step, and by how much each lever shortens it.",
    )
    command.add_argument("workload", metavar="WORKLOAD", help=f"{', '.join(workload_names())}; module:function")
    _add_point_options(command)
    command.add_argument("--rows", type=int, default=20, help="how many layers and phases, longest first (default 20)")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_explain)


def _add_point_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accelerator", "-a", metavar="A", help="a preset (`codesign ls accelerators`) or a .toml file"
    )
    command.add_argument("--batch", type=int, metavar="N", help="examples per step (default 128)")
    formats = command.add_mutually_exclusive_group()
    formats.add_argument("--format", metavar="F", help="format of every layer, or fp32, bf16 (default), fp8-hybrid")
    formats.add_argument("--formats", type=Path, metavar="FILE", help="a .toml file with `default` and [layers]")
    command.add_argument("--keep", type=float, metavar="R", help="share of the output channels kept in every layer")
    command.add_argument("--optimizer", type=Optimizer, choices=list(Optimizer), default=Optimizer.MOMENTUM)
    command.add_argument("--scales", metavar="BITS/BLOCK", help="shared scales, for example 8/32 as in MX formats")


def workload_of(name: str, batch: int | None) -> Workload:
    """A built-in workload, or what `module:function` returns; 128 examples unless told otherwise."""
    module, colon, function = name.partition(":")
    if not colon:
        return builtin_workload(name, batch=128 if batch is None else batch)
    made = import_function(module, function, ConfigError)()
    if not isinstance(made, tuple) or len(made) != 2:
        raise ConfigError(f"'{name}' must return (model, example_input), got {type(made).__name__}")
    return Workload.from_torch(*made, batch=batch, name=name)


def _point(arguments: argparse.Namespace, workload: Workload) -> DesignPoint:
    named: dict[str, LayerFormats] = {}
    default = uniform(arguments.format or "bf16")
    if arguments.formats:
        file = load(FormatsFile, arguments.formats)
        default = _formats(file.default, str(arguments.formats))
        known = {layer.name for layer in workload.layers}
        for layer, choice in file.layers.items():
            if layer not in known:
                raise ModelError(f"{arguments.formats}: workload '{workload.name}' has no layer '{layer}'")
            named[layer] = _formats(choice, f"{arguments.formats}: {layer}")
    return DesignPoint.of(default=default, formats=named, channels=_kept(workload, arguments.keep))


def _formats(choice: FormatChoice, where: str) -> LayerFormats:
    try:
        return uniform(choice) if isinstance(choice, str) else LayerFormats.parse(choice)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _kept(workload: Workload, share: float | None) -> dict[str, int]:
    """The same share of every group of channels that can be cut, rounded up."""
    if share is None:
        return {}
    if not 0 < share <= 1:
        raise ConfigError(f"--keep must lie above 0 and at most at 1, got {share:g}")
    return kept_channels(workload, share)


def _accelerator(arguments: argparse.Namespace) -> Accelerator:
    if arguments.accelerator is None:
        raise ConfigError("no accelerator; give --accelerator A (`codesign ls accelerators`)")
    return load_accelerator(arguments.accelerator)


def _run(arguments: argparse.Namespace) -> CostReport:
    accelerator = _accelerator(arguments)
    workload = workload_of(arguments.workload, arguments.batch)
    point = _point(arguments, workload)
    scales = Scales.parse(arguments.scales) if arguments.scales else NO_SCALES
    return simulate(workload, point, accelerator, optimizer=arguments.optimizer, scales=scales)


def _simulate(arguments: argparse.Namespace) -> int:
    if arguments.gemm or arguments.conv or arguments.workload == "-":
        return simulate_layers(arguments)
    if arguments.workload is None:
        raise ConfigError("no workload; give one (`codesign ls workloads`), --gemm, --conv, or - for CSV")
    if arguments.mode == "scalesim":
        return _simulate_scalesim(arguments)
    report = _run(arguments)
    if arguments.json:
        print(json.dumps(_record(report), indent=1))
    else:
        print_report(report, detail=arguments.detail)
    return 0


def _record(report: CostReport) -> dict[str, object]:
    memory = report.memory
    return {
        "schema": "codesign.simulate/2",
        "workload": report.network.name,
        "batch": report.network.batch,
        "accelerator": report.accelerator.name,
        "mode": report.mode,
        "optimizer": report.optimizer.value,
        "latency_s": report.latency_s,
        "energy_j": report.energy_j,
        "traffic_bits": report.traffic_bits,
        "area_um2": report.area_um2,
        "utilisation": report.total.utilisation,
        "memory": {name: getattr(memory, name) for name in memory.__slots__} | {"fits": memory.fits},
        "phases": {phase.value: _cost_record(cost) for phase, cost in report.by_phase().items()},
        "layers": report.to_frame().to_dict("records"),
    }


def _cost_record(cost: Cost) -> dict[str, object]:
    named = ("latency_s", "compute_s", "memory_s", "vector_s", "traffic_bits", "energy_j", "utilisation")
    return {**{name: getattr(cost, name) for name in named}, "bound": cost.bound.value}


def _simulate_scalesim(arguments: argparse.Namespace) -> int:
    accelerator = _accelerator(arguments)
    workload = workload_of(arguments.workload, arguments.batch)
    network = workload.with_channels(_kept(workload, arguments.keep))
    rows = scalesim.simulate_scalesim(network, accelerator)
    if arguments.json:
        layers = [_scalesim_record(row) for row in rows]
        print(json.dumps({"schema": "codesign.simulate.scalesim/1", "layers": layers}, indent=1))
        return 0
    print_scalesim(network.name, accelerator.name, rows)
    return 0


def _scalesim_record(row: scalesim.ScaleSimProduct) -> dict[str, str | int | float | None]:
    sizes = {name: getattr(row.gemm, name) for name in "mnk"}
    return (
        {"layer": row.layer, "phase": row.phase.value, "repeats": row.repeats}
        | sizes
        | scalesim.counts_record(row.counts)
    )


def _explain(arguments: argparse.Namespace) -> int:
    report = _run(arguments)
    found = levers(report)
    rows = sorted(report.rows, key=lambda row: -row.cost.latency_s)[: arguments.rows]
    best = {(row.layer, row.phase): best_lever(found, row.layer, row.phase, row.cost.latency_s) for row in rows}
    if arguments.json:
        record = {
            "schema": "codesign.explain/1",
            "latency_s": report.latency_s,
            "levers": [
                {"lever": x.name, "latency_s": x.latency_s, "speedup": report.latency_s / x.latency_s} for x in found
            ],
            "rows": [
                {
                    "layer": row.layer,
                    "phase": row.phase.value,
                    "latency_s": row.cost.latency_s,
                    "bound": row.cost.bound.value,
                    "utilisation": row.cost.utilisation,
                    "best_lever": best[row.layer, row.phase][0],
                    "saves_s": best[row.layer, row.phase][1],
                }
                for row in rows
            ],
        }
        print(json.dumps(record, indent=1))
        return 0
    print_explanation(report, found, rows, best)
    return 0
