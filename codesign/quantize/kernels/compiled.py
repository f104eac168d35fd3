"""Numba, entered late: a kernel is compiled when it is first called, and kept on disk where a disk can be written."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_INLINED = (
    "elements.py",
    "tiles.py",
    "constants.py",
)  # sources that kernels of other files take functions and constants from


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a kernel: compiled by its first call for exactly `signature`, without the interpreter's lock.

    `import codesign` so costs no numba. The compiled code is cached beside the source, in the user's cache directory
    where that is read-only, and only in memory where that is read-only too.
    """

    def decorate(kernel: Callable[..., Any]) -> Callable[..., Any]:
        # Numba looks for changes in the kernel's own file only; the name makes it look for these too.
        kernel.__qualname__ = f"{kernel.__qualname__}.{_inlined_digest()}"

        @functools.cache
        def machine_code() -> Callable[..., Any]:
            import numba

            try:
                return numba.njit(signature, nogil=True, error_model="numpy", cache=True)(kernel)
            except RuntimeError:  # "cannot cache function": no directory can be written
                return numba.njit(signature, nogil=True, error_model="numpy")(kernel)

        @functools.wraps(kernel)
        def call(*arguments: Any) -> Any:
            return machine_code()(*arguments)

        call.machine_code = machine_code  # type: ignore[attr-defined]
        return call

    return decorate


def machine_code(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """What a decorated kernel calls, compiled now: a step less, where a microsecond matters."""
    code: Callable[..., Any] = kernel.machine_code()  # type: ignore[attr-defined]
    return code


@functools.cache
def _inlined_digest() -> str:
    digest = hashlib.sha256()
    for name in _INLINED:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:8]
