"""The one door to the compiled core: `ffi` and `lib`, checked once at import."""

from __future__ import annotations

try:
    from codesign._core import ffi, lib
except ImportError as error:
    raise ImportError(
        f"the compiled core of codesign is missing ({error}); build it with `pip install -e .`"
    ) from error

EXPECTED_ABI = 7  # CS_ABI_VERSION of the csrc/codesign.h that this Python code was written for
EXPECTED_FILTERS_ABI = 1  # CS_FILTERS_ABI_VERSION of csrc/filters/filters.h, likewise


def _check_abi(part: str, function: str, expected: int) -> None:
    """Refuse a library whose structs may lie otherwise in memory than this Python code believes."""
    built = int(getattr(lib, function)()) if hasattr(lib, function) else 0  # 0: built before this part had a number
    if built != expected:
        raise ImportError(
            f"the compiled {part} has ABI {built}, this Python code needs {expected}; rebuild with `pip install -e .`"
        )


_check_abi("core", "cs_abi_version", EXPECTED_ABI)
_check_abi("image filters", "cs_filters_abi_version", EXPECTED_FILTERS_ABI)


def source_sha256() -> str:
    """SHA-256 of the C sources that the loaded core was compiled from."""
    return str(ffi.string(lib.CS_SOURCE_SHA256), "ascii")


def compile_flags() -> str:
    """Compiler flags of the loaded core."""
    return str(ffi.string(lib.CS_COMPILE_FLAGS), "ascii")


__all__ = ["compile_flags", "ffi", "lib", "source_sha256"]
