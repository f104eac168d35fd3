"""`codesign quantize CHECKPOINT --bits B`: a checkpoint in low precision, chosen by its own numbers.

Prints for each weight tensor the chosen splits and the signal to noise ratio of every method; --out writes dense codes
that `codesign.quantize.checkpoint.load_packed` reads back to the same values.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign.cli.progress import progress
from codesign.errors import ConfigError, did_you_mean
from codesign.quantize import WATER_FILLING, ScaleRule, checkpoint

_SHOWN = ("empirical", "e2-absmax", "absmax", "gaussian", "laplace", "integer-clip", "integer-absmax", "microscaling")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    command = commands.add_parser("quantize", help="put a checkpoint into low precision", description=__doc__)
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .safetensors or torch file")
    width = command.add_mutually_exclusive_group(required=True)
    width.add_argument("--bits", type=int, metavar="B", help="width of a number, sign included: 2 to 16")
    width.add_argument(
        "--mean-bits",
        type=float,
        metavar="B",
        help="mean width in each tensor: channels that need more get more, 2 to 8",
    )
    command.add_argument("--method", default="empirical", metavar="METHOD", help="see below (default: empirical)")
    command.add_argument(
        "--scale", choices=("real", "power-of-two"), default="real", help="of a channel (default: real)"
    )
    command.add_argument("--allow-zeros", action="store_true", help="accept channels that hold only zeros")
    command.add_argument("--out", type=Path, metavar="FILE.safetensors", help="write the codes")
    command.add_argument("--figure", type=Path, metavar="FILE", help="draw one tensor's distribution and all splits")
    command.add_argument("--tensor", metavar="NAME", help="the tensor of the figure (default: the largest)")
    command.add_argument("--json", action="store_true", help="machine-readable output, every method")
    command.epilog = (
        "Methods: empirical, histogram, absmax, eN-absmax, eN-clip, integer-absmax, integer-clip, gaussian, laplace, aciq, "
        "octav, microscaling; `python -c 'import codesign.quantize.allocate as a; help(a)'` explains them."
    )
    command.set_defaults(execute=_quantize)


def _quantize(arguments: argparse.Namespace) -> int:
    if arguments.out and arguments.out.suffix != ".safetensors":
        raise ConfigError(f"--out must end in .safetensors, got '{arguments.out}'")
    if arguments.mean_bits is not None:
        if arguments.method != "empirical":
            raise ConfigError(f"--mean-bits goes with --method empirical, got '{arguments.method}'")
        arguments.bits, arguments.method = arguments.mean_bits, WATER_FILLING
    tensors = checkpoint.read_checkpoint(arguments.checkpoint)
    names = [name for name, tensor in tensors.items() if checkpoint.is_quantized(tensor)]
    if arguments.tensor is not None and arguments.tensor not in names:
        raise ConfigError(f"--tensor: no weight tensor '{arguments.tensor}'{did_you_mean(arguments.tensor, names)}")
    found: list[checkpoint.QuantizedTensor] = []
    total = sum(tensors[name].numel() for name in names)
    with progress("allocating", total) as update:
        done = 0
        for each in checkpoint.quantize_tensors(
            tensors,
            arguments.bits,
            method=arguments.method,
            scale=ScaleRule(arguments.scale),
            allow_zeros=arguments.allow_zeros,
        ):
            found.append(each)
            done += each.values.size
            update(done)
    packed_bytes = checkpoint.save_packed(arguments.out, tensors, found) if arguments.out else None
    if arguments.figure:
        from codesign.report import draw_allocation

        largest = max(found, key=lambda each: each.values.size)
        shown = next((each for each in found if each.name == arguments.tensor), largest)
        draw_allocation({each.name: each.chosen for each in found}, shown.name, shown.values, arguments.figure)
    if arguments.json:
        print(json.dumps(_record(arguments, found, packed_bytes), indent=1))
    else:
        _print(arguments, found, total, packed_bytes)
    return 0


def _record(
    arguments: argparse.Namespace, found: list[checkpoint.QuantizedTensor], packed_bytes: int | None
) -> dict[str, Any]:
    return {
        "schema": "codesign.quantize/1",
        "bits": arguments.bits,
        "method": arguments.method,
        "scale": arguments.scale,
        "packed_bytes": packed_bytes,
        "tensors": [
            {
                "name": each.name,
                "shape": list(each.values.shape),
                "formats": [str(fmt) for fmt in each.chosen.formats],
                "clip": each.chosen.clip.ravel().tolist(),
                "sqnr_db": _finite(each.chosen.total_sqnr_db),
                "channel_sqnr_db": [_finite(value) for value in each.chosen.sqnr_db.tolist()],
                "sqnr_db_by_method": {name: _finite(value) for name, value in each.sqnr_db.items()},
            }
            for each in found
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print(
    arguments: argparse.Namespace, found: list[checkpoint.QuantizedTensor], total: int, packed_bytes: int | None
) -> None:
    shared = arguments.method == WATER_FILLING
    on_average = " on average" if shared else ""
    own_width = f" (others than {WATER_FILLING}: {int(arguments.bits)} bits)" if shared else ""
    console = Console(width=None if Console().is_terminal else 200)
    table = Table(
        title=f"{arguments.checkpoint.name}: {total:,} weights of {arguments.bits:g} bits{on_average}, {arguments.method}, "
        f"{arguments.scale} scales",
        caption=f"signal to quantization noise in dB, by method{own_width}; --json has all of them",
    )
    table.add_column("tensor", overflow="fold")
    table.add_column("shape")
    table.add_column("splits chosen (channels)")
    table.add_column("clip / largest", justify="right")
    methods = [name for name in _SHOWN if name in found[0].sqnr_db]
    for name in dict.fromkeys([arguments.method, *methods]):
        table.add_column(name, justify="right")
    for each in found:
        splits = Counter(str(fmt).removesuffix("all") for fmt in each.chosen.formats)
        own = {**each.sqnr_db, arguments.method: each.chosen.total_sqnr_db}
        table.add_row(
            each.name,
            " x ".join(map(str, each.values.shape)),
            ", ".join(f"{name}: {count}" for name, count in splits.most_common()),
            _median_clip(each),
            *(f"{own[name]:.2f}" for name in dict.fromkeys([arguments.method, *methods])),
        )
    console.print(table)
    if packed_bytes is not None:
        console.print(f"{arguments.out}: {packed_bytes:,} bytes", highlight=False)


def _median_clip(each: checkpoint.QuantizedTensor) -> str:
    """Median over channels of the clip, as a share of the channel's largest magnitude."""
    import numpy as np

    if each.chosen.block is not None:
        return "-"
    largest = np.abs(each.values).reshape(len(each.values), -1).max(1)
    shares = (each.chosen.clip / np.where(largest > 0, largest, 1))[largest > 0]
    return f"{100 * np.median(shares):.0f} %" if shares.size else "-"
