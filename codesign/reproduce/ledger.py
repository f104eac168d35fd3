"""Results as they come: one row per finished training in a CSV file that only grows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from codesign.errors import RunDirectoryError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """One trained network.

    config : digest of the configuration; level : which of several compressions, counted from 0
    top1, top5, cut_top1 : share of test images; cut_top1: as pruned, before any training (-1: not measured)
    parameters : that are not masked; macs : multiply-accumulates of one image with parameters that are not masked
    epochs : that the method itself trains; search_cpu_s : its structure search, ranking and cut
    cpu_s, wall_s : its training on this machine; simulated_s : both on the accelerator
    """

    config: str
    data: str
    seed: int
    method: str
    level: int
    top1: float
    top5: float
    cut_top1: float
    parameters: int
    dense_parameters: int
    macs: int
    dense_macs: int
    epochs: float
    search_cpu_s: float
    cpu_s: float
    wall_s: float
    simulated_s: float

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What tells one row from another."""
        return self.config, self.seed, self.method, self.level


class Keyed(Protocol):
    """A dataclass of numbers and words; the first part of its key is the digest of its configuration."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells one row from another."""


AnyRow = TypeVar("AnyRow", bound=Keyed)


class Ledger(Generic[AnyRow]):
    """The rows of a file; what a killed process left of a last line is cut off."""

    def __init__(self, path: Path, kind: type[AnyRow]) -> None:
        self.path, self._kind = path, kind
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.read_bytes() if path.is_file() else b""
        if whole and not whole.endswith(b"\n"):
            os.truncate(path, whole.rfind(b"\n") + 1)
        self.rows = read_rows(path, kind)

    def has(self, *key: Any) -> bool:
        """Whether there is a row with this key."""
        return any(row.key == key for row in self.rows)

    def append(self, row: AnyRow) -> None:
        """Write one row; it is on the disk when this returns."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _columns(self._kind), lineterminator="\n")
        if not self.rows and (not self.path.is_file() or not self.path.stat().st_size):
            writer.writeheader()
        writer.writerow(asdict(row))  # type: ignore[call-overload]  # a dataclass
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)


_TYPES = {"str": str, "int": int, "float": float}


def _columns(kind: type[AnyRow]) -> list[str]:
    return [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass


def read_rows(path: Path, kind: type[AnyRow]) -> list[AnyRow]:
    """Every row of a file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is not None and list(reader.fieldnames) != _columns(kind):
            raise RunDirectoryError(f"{path} has other columns than this version writes; name another --out")
        types = {field.name: _TYPES[str(field.type)] for field in fields(kind)}  # type: ignore[arg-type]
        return [kind(**{name: read(line[name]) for name, read in types.items()}) for line in reader]


def of_config(rows: Iterable[AnyRow], config: str) -> list[AnyRow]:
    """The rows of one configuration."""
    return [row for row in rows if row.key[0] == config]
