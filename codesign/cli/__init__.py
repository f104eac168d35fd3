"""The command line: the only room that prints. stdout is data, stderr is progress and messages.

One module per family of commands; each has `add_commands(subparsers)`, and each command sets `execute` to a function that
takes the parsed arguments and returns an exit status.
"""

from __future__ import annotations

import argparse
import os
import sys

from codesign.cli import (
    apply,
    catalogue,
    compare,
    cost,
    formats,
    look,
    quantize,
    report,
    reproduce,
    search,
    train,
    verify,
    whatif,
)
from codesign.errors import CodesignError
from codesign.version import VERSION

__all__ = ["main"]

DESCRIPTION = "Co-design of neural-network training and the hardware that runs it."
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    top = argparse.ArgumentParser(prog="codesign", description=DESCRIPTION)
    top.add_argument("--version", action="version", version=f"codesign {VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in (
        search,
        apply,
        train,
        quantize,
        report,
        compare,
        reproduce,
        cost,
        whatif,
        catalogue,
        formats,
        verify,
        look,
    ):
        family.add_commands(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; an error that the user can mend becomes one line on stderr and its exit status."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.execute(arguments)
        sys.stdout.flush()
    except CodesignError as error:
        print(f"codesign {arguments.command}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
