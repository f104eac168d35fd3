"""What a result was made with: enough to make it again, or to know why it differs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from codesign import native
from codesign.version import VERSION

_LIBRARIES = ("torch", "numpy", "numba", "cffi", "optuna", "scipy", "scikit-learn")


def provenance(*, seed: int, data_sha256: str) -> dict[str, Any]:
    """Versions, sources, machine, seed, data and command line."""
    return {
        "codesign": VERSION,
        "git commit": _git_commit(),
        "C sources (SHA-256)": native.source_sha256(),
        "C flags": native.compile_flags(),
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        "processor": _processor(),
        "processors in use": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "seed": seed,
        "data (SHA-256)": data_sha256,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _git_commit() -> str:
    """The commit of the checkout that this package lies in, with `+changes` if it was changed; 'not a checkout' else."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return "not a checkout"
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(folder), "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"
    return commit + ("+changes" if changed else "")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
