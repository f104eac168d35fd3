"""`codesign verify TARGET`: prove what this package claims, here and now.

TARGET is a number format: all 2^32 float32 inputs are rounded to it and compared with the sorted list of its values.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from codesign.cli.progress import progress
from codesign.formats import FloatFormat
from codesign.quantize import Rounding

_REFUTED = 1


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add this family's commands."""
    verify = commands.add_parser("verify", help="prove a number format's rounding", description=__doc__)
    verify.add_argument("target", metavar="TARGET", help="a number format, for example e4m3fn (up to 20 bits)")
    verify.add_argument(
        "--rounding",
        choices=[Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO],
        default=Rounding.NEAREST_EVEN,
        type=Rounding,
        help="of a number format; default: nearest-even",
    )
    verify.add_argument("--json", action="store_true", help="machine-readable output")
    verify.set_defaults(execute=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    match arguments.target:
        case _:
            return _verify_format(FloatFormat.parse(arguments.target), arguments.rounding, arguments.json)


def _verify_format(fmt: FloatFormat, rounding: Rounding, as_json: bool) -> int:
    from codesign.quantize.proof import INPUTS, prove

    start_s = time.process_time()
    with progress(f"verify {fmt}", INPUTS) as update:
        proof = prove(fmt, rounding, progress=update)
    cpu_s = time.process_time() - start_s
    if as_json:
        record = {
            "schema": "codesign.verify.format/1",
            "format": str(fmt),
            "rounding": str(rounding),
            "inputs": proof.inputs,
            "decisions": proof.decisions,
            "wrong": proof.wrong,
            "first_wrong_bits": proof.first_wrong,
            "holds": proof.holds,
            "cpu_s": round(cpu_s, 3),
        }
        print(json.dumps(record, indent=1))
    elif proof.holds:
        print(
            f"{fmt}, {rounding}: proven. All {proof.inputs:,} float32 inputs are rounded as the {proof.decisions:,} "
            f"decisions between its values demand ({cpu_s:.1f} CPU seconds)."
        )
    else:
        assert proof.first_wrong is not None
        bits = np.uint32(proof.first_wrong)
        print(
            f"{fmt}, {rounding}: REFUTED. {proof.wrong:,} of {proof.inputs:,} float32 inputs are rounded wrong, first "
            f"{float(bits.view(np.float32))!r} (bits {int(bits):#010x})."
        )
    return 0 if proof.holds else _REFUTED
