"""Formats from the real distribution: the split into exponent and mantissa, and the clip, of least squared error.

    allocate(x, bits, axis=0)            for each channel, under the distribution that its numbers really have
    allocate(x, bits, method="e4-clip")  a conventional quantizer, chosen and judged by the same code
    compare(x, bits, axis=0)             all of them

Methods: `empirical` tries every split of the bits with every clip; the others are less.

    absmax                     every split, nothing clipped
    e2-absmax, e2-clip, ...    one split, nothing clipped, or the best clip; any number of exponent bits
    integer-absmax, -clip      sign and magnitude, as many steps on both sides
    gaussian, laplace          the split and the clip that are best for that distribution, fitted to the channel
    aciq, octav                integers with the clips of R. Banner et al. 2019 and C. Sakr et al. 2022 (arXiv 2206.06501)
    microscaling               blocks of 32 with one power-of-two scale: e2m1, e2m3, e4m3fn (OCP MX rev. 1.0)
    histogram                  `empirical` on a linear histogram instead of the numbers, as the method is usually published

E = 1 with M mantissa bits is the same grid as the integer of M + 1; it is tried once, as the integer.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError, did_you_mean
from codesign.formats import FloatFormat, Reserved, as_member
from codesign.quantize.candidates import (
    CLIPS,
    CLIPS_EACH_ABOVE,
    Clips,
    best_candidates,
    geometric_clips,
    power_of_two_clips,
    refined,
    up_to_powers,
)
from codesign.quantize.distributions import Distribution, aciq_clip, assumed_best
from codesign.quantize.paths.layout import Floats
from codesign.quantize.rounding import round_to_format
from codesign.quantize.scales import ScaleRule, absmax_scale

METHODS = (
    "empirical", "histogram", "absmax", "e2-absmax", "e2-clip", "e3-absmax", "e3-clip", "e4-absmax", "e4-clip",
    "integer-absmax", "integer-clip", "gaussian", "laplace", "aciq", "octav", "microscaling",
)  # fmt: skip
_ASSUMED = ("gaussian", "laplace", "aciq", "octav")
_OF_WIDTH = ("aciq", "octav")  # their clips follow from the width, not from the split
_BINS = 2048  # of the linear histogram
_MICROSCALING = {4: "e2m1", 6: "e2m3", 8: "e4m3fn"}
_FIXED = re.compile(r"e([0-9])-(absmax|clip)")


@dataclass(frozen=True, slots=False, kw_only=True)
class Allocation:
    """A format and a scale for each channel, and the error that they make.

    formats : one for each channel
    scale : float32, [channels]; with `block` one for each block, as `round_to_format` takes it
    mse, power : float64, [channels]: mean squared error and mean square of the numbers
    """

    method: str
    formats: tuple[FloatFormat, ...]
    scale: Floats
    mse: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]
    axis: int | None
    block: int | None = None

    @cached_property
    def clip(self) -> Floats:
        """Largest magnitude that is represented: [channels], or one for each block."""
        most = np.array([fmt.max for fmt in self.formats], dtype=np.float64)
        return (self.scale * (most if self.block is None else most[0])).astype(np.float32)

    @property
    def sqnr_db(self) -> npt.NDArray[np.float64]:
        """Signal to quantization noise ratio of each channel in dB; infinite where there is no error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.mse > 0, 10 * np.log10(self.power / self.mse), np.inf)

    @property
    def total_sqnr_db(self) -> float:
        """Signal to quantization noise ratio of the whole tensor in dB (channels have equally many numbers)."""
        noise = float(self.mse.sum())
        return 10 * math.log10(float(self.power.sum()) / noise) if noise > 0 else math.inf

    def round(self, x: Any) -> Any:
        """`x`, of the shape that was allocated for, rounded by `round_to_format` to these formats and scales."""
        if self.axis is None:
            return round_to_format(x, self.formats[0], scale=self.scale[0])
        formats = self.formats[0] if self.block is not None or len(set(self.formats)) == 1 else list(self.formats)
        return round_to_format(x, formats, scale=self.scale, axis=self.axis, block=self.block)


def splits(bits: int) -> tuple[FloatFormat, ...]:
    """Every format of `bits` bits that rounds to another grid: the integer, then E = 2, 3, ... 7; all codes are numbers."""
    if not 2 <= bits <= 16:
        raise FormatError(f"allocation covers 2 to 16 bits, got {bits}")
    return tuple(split(bits, e) for e in (0, *range(2, min(8, bits))))


