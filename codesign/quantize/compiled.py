"""Numba, entered late: a kernel is compiled when it is first called, and kept on disk where a disk can be written."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def compiled(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a kernel: compiled by its first call for exactly `signature`, without the interpreter's lock.

    `import codesign` so costs no numba. The compiled code is cached beside the source, in the user's cache directory
    where that is read-only, and only in memory where that is read-only too.
    """

    def decorate(kernel: Callable[..., None]) -> Callable[..., None]:
        @functools.cache
        def machine_code() -> Callable[..., None]:
            import numba

            try:
                return numba.njit(signature, nogil=True, error_model="numpy", cache=True)(kernel)
            except RuntimeError:  # "cannot cache function": no directory can be written
                return numba.njit(signature, nogil=True, error_model="numpy")(kernel)

        @functools.wraps(kernel)
        def call(*arguments: Any) -> None:
            machine_code()(*arguments)

        return call

    return decorate
