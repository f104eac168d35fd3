"""`codesign doctor`: what is installed, and does it work."""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata

from codesign import native
from codesign.version import VERSION

_LIBRARIES = ("torch", "numpy", "numba", "cffi", "pandas", "optuna", "scikit-learn", "scipy", "safetensors")
_MISSING = "not installed; install it with pip"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this family's commands."""
    doctor = commands.add_parser("doctor", help="check the installation", description=__doc__)
    doctor.add_argument("--json", action="store_true", help="machine-readable output")
    doctor.set_defaults(execute=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    found = {
        "codesign": VERSION,
        "python": platform.python_version(),
        "core ABI": str(native.lib.cs_abi_version()),
        "core sources": native.source_sha256()[:16],
        "core flags": native.compile_flags(),
        **{name: _version(name) for name in _LIBRARIES},
    }
    if arguments.json:
        print(json.dumps({"schema": "codesign.doctor/1", **found}, indent=1))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            print(f"{name:{width}}  {value}")
    return 2 if _MISSING in found.values() else 0


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return _MISSING