@functools.lru_cache(maxsize=1024)
def split(bits: int, exponent_bits: int, reserved: Reserved = Reserved.NONE) -> FloatFormat:
    """The format of `bits` bits with so many of exponent; always the same object, which is fastest in a list."""
    return FloatFormat.of(exponent_bits, bits - 1 - exponent_bits, reserved=reserved)


def allocate(
    x: Any,
    bits: int | None = None,
    axis: int | None = 0,
    *,
    method: str = "empirical",
    formats: Sequence[FloatFormat] | None = None,
    scale: ScaleRule = ScaleRule.REAL,
    weights: npt.ArrayLike | None = None,
    assumed: bool = True,
    clips: int = CLIPS,
    allow_zeros: bool = False,
) -> Allocation:
    """Format and scale of each channel of `x` with the least mean squared error that `method` can choose.

    Exact: each candidate is applied to all numbers of the channel. 64 clips from the largest magnitude to 0.75 root mean
    squares and 16 up to twice the largest are tried with every format, then eight between the neighbours of its best; so are
    the clips of ACIQ, OCTAV and the assumed distributions, hence no other method of the same granularity is better.

    Parameters
    ----------
    x : float32, float64 or 16-bit numpy array or CPU tensor, any shape, finite
    bits : width of a number, 2 to 16
    axis : the channel axis; None: one format for the tensor
    formats : the candidates, instead of the splits of `bits`
    scale : REAL, or POWER_OF_TWO: the clip is then that power of two times the format's largest value
    weights : of the shape of `x`: how often each number occurs
    assumed : whether `empirical` also tries the clips of ACIQ, OCTAV and the assumed distributions
    clips : how many from the largest magnitude down are tried, 4 or more, and a quarter as many above it; 16 are hardly
        worse, as the best is refined
    allow_zeros : whether a channel may hold nothing but zeros; it gets the first format and scale 1

    Raises `ModelError` for NaN, infinity, and a channel of zeros, naming the channel.
    """
    channels, power = magnitudes_of(x, axis)
    if not allow_zeros:
        refuse_zeros(channels.max(1))
    scale = as_member(ScaleRule, scale)
    if clips < CLIPS_EACH_ABOVE:
        raise ModelError(f"clips must be {CLIPS_EACH_ABOVE} or more, got {clips}")
    if scale is ScaleRule.MICROSCALING:
        raise FormatError("scale must be real or power-of-two; method='microscaling' has the scale of its own")
    fixed = _FIXED.fullmatch(method)
    if method not in METHODS and not fixed:
        raise FormatError(f"unknown method '{method}'{did_you_mean(method, METHODS)}")
    if method == "microscaling":
        if weights is not None:
            raise FormatError("method 'microscaling' takes no weights; use 'empirical'")
        return _microscaling(x, bits, axis, channels, power)
    if formats is None:
        if bits is None:
            raise FormatError("bits= is missing; pass the width of a number, or formats=")
        formats = _candidates(method, bits, fixed)
    formats = tuple(formats)
    if weights is not None and method == "octav":
        raise FormatError("method 'octav' takes no weights; use 'empirical'")
    weight = None if weights is None else magnitudes_of(np.asarray(weights, dtype=np.float64), axis, np.float64)[0]
    if weight is not None:
        if weight.shape != channels.shape:
            raise ModelError(
                f"weights of shape {weight.shape} for numbers of shape {channels.shape}; pass one for each"
            )
        power = (weight * channels.astype(np.float64) ** 2).sum(1) / weight.sum(1)
    chosen, clip, error = _search(channels, weight, np.sqrt(power), formats, method, scale, assumed, clips)
    count = float(channels.shape[1]) if weight is None else weight.sum(1)
    most = np.array([fmt.max for fmt in formats])[chosen]
    return Allocation(
        method=method,
        formats=tuple(formats[f] for f in chosen),
        scale=np.where(clip > 0, np.maximum(clip / most, 2.0**-126), 1.0).astype(np.float32),
        mse=error / count,
        power=power,
        axis=axis,
    )


def refuse_zeros(largest: npt.NDArray[Any]) -> None:
    """Complain about the first channel whose largest magnitude is zero."""
    zero = np.flatnonzero(largest == 0)
    if zero.size:
        raise ModelError(
            f"channel {zero[0]} of x holds only zeros ({zero.size} of {len(largest)} channels do), no format fits it better "
            "than another; leave it out, or allow zeros"
        )


