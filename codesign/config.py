"""TOML files to dataclasses and back, through one converter that refuses what it does not know."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path
from typing import Any

import tomli_w

from codesign import records
from codesign.records import Record, WrongType, read_toml, strict_converter

__all__ = ["FormatChoice", "dump", "load", "structure"]

_converter = strict_converter()

FormatChoice = str | dict[str, str]  # a uniform format or preset, or one format per role


def _format_choice(value: object, _: Any) -> FormatChoice:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise WrongType(f'must be a name such as "e4m3" or a table of names by role, got {value!r}')
    return value


def _table(value: object, _: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongType(f"must be a table, got {value!r}; a list of tables is written [[...]]")
    return value


_converter.register_structure_hook_func(lambda kind: kind == FormatChoice, _format_choice)
_converter.register_structure_hook_func(lambda kind: kind == dict[str, Any], _table)  # whose owner checks what is in it


def structure(table: dict[str, Any], kind: type[Record], where: str) -> Record:
    """A `kind` from plain dictionaries; the first mistake becomes a `ConfigError` that begins with `where`."""
    return records.structure(table, kind, where, _converter)


def load(kind: type[Record], path: str | Path) -> Record:
    """A `kind` from a TOML file."""
    return structure(read_toml(path), kind, str(path))


def _plain(value: Any) -> Any:
    """TOML has no null: what is None is left out."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.value if isinstance(value, Enum) else value


def dump(record: Any) -> str:
    """TOML that `load` reads back to an equal `record`."""
    return tomli_w.dumps(_plain(dataclasses.asdict(record)))
