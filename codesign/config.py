"""TOML files to dataclasses and back, through one converter that refuses what it does not know."""

from __future__ import annotations

import dataclasses
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import cattrs
import tomli_w
from cattrs.errors import ForbiddenExtraKeysError

from codesign.errors import ConfigError, did_you_mean

Record = TypeVar("Record")

_converter = cattrs.Converter(forbid_extra_keys=True)
_KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


class _WrongType(ValueError):
    """A TOML value of another type than the field."""


def _exactly(value: object, kind: type) -> Any:
    """TOML's own types: `"8"` is no number, `true` is no number, `8` is a number. Also for enums made of strings."""
    if issubclass(kind, Enum):
        known = [str(member.value) for member in kind]
        if value not in known:
            raise _WrongType(f"must be one of {', '.join(known)}, got {value!r}")
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise _WrongType(f"must be {_KINDS[kind]}, got {value!r}")
    return value


FormatChoice = str | dict[str, str]  # a uniform format or preset, or one format per role


def _format_choice(value: object, _: Any) -> FormatChoice:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise _WrongType(f'must be a name such as "e4m3" or a table of names by role, got {value!r}')
    return value


for _kind in _KINDS:
    _converter.register_structure_hook(_kind, _exactly)
_converter.register_structure_hook_func(lambda kind: kind == FormatChoice, _format_choice)


def _describe(error: BaseException, kind: type | None) -> str:
    """One cattrs error in the words of the file's author."""
    if isinstance(error, ForbiddenExtraKeysError):
        got = sorted(error.extra_fields)[0]
        return f"unknown key '{got}'{did_you_mean(got, [field.name for field in dataclasses.fields(error.cl)])}"
    if isinstance(error, KeyError):
        return f"'{error.args[0]}' is missing"
    if isinstance(error, TypeError) and "iterable" in str(error):
        return "must be a table" if dataclasses.is_dataclass(kind) else "must be a list"
    return str(error)


def structure(table: dict[str, Any], kind: type[Record], where: str) -> Record:
    """A `kind` from plain dictionaries; the first mistake becomes a `ConfigError` that begins with `where`."""
    try:
        return _converter.structure(table, kind)
    except (cattrs.BaseValidationError, ValueError, TypeError) as error:
        found = cattrs.transform_error(error, path="", format_exception=_describe)
        # a misspelt key is both unknown and missing; what stands in the file is the better hint
        first = next((text for text in found if text.startswith("unknown key")), found[0])
        message, _, path = first.rpartition(" @ ")
        if message.endswith("is missing"):  # the path ends in the missing key, which the message names
            path = path.rpartition(".")[0]
        place = "".join(f"{part}: " for part in path.strip(".").split(".") if part)
        raise ConfigError(f"{where}: {place}{message or first}") from error


def load(kind: type[Record], path: str | Path) -> Record:
    """A `kind` from a TOML file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return structure(table, kind, str(path))


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