def compare(
    x: Any, bits: int, axis: int | None = 0, *, scale: ScaleRule = ScaleRule.REAL, allow_zeros: bool = False
) -> dict[str, Allocation]:
    """Every method of `METHODS` that exists at this width: no E4 below 5 bits, no microscaling at 5."""
    found = {}
    for method in METHODS:
        fixed = _FIXED.fullmatch(method)
        if (fixed and int(fixed[1]) > bits - 1) or (method == "microscaling" and bits not in _MICROSCALING):
            continue
        found[method] = allocate(x, bits, axis, method=method, scale=scale, allow_zeros=allow_zeros)
    return found


def _candidates(method: str, bits: int, fixed: re.Match[str] | None) -> tuple[FloatFormat, ...]:
    if method in ("integer-absmax", "integer-clip", "aciq", "octav"):
        return splits(bits)[:1]
    if fixed:
        exponent_bits = int(fixed[1])
        if not 0 <= exponent_bits <= min(7, bits - 1):
            raise FormatError(
                f"method '{method}': {exponent_bits} exponent bits and a sign do not fit into {bits} bits"
            )
        return (split(bits, exponent_bits),)
    return splits(bits)


def rows_of(x: Any, axis: int | None) -> npt.NDArray[Any]:
    """The numbers of an array or tensor as [channels, n], in their own dtype or float32."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if str(x.dtype) in ("torch.bfloat16", "torch.float16") else x).numpy()
    array: npt.NDArray[Any] = np.asarray(x)
    if array.dtype.kind != "f":
        raise ModelError(f"x must hold floating-point numbers, got {array.dtype}; convert it first")
    if array.size == 0:
        raise ModelError(f"x of shape {array.shape} is empty, it has no distribution")
    if axis is None:
        return array.reshape(1, -1)
    if not -array.ndim <= axis < array.ndim:
        raise ModelError(f"axis {axis} is out of range for shape {array.shape}; it counts from 0 to {array.ndim - 1}")
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def magnitudes_of(
    x: Any, axis: int | None, dtype: Any = np.float32
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Magnitudes as [channels, n], and the mean square of each channel."""
    magnitudes = np.abs(rows_of(x, axis)).astype(dtype, copy=False)
    power = np.einsum("ij,ij->i", magnitudes, magnitudes, dtype=np.float64) / magnitudes.shape[1]
    bad = np.flatnonzero(~np.isfinite(power))
    if bad.size:
        raise ModelError(f"channel {bad[0]} of x holds NaN, infinity or squares beyond float64; nothing fits it")
    return magnitudes, power


def _search(
    x: Floats,
    weights: npt.NDArray[np.float64] | None,
    deviation: npt.NDArray[np.float64],
    formats: tuple[FloatFormat, ...],
    method: str,
    scale: ScaleRule,
    assumed: bool,
    clips: int,
) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.float64]]:
    """Format number, clip and summed squared error of each channel."""
    absmax = x.max(1)
    tried = _clips(x, weights, absmax, deviation, formats, method, scale, assumed, clips)
    if method != "histogram":
        return best_candidates(x, weights, formats, tried)
    chosen, clip, _ = best_candidates(*_linear_histogram(x, weights, absmax), formats, tried)
    own = np.zeros((len(x), len(formats), 1), np.float32)  # what was chosen by the histogram is judged by the numbers
    own[np.arange(len(x)), chosen, 0] = clip
    return chosen, clip, best_candidates(x, weights, formats, Clips(own))[2]


