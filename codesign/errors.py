"""Errors that a user can mend. Each message says where, what, got, do; only the command line prints them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class CodesignError(Exception):
    """Base of every error that names something the user can change. The command line turns it into one line."""

    exit_status = 2


class FormatError(CodesignError, ValueError):
    """A number format that cannot be parsed or cannot do what is asked of it."""


class ConfigError(CodesignError, ValueError):
    """A configuration file or argument that is not valid."""


class DataError(CodesignError):
    """A data set that is missing or not what it claims to be."""


class ModelError(CodesignError, ValueError):
    """A network, layer or tensor that is not understood or cannot be changed as asked."""


class CostError(CodesignError, ValueError):
    """A workload that this accelerator cannot run, or a value the cost model refuses."""


class InfeasibleError(CodesignError):
    """No design meets the constraints."""

    exit_status = 3


class RunDirectoryError(CodesignError):
    """A run directory that is locked, or that belongs to another configuration."""

    exit_status = 5


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put `where` in front of the message of an error that passes through; its type stays."""
    try:
        yield
    except CodesignError as error:
        raise type(error)(f"{where}: {error}") from error


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, or `; known: a, b, c` when nothing is close."""
    words = sorted(known)
    close = difflib.get_close_matches(got, words, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(words)}"
