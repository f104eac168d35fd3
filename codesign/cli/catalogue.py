"""`codesign ls`: what there is to choose from."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.cli.units import bytes_of, si
from codesign.hardware import accelerator_names, load_accelerator
from codesign.nn import NAMES
from codesign.workload import builtin_workload, workload_names


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser("ls", help="list accelerators, workloads, data sets", description=__doc__)
    command.add_argument("what", choices=("accelerators", "workloads", "datasets"))
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(execute=_ls)


def _ls(arguments: argparse.Namespace) -> int:
    kinds = {"accelerators": _accelerators, "workloads": _workloads, "datasets": _datasets}
    records = kinds[arguments.what]()
    if arguments.json:
        print(json.dumps({"schema": f"codesign.ls.{arguments.what}/1", arguments.what: records}, indent=1))
        return 0
    table = Table(*records[0], box=None, pad_edge=False)
    for record in records:
        table.add_row(*(_text(name, value) for name, value in record.items()))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(width=160, highlight=False)).print(table)
    return 0


_UNITS = {"peak_macs_per_s": "MAC/s", "bandwidth_bytes_per_s": "B/s", "macs": "MAC"}


def _text(name: str, value: Any) -> str:
    if name in _UNITS:
        return si(value, _UNITS[name])
    if name.endswith("_bytes"):
        return bytes_of(8 * value)
    return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _accelerators() -> list[dict[str, Any]]:
    machines = [load_accelerator(name) for name in accelerator_names()]
    return [
        {
            "name": machine.name,
            "arrays": f"{machine.array.count} x {machine.array.rows}x{machine.array.cols}",
            "peak_macs_per_s": machine.peak_macs_per_s,
            "native": machine.throughput.native,
            "law": machine.throughput.law.value,
            "sram_bytes": machine.sram.capacity_bytes,
            "bandwidth_bytes_per_s": machine.dram.bandwidth_bytes_per_s,
            "ridge_op_per_byte": machine.ridge_point,
            "description": machine.description,
        }
        for machine in machines
    ]


def _workloads() -> list[dict[str, Any]]:
    networks = [builtin_workload(name, batch=1) for name in workload_names()]
    return [
        {
            "name": network.name,
            "weight_layers": len(network.weight_layers),
            "parameters": network.parameters,
            "macs": network.macs,
            "channel_groups": sum(not group.pinned for group in network.groups),
        }
        for network in networks
    ]


def _datasets() -> list[dict[str, Any]]:
    return [{"name": name} for name in (*NAMES, "imagefolder:DIR", "npz:FILE", "module:function")]
