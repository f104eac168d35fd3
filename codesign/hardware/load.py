"""Accelerators from TOML files. A misspelt key is an error, never a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codesign.errors import ConfigError, did_you_mean
from codesign.hardware.accelerator import Accelerator
from codesign.records import read_toml, strict_converter, structure

_CONVERTER = strict_converter()


def _folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    for parent in (package, package.parent):  # installed; checked out
        if (parent / "configs" / "accelerators").is_dir():
            return parent / "configs" / "accelerators"
    raise ConfigError("the folder configs/accelerators is missing; reinstall codesign")


def accelerator_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def preset_path(name: str) -> Path:
    """The file of a preset."""
    if name not in accelerator_names():
        raise ConfigError(f"no accelerator '{name}'{did_you_mean(name, accelerator_names())}")
    return _folder() / f"{name}.toml"


def load_accelerator(name: str | Path) -> Accelerator:
    """A preset by name, or the file of that path (ending in `.toml`)."""
    path = Path(name) if Path(name).suffix == ".toml" else preset_path(str(name))
    return accelerator_of(read_toml(path), str(path))


def accelerator_of(table: dict[str, Any], where: str) -> Accelerator:
    """The accelerator of a parsed file; `where` begins the error message."""
    return structure(table, Accelerator, where, _CONVERTER)
