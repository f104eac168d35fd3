"""`codesign reproduce`: the experiments behind the methods, with their tables and figures."""

from __future__ import annotations

import argparse


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add this family's commands; each experiment is a command of its own below `reproduce`."""
    command = commands.add_parser("reproduce", help="run the experiments behind the methods again", description=__doc__)
    command.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
