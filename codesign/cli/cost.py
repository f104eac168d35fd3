"""`codesign simulate`: what one training step costs."""

from __future__ import annotations

import argparse
import json

from codesign.cost import Cost, CostReport, simulate
from codesign.design import DesignPoint, uniform
from codesign.hardware import load_accelerator
from codesign.workload.builtin import builtin_workload


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add this family's commands."""
    command = commands.add_parser("simulate", help="cost of one training step", description=__doc__)
    command.add_argument("workload", metavar="WORKLOAD", help="a built-in network (`codesign ls workloads`)")
    command.add_argument("--accelerator", "-a", required=True, help="a preset, or a .toml file")
    command.add_argument("--batch", type=int, default=128, help="examples per step (default 128)")
    command.add_argument("--format", default="bf16", help="format of every layer, or fp32, bf16, fp8-hybrid")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_simulate)


def _simulate(arguments: argparse.Namespace) -> int:
    workload = builtin_workload(arguments.workload, batch=arguments.batch)
    point = DesignPoint.of(default=uniform(arguments.format))
    report = simulate(workload, point, load_accelerator(arguments.accelerator))
    if arguments.json:
        rows = report.to_frame().to_dict("records")
        print(json.dumps({"schema": "codesign.simulate/1", "latency_s": report.latency_s, "layers": rows}, indent=1))
    else:
        _print(report)
    return 0


def _print(report: CostReport) -> None:
    print(f"{report.workload} on {report.accelerator}, {report.mode}")
    print(f"{'layer':20} {'latency ms':>10} {'compute':>10} {'memory':>10} {'vector':>10}  bound")
    for name, cost in {**report.by_layer(), "total": report.total}.items():
        print(_line(name, cost))


def _line(name: str, cost: Cost) -> str:
    times = (cost.latency_s, cost.compute_s, cost.memory_s, cost.vector_s)
    return f"{name:20} " + " ".join(f"{1e3 * x:10.4f}" for x in times) + f"  {cost.bound}"
