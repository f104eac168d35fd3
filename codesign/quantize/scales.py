"""Scales that make the largest magnitude of a tensor, channel or block fit a format."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat, Rounding, as_member
from codesign.quantize.paths.layout import Floats
from codesign.quantize.rounding import (
    axis_of,
    channel_formats,
    check_kind,
    round_at_once,
    round_to_format,
    whole,
)

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
    fmt: FloatFormat | str | Sequence[FloatFormat],
    *,
    axis: int | None = None,
    block: int | None = None,
    rule: ScaleRule = ScaleRule.POWER_OF_TWO,
) -> Any:
    """The scale for `round_to_format(x, fmt, scale=...)`, of the kind of `x` (numpy or torch), in float32.

    fmt : one format, or one for each channel of `axis`
    Shape: () for a tensor; (channels of `axis`,); with `block` that of `x` with ceil(channels / block) on `axis`.
    Infinities and NaN are not counted. What is all zero has the scale 1 and so stays zero; where nothing is finite that
    is an error, as it is if `fmt` has no value but zero. No scale is below 2^-126: magnitudes below `fmt.max * 2^-126`
    keep fewer bits.
    """
    rule = as_member(ScaleRule, rule)
    check_kind(x)
    formats, shape = channel_formats(fmt), tuple(x.shape)
    for each in formats.distinct:
        if each.max == 0:
            raise FormatError(f"'{each}' has no value but zero, nothing can be scaled to it")
    if 0 in shape:
        raise ModelError(f"x of shape {shape} is empty, it has no largest magnitude")
    if axis is not None:
        axis = axis_of(shape, axis)
    if block is not None and (axis is None or whole("block", block) < 1):
        raise ModelError(f"block must be 1 or more and needs axis=, got block={block}, axis={axis}")
    if len(formats.chosen) > 1 and (axis is None or block is not None or len(formats.chosen) != shape[axis]):
        raise ModelError(
            f"{len(formats.chosen)} formats need axis= with as many channels, and no block=, got shape {shape}, "
            f"axis={axis}, block={block}"
        )
    top = np.array([each.max for each in formats.distinct])[formats.chosen]
    top = top if len(top) > 1 else top[0]
    if isinstance(x, np.ndarray):
        return _scale_of(_absmax(x, axis, block), top, rule)
    import torch

    absmax = _absmax_torch(x.detach(), axis, block)
    return torch.from_numpy(_scale_of(absmax, top, rule)).to(x.device)


def round_scaled(
    x: Any,
    fmt: FloatFormat | str | Sequence[FloatFormat],
    rounding: Rounding = Rounding.NEAREST_EVEN,
    *,
    axis: int | None = None,
    seed: int | None = None,
    step: int = 0,
    out: Any = None,
) -> Any:
    """`x` rounded with the power-of-two scale at which nothing clips, of the whole array or of each channel of `axis`.

    The same bits and errors as `round_to_format(x, fmt, rounding, scale=absmax_scale(x, fmt, axis=axis), axis=axis, ...)`,
    whose parameters these are; made for the many small tensors of a training step. A dense float32 array on the CPU,
    with `axis` 0 or None, costs one pass to find the largest magnitude, one to round, and some 5 microseconds.
    """
    if isinstance(fmt, FloatFormat | str):
        at_once = round_at_once(x, fmt, rounding, seed, step, out, scaled=True, axis=axis)
        if at_once is not None:
            return at_once
    scale = absmax_scale(x, fmt, axis=axis)
    return round_to_format(x, fmt, rounding, scale=scale, axis=axis, seed=seed, step=step, out=out)


def _scale_of(absmax: Any, top: Any, rule: ScaleRule) -> Floats:
    """absmax : float64 array, -1 where nothing was finite; top : the largest value, one or one for each"""
    if np.any(absmax < 0):
        place = tuple(int(i) for i in np.argwhere(absmax < 0)[0])
        where = f" at {place if len(place) > 1 else place[0]}" if place else ""
        raise ModelError(f"no finite number to scale{where}, only NaN or infinity; find out where they come from")
    mantissa, exponent = np.frexp(absmax)
    top_mantissa, top_exponent = np.frexp(top)
    match rule:
        case ScaleRule.REAL:
            scale = np.clip(absmax / top, _SMALLEST, float(np.finfo(np.float32).max))
        case ScaleRule.POWER_OF_TWO:
            scale = _power(exponent - top_exponent + (mantissa > top_mantissa))
        case ScaleRule.MICROSCALING:
            scale = _power(exponent - top_exponent)
        case _:
            assert_never(rule)
    return np.where(absmax == 0, 1.0, scale).astype(np.float32)


def _power(exponent: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    power: npt.NDArray[np.float64] = np.ldexp(1.0, np.clip(exponent, -126, 127))
    return power


def _absmax(x: npt.NDArray[Any], axis: int | None, block: int | None) -> npt.NDArray[np.float64]:
    """Largest finite magnitudes, -1 where there is none."""
    if block is None:
        others = _others(x.ndim, axis)
        absmax = np.maximum(x.max(axis=others), -x.min(axis=others))
    else:
        absmax = _largest(np.abs(x), axis, block)
    if not np.isfinite(absmax).all():  # rare: look again without them
        absmax = _largest(np.where(np.isfinite(x), np.abs(x), -1), axis, block)
    return np.asarray(absmax, dtype=np.float64)


def _largest(magnitude: npt.NDArray[Any], axis: int | None, block: int | None) -> npt.NDArray[Any]:
    if block is None or axis is None:
        return np.asarray(magnitude.max(axis=_others(magnitude.ndim, axis)))
    return np.maximum.reduceat(magnitude, np.arange(0, magnitude.shape[axis], block), axis=axis)


def _others(dimensions: int, axis: int | None) -> tuple[int, ...] | None:
    return None if axis is None else tuple(d for d in range(dimensions) if d != axis % dimensions)


def _absmax_torch(x: torch.Tensor, axis: int | None, block: int | None) -> npt.NDArray[np.float64]:
    """The same, on the tensor's own device; only the result leaves it."""
    import torch

    if block is not None and axis is not None:
        largest = torch.stack([part.abs().amax(axis) for part in torch.split(x, block, axis)], axis)
    elif axis is None:
        low, high = x.aminmax()
        largest = torch.maximum(high, -low)
    else:
        others = _others(x.ndim, axis)
        largest = torch.maximum(x.amax(others), -x.amin(others)) if others else x.abs()
    absmax = np.asarray(largest.double().cpu().numpy())
    if np.isfinite(absmax).all():
        return absmax
    finite = torch.where(x.isfinite(), x.abs(), -1).double().cpu().numpy()
    return _largest(finite, axis, block)
