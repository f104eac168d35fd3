"""The one door to the compiled core: `ffi` and `lib`, checked once at import."""

from __future__ import annotations

try:
    from codesign._core import ffi, lib
except ImportError as error:
    raise ImportError(
        f"the compiled core of codesign is missing ({error}); build it with `pip install -e .`"
    ) from error

EXPECTED_ABI = 7  # CS_ABI_VERSION of the csrc/codesign.h that this Python code was written for

if lib.cs_abi_version() != EXPECTED_ABI:
    raise ImportError(
        f"the compiled core has ABI {lib.cs_abi_version()}, this Python code needs {EXPECTED_ABI}; "
        "rebuild with `pip install -e .`"
    )


def source_sha256() -> str:
    """SHA-256 of the C sources that the loaded core was compiled from."""
    return str(ffi.string(lib.CS_SOURCE_SHA256), "ascii")


def compile_flags() -> str:
    """Compiler flags of the loaded core."""
    return str(ffi.string(lib.CS_COMPILE_FLAGS), "ascii")


__all__ = ["compile_flags", "ffi", "lib", "source_sha256"]
