"""Accelerators from TOML files. A misspelt key is an error, never a default."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import cattrs
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationNote

from codesign.errors import ConfigError, did_you_mean
from codesign.hardware.accelerator import Accelerator

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def _folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    for parent in (package, package.parent):  # installed; checked out
        if (parent / "configs" / "accelerators").is_dir():
            return parent / "configs" / "accelerators"
    raise ConfigError("the folder configs/accelerators is missing; reinstall codesign")


def accelerator_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def load_accelerator(name: str | Path) -> Accelerator:
    """A preset by name, or the file of that path (ending in `.toml`)."""
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in accelerator_names():
            raise ConfigError(f"no accelerator '{name}'{did_you_mean(str(name), accelerator_names())}")
        path = _folder() / f"{name}.toml"
    try:
        record = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return accelerator_of(record, str(path))


def accelerator_of(record: dict[str, Any], where: str) -> Accelerator:
    """The accelerator of a parsed table; `where` begins the error message."""
    try:
        return _CONVERTER.structure(record, Accelerator)
    except Exception as error:
        raise ConfigError(f"{where}: {_reason(error, '')}") from error


def _reason(error: BaseException, path: str) -> str:
    """The first cause inside a cattrs exception group, with the keys that lead to it."""
    if isinstance(error, ForbiddenExtraKeysError):
        key = sorted(error.extra_fields)[0]
        return f"{path}unknown key '{key}'{did_you_mean(key, [field.name for field in fields(error.cl)])}"
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions[0]
        notes = getattr(inner, "__notes__", [])
        names = [note.name for note in notes if not isinstance(note, IterableValidationNote) and hasattr(note, "name")]
        return _reason(inner, f"{path}{names[0]}: " if names else path)
    if isinstance(error, KeyError):
        return f"{path}key {error} is missing"
    return f"{path}{error}"


__all__ = ["accelerator_names", "accelerator_of", "load_accelerator"]
