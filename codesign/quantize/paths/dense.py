"""A whole dense float32 array by one call of machine code: what a training step does thousands of times.

Only a fast path to the bits of `round_to_format`, with a few microseconds of Python instead of tens. What is not covered
(other dtypes and devices, gaps between elements, blocks, infinities to be scaled, ...) is left to the general path.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from codesign.formats import FloatFormat
from codesign.quantize.kernels.constants import STOCHASTIC, TOWARD_ZERO, format_constants, is_fast
from codesign.quantize.paths.layout import Constants


def round_dense(
    x: Any,
    out: Any,
    fmt: FloatFormat,
    mode: int,
    key: tuple[int, int],
    *,
    scaled: bool = False,
    axis: int | None = None,
) -> Any:
    """`x` rounded: `out`, or a new array where that is None. None, and nothing written, where that is not covered.

    scaled : by the smallest power of two at which nothing clips, of the whole array or of each channel of `axis`
    """
    if axis not in (None, 0) or not fmt.signed or not _is_dense(x, mode):
        return None
    size, (table, use_fast) = _size(x), _constants(fmt, mode)
    if size == 0 or (axis == 0 and not x.ndim) or (scaled and not (use_fast and fmt.max)):
        return None
    if out is None:
        out = _empty_like(x)
    elif out is not x and not _is_apart(x, out, mode):
        return None
    from codesign.quantize.kernels import rows as loops

    rows = 1 if axis is None else x.shape[0]
    done = loops.dense(mode, use_fast)(_address(x), _address(out), rows, size // rows, table, scaled, *key)
    return out if done else None


def _is_dense(x: Any, mode: int) -> bool:
    """Whether x is float32 on the CPU, as it lies in memory, without gaps, the first axis outermost, in C order where
    elements are counted."""
    if isinstance(x, np.ndarray):
        return x.dtype == np.float32 and x.flags.c_contiguous and x.flags.aligned and x.flags.writeable
    import torch

    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32 or not x.is_cpu or x.is_neg():
        return False
    return x.is_contiguous() or (mode != STOCHASTIC and x.is_contiguous(memory_format=torch.channels_last))


def _empty_like(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return np.empty_like(x)
    import torch

    return torch.empty_like(x)


def _is_apart(x: Any, out: Any, mode: int) -> bool:
    """Whether `out` is like x, and shares no memory with it."""
    alike = type(out) is type(x) and out.shape == x.shape and _is_dense(out, mode)
    if not alike or (out.strides != x.strides if isinstance(x, np.ndarray) else out.stride() != x.stride()):
        return False
    return abs(_address(out) - _address(x)) >= 4 * _size(x)


def _address(x: Any) -> int:
    address: int = x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x.data_ptr()
    return address


def _size(x: Any) -> int:
    size: int = x.size if isinstance(x, np.ndarray) else x.numel()
    return size


@functools.lru_cache(maxsize=4096)
def _constants(fmt: FloatFormat, mode: int) -> tuple[Constants, bool]:
    """Constants, and whether the fast formula serves."""
    constants = format_constants(fmt, mode != TOWARD_ZERO)
    return np.array(constants, np.uint32), is_fast(constants)
