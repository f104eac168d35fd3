"""Scales that make the largest magnitude of a tensor, channel or block fit a format."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat
from codesign.quantize.layout import Floats
from codesign.quantize.rounding import as_member

if TYPE_CHECKING:
    import torch

_SMALLEST = 2.0**-126  # the smallest normal float32


class ScaleRule(StrEnum):
    """How a scale follows from the largest magnitude, absmax."""

    REAL = "real"  # absmax / fmt.max: the largest magnitude becomes the largest value
    POWER_OF_TWO = "power-of-two"  # the smallest power of two that is no less: nothing is clipped
    MICROSCALING = "microscaling"  # 2^(floor(log2 absmax) - exponent of fmt.max): may clip; OCP MX rev. 1.0, 6.3


def absmax_scale(
    x: Any,
    fmt: FloatFormat | str,
    *,
    axis: int | None = None,
    block: int | None = None,
    rule: ScaleRule = ScaleRule.POWER_OF_TWO,
) -> Any:
    """The scale for `round_to_format(x, fmt, scale=...)`, of the kind of `x` (numpy or torch), in float32.

    Shape: () for a tensor; (channels of `axis`,); with `block` that of `x` with ceil(channels / block) on `axis`.
    Infinities and NaN are not counted. What is all zero has the scale 1 and so stays zero; where nothing is finite that
    is an error, as it is if `fmt` has no value but zero. No scale is below 2^-126: magnitudes below `fmt.max * 2^-126`
    keep fewer bits.
    """
    rule = as_member(ScaleRule, rule)
    fmt = FloatFormat.parse(fmt) if isinstance(fmt, str) else fmt
    if fmt.max == 0:
        raise FormatError(f"'{fmt}' has no value but zero, nothing can be scaled to it")
    shape = tuple(x.shape)
    if 0 in shape:
        raise ModelError(f"x of shape {shape} is empty, it has no largest magnitude")
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise ModelError(f"axis {axis} is out of range for shape {shape}; it counts from 0 to {len(shape) - 1}")
    if block is not None and (axis is None or block < 1):
        raise ModelError(f"block must be 1 or more and needs axis=, got block={block}, axis={axis}")
    if isinstance(x, np.ndarray):
        return _scale_of(_absmax(x, axis, block), fmt, rule)
    import torch

    absmax = _absmax_torch(x.detach(), axis, block) if x.device.type != "cpu" else _absmax(_as_numpy(x), axis, block)
    return torch.from_numpy(_scale_of(absmax, fmt, rule)).to(x.device)


def _scale_of(absmax: Any, fmt: FloatFormat, rule: ScaleRule) -> Floats:
    """absmax : float64 array, -1 where nothing was finite"""
    if np.any(absmax < 0):
        place = tuple(int(i) for i in np.argwhere(absmax < 0)[0])
        where = f" at {place if len(place) > 1 else place[0]}" if place else ""
        raise ModelError(f"no finite number to scale{where}, only NaN or infinity; find out where they come from")
    if rule is ScaleRule.REAL:
        scale = np.clip(absmax / fmt.max, _SMALLEST, float(np.finfo(np.float32).max))
    else:
        mantissa, exponent = np.frexp(absmax)
        top_mantissa, top_exponent = np.frexp(fmt.max)
        exponent = exponent - top_exponent
        if rule is ScaleRule.POWER_OF_TWO:
            exponent += mantissa > top_mantissa
        scale = np.ldexp(1.0, np.clip(exponent, -126, 127))
    return np.where(absmax == 0, 1.0, scale).astype(np.float32)


def _as_numpy(x: torch.Tensor) -> npt.NDArray[Any]:
    x = x.detach()
    return (x if x.dtype.itemsize > 2 else x.float()).numpy()


def _absmax(x: npt.NDArray[Any], axis: int | None, block: int | None) -> npt.NDArray[np.float64]:
    """Largest finite magnitudes, -1 where there is none."""
    if block is not None and axis is not None:
        starts = np.arange(0, x.shape[axis], block)
        largest = np.maximum.reduceat(np.abs(x), starts, axis=axis)
    else:
        others = None if axis is None else tuple(d for d in range(x.ndim) if d != axis % x.ndim)
        largest = np.maximum(x.max(axis=others), -x.min(axis=others))
    if not np.isfinite(largest).all():  # rare: look again without them
        finite = np.where(np.isfinite(x), np.abs(x), -1)
        if block is not None and axis is not None:
            largest = np.maximum.reduceat(finite, starts, axis=axis)
        else:
            largest = finite.max(axis=others)
    return np.asarray(largest, dtype=np.float64)


def _absmax_torch(x: torch.Tensor, axis: int | None, block: int | None) -> npt.NDArray[np.float64]:
    """The same on the tensor's own device; only the result leaves it."""
    import torch

    finite = torch.where(x.isfinite(), x.abs(), -1)
    if block is not None and axis is not None:
        finite = torch.stack([part.amax(axis) for part in finite.split(block, axis)], axis)
    elif axis is not None:
        finite = finite.movedim(axis, 0).flatten(1).amax(1) if x.ndim > 1 else finite
    else:
        finite = finite.amax()
    return np.asarray(finite.double().cpu().numpy())