def _clips(
    x: Floats,
    weights: npt.NDArray[np.float64] | None,
    absmax: Floats,
    deviation: npt.NDArray[np.float64],
    formats: tuple[FloatFormat, ...],
    method: str,
    scale: ScaleRule,
    assumed: bool,
    clips: int,
) -> Clips:
    """What the method tries."""
    largest = absmax.astype(np.float64)
    free = method in ("empirical", "histogram") or method.endswith("-clip")
    if free and scale is ScaleRule.POWER_OF_TWO:
        return Clips(power_of_two_clips(formats, largest, deviation))
    if method.endswith("absmax"):
        columns = np.repeat(largest[:, None, None], len(formats), axis=1)
    elif method in _ASSUMED:
        own, clip = _assumed_clip(x, weights, deviation, formats, method)
        columns = np.where(np.arange(len(formats)) == own, np.minimum(clip, largest)[:, None], 0)[:, :, None]
    else:
        columns = geometric_clips(largest, deviation, len(formats), clips)
    if not free:
        moved = up_to_powers(columns, formats) if scale is ScaleRule.POWER_OF_TWO else columns
        return Clips(np.ascontiguousarray(moved, dtype=np.float32))
    if assumed and weights is None and len({fmt.bits for fmt in formats}) == 1:
        extra = np.empty((len(x), len(formats), len(_ASSUMED)))
        for i, each in enumerate(_ASSUMED):
            if each in _OF_WIDTH:
                extra[:, :, i] = _assumed_clip(x, weights, deviation, formats, each)[1][:, None]
            else:  # with every format the clip that is best for it alone
                for f, fmt in enumerate(formats):
                    extra[:, f, i] = _assumed_clip(x, weights, deviation, (fmt,), each)[1]
        extra = np.minimum(extra, largest[:, None, None])
        columns = np.concatenate([columns, extra], axis=2)
    tried = np.ascontiguousarray(columns, dtype=np.float32)
    return Clips(tried) if method == "histogram" else refined(tried, largest, deviation, clips)


def _assumed_clip(
    x: Floats,
    weights: npt.NDArray[np.float64] | None,
    deviation: npt.NDArray[np.float64],
    formats: tuple[FloatFormat, ...],
    method: str,
) -> tuple[int, npt.NDArray[np.float64]]:
    """The format that the method chooses, and its clip of each channel."""
    bits = formats[0].bits
    if method == "aciq":
        mean = (
            x.mean(1, dtype=np.float64)
            if weights is None
            else np.average(x.astype(np.float64), axis=1, weights=weights)
        )
        return 0, aciq_clip(bits, deviation, mean)
    if method == "octav":
        return 0, _octav(x, deviation, bits)
    best, in_deviations = assumed_best(Distribution(method), formats)
    return best, in_deviations * deviation


def _octav(x: Floats, deviation: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.float64]:
    from codesign.quantize.kernels.fit import octav

    steps = (1 << (bits - 1)) - 1
    clip = np.empty(len(x), np.float32)
    octav(np.ascontiguousarray(x), x.shape[1], 1 / (12 * steps**2), deviation.astype(np.float32), clip)
    return clip.astype(np.float64)


def _linear_histogram(
    x: Floats, weights: npt.NDArray[np.float64] | None, absmax: Floats
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Middles and counts of equal bins from 0 to the largest magnitude of each channel."""
    width = np.where(absmax > 0, absmax, 1) / np.float32(_BINS)
    place = np.minimum((x / width[:, None]).astype(np.int64), _BINS - 1)
    flat = (place + np.arange(len(x))[:, None] * _BINS).ravel()
    counts = np.bincount(flat, None if weights is None else weights.ravel(), len(x) * _BINS)
    middles = (np.arange(_BINS, dtype=np.float32) + np.float32(0.5)) * width[:, None]
    return middles.astype(np.float32), counts.reshape(len(x), _BINS).astype(np.float64)


def _microscaling(
    x: Any, bits: int | None, axis: int | None, channels: Floats, power: npt.NDArray[np.float64]
) -> Allocation:
    """Blocks of 32 neighbours along the last axis, whatever the channel axis; the error is judged per channel."""
    if bits not in _MICROSCALING:
        raise FormatError(f"microscaling has no format of {bits} bits, only of {', '.join(map(str, _MICROSCALING))}")
    fmt = FloatFormat.parse(_MICROSCALING[bits])
    array = np.asarray(x.detach().cpu().float() if hasattr(x, "detach") else x, dtype=np.float32)
    along = array.ndim - 1
    scale = np.asarray(absmax_scale(array, fmt, axis=along, block=32, rule=ScaleRule.MICROSCALING))
    error = (round_to_format(array, fmt, scale=scale, axis=along, block=32).astype(np.float64) - array) ** 2
    rows = error.reshape(1, -1) if axis is None else np.moveaxis(error, axis, 0).reshape(error.shape[axis], -1)
    return Allocation(
        method="microscaling",
        formats=(fmt,) * len(channels),
        scale=scale,
        mse=rows.mean(1),
        power=power,
        axis=along,
        block=32,
    )
