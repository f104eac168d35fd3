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
from codesign.quantize.distributions import Distribution, aciq_clip, assumed_best
from codesign.quantize.layout import Floats
from codesign.quantize.moments import Moments
from codesign.quantize.rounding import round_to_format
from codesign.quantize.scales import ScaleRule, absmax_scale

METHODS = (
    "empirical", "histogram", "absmax", "e2-absmax", "e2-clip", "e3-absmax", "e3-clip", "e4-absmax", "e4-clip",
    "integer-absmax", "integer-clip", "gaussian", "laplace", "aciq", "octav", "microscaling",
)  # fmt: skip
_ASSUMED = ("gaussian", "laplace", "aciq", "octav")
_OF_WIDTH = ("aciq", "octav")  # their clips follow from the width, not from the split
_CLIPS = 64  # in geometric steps from the largest magnitude down to
_ABOVE = 4  # a quarter as many above it, up to twice: numbers may be better off in a lower binade, with finer spacing
_LEAST_CLIP = 0.75  # root mean squares; three levels of a Gaussian clip at 1.2, more levels higher
_REFINE = 4  # looks to both sides of the best clip, each half as far as the one before
_BINS = 2048  # of the linear histogram
_MICROSCALING = {4: "e2m1", 6: "e2m3", 8: "e4m3fn"}
_FLOOR_EXPONENT = -100  # relative to the largest value; steps below are finer than float32 can tell
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
    clips: int = _CLIPS,
    allow_zeros: bool = False,
    inputs: Moments | None = None,
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
    inputs : moments of what a layer with these weights reads; `empirical` then has the least error of its outputs instead,
        and no other method of the same granularity has less

    Raises `ModelError` for NaN, infinity, and a channel of zeros, naming the channel.
    """
    channels, power = magnitudes_of(x, axis)
    if not allow_zeros:
        refuse_zeros(channels.max(1))
    scale = as_member(ScaleRule, scale)
    if inputs is not None:
        return _by_outputs(x, bits, axis, method, formats, scale, weights, allow_zeros, inputs)
    if clips < _ABOVE:
        raise ModelError(f"clips must be {_ABOVE} or more, got {clips}")
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


def _by_outputs(
    x: Any,
    bits: int | None,
    axis: int | None,
    method: str,
    formats: Sequence[FloatFormat] | None,
    scale: ScaleRule,
    weights: npt.ArrayLike | None,
    allow_zeros: bool,
    inputs: Moments,
) -> Allocation:
    """The choice of least output error."""
    from codesign.quantize.output_error import Candidates, fit_of

    if axis != 0 or method != "empirical" or weights is not None or formats is not None or bits is None:
        raise FormatError("inputs= goes with bits=, axis 0 and method 'empirical'; leave out weights= and formats=")
    problem = inputs.problem(rows_of(x, 0).astype(np.float32))
    found = compare(x, bits, scale=scale, allow_zeros=allow_zeros)
    choices = [each for each in found.values() if each.block is None]
    known = Candidates.of(problem, choices, refine=scale is ScaleRule.REAL)
    best = known.best()
    chosen, scales = tuple(known.formats[f] for f in best.tolist()), known.scale[np.arange(len(best)), best]
    values = round_to_format(problem.weights, list(chosen), scale=scales, axis=0)
    return fit_of(x, values, chosen, scales, problem).allocation


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
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise ModelError(f"x must hold floating-point numbers, got {x.dtype}; convert it first")
    if x.size == 0:
        raise ModelError(f"x of shape {x.shape} is empty, it has no distribution")
    if axis is None:
        return x.reshape(1, -1)
    if not -x.ndim <= axis < x.ndim:
        raise ModelError(f"axis {axis} is out of range for shape {x.shape}; it counts from 0 to {x.ndim - 1}")
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


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
    from codesign.quantize.fit import fit

    channels = len(x)
    words = [scaled_words(fmt) for fmt in formats]
    table = [np.array([word[i] for word in words], kind) for i, kind in enumerate((np.float32, np.uint32, np.uint32))]
    absmax = x.max(1)
    tried, refine, step = _clips(x, weights, absmax, deviation, formats, method, scale, assumed, clips)
    searched, weight = _linear_histogram(x, weights, absmax) if method == "histogram" else (x, weights)
    chosen, clip, error = np.zeros(channels, np.int64), np.zeros(channels, np.float32), np.zeros(channels)
    fit(_blocks(searched), _blocks(weight, channels), *table, tried, refine, step, chosen, clip, error)
    zero = absmax == 0
    chosen[zero], clip[zero], error[zero] = 0, 0, 0
    if method == "histogram":  # what was chosen by the histogram is judged by the numbers
        own = np.zeros((channels, len(formats), 1), np.float32)
        own[np.arange(channels), chosen, 0] = clip
        fit(_blocks(x), _blocks(weights, channels), *table, own, 0, 1, chosen, clip, error)
        error[zero] = 0
    return chosen, clip, error


def _blocks(values: npt.NDArray[Any] | None, channels: int = 0) -> npt.NDArray[Any]:
    """[channels, n] as [channels, blocks, numbers], padded with zeros; nothing as [channels, 0, 0]."""
    from codesign.quantize.fit import BLOCK, LANES

    if values is None:
        return np.zeros((channels, 0, 0))
    n = values.shape[1]
    blocks = -(-n // BLOCK)
    width = -(-n // (blocks * LANES)) * LANES  # equal blocks, so that little is padding
    padded = np.pad(values, ((0, 0), (0, -n % width))) if n % width else values
    return np.ascontiguousarray(padded).reshape(len(values), -1, width)


def check_candidate(fmt: FloatFormat) -> None:
    """Refuse a format that the search cannot treat."""
    if fmt.max == 0 or not fmt.signed or (fmt.min_subnormal is None and fmt.mantissa_bits > 0):
        raise FormatError(f"'{fmt}' cannot be allocated: it needs a sign, subnormal numbers and a value besides zero")


def top_exponent(fmt: FloatFormat) -> int:
    """Exponent of the largest binade."""
    return math.frexp(fmt.max)[1] - 1


def scaled_words(fmt: FloatFormat) -> tuple[float, int, int]:
    """The format with its largest binade at [1, 2), as `fit` takes it: largest value, smallest exponent, missing bits."""
    check_candidate(fmt)
    top = top_exponent(fmt)
    floor = max(fmt.min_exponent - top, _FLOOR_EXPONENT)
    return fmt.max / 2.0**top, floor + 127 << 23, 23 - fmt.mantissa_bits << 23


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
) -> tuple[Floats, int, float]:
    """[channels, formats, candidates] clips, 0 where there is none; rounds of refinement and their first step."""
    largest = absmax.astype(np.float64)
    lowest = np.minimum(_LEAST_CLIP * deviation, largest)
    if method.endswith("absmax"):
        columns = largest[:, None, None]
    elif method in _ASSUMED:
        own, clip = _assumed_clip(x, weights, deviation, formats, method)
        columns = np.where(np.arange(len(formats)) == own, np.minimum(clip, largest)[:, None], 0)[:, :, None]
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(largest > 0, lowest / largest, 1.0)
        below = largest[:, None] * ratio[:, None] ** (np.arange(clips) / (clips - 1))
        above = largest[:, None] * np.exp2(np.arange(1, clips // _ABOVE + 1) / (clips // _ABOVE))
        columns = np.concatenate([below, above], axis=1)[:, None, :]
    columns = np.broadcast_to(columns, (len(x), len(formats), columns.shape[2]))
    free = method in ("empirical", "histogram") or method.endswith("-clip")
    if scale is ScaleRule.POWER_OF_TWO:
        return power_of_two_clips(formats, largest, deviation) if free else _up_to_powers(columns, formats), 0, 1.0
    if free and assumed and weights is None and len({fmt.bits for fmt in formats}) == 1:
        extra = np.empty((len(x), len(formats), len(_ASSUMED)))
        for i, each in enumerate(_ASSUMED):
            if each in _OF_WIDTH:
                extra[:, :, i] = _assumed_clip(x, weights, deviation, formats, each)[1][:, None]
            else:  # with every format the clip that is best for it alone
                for f, fmt in enumerate(formats):
                    extra[:, f, i] = _assumed_clip(x, weights, deviation, (fmt,), each)[1]
        extra = np.minimum(extra, largest[:, None, None])
        columns = np.concatenate([columns, extra], axis=2)
    refined = method == "empirical" or method.endswith("-clip")
    step = float(np.max((largest / np.maximum(lowest, 1e-300)) ** (0.5 / (clips - 1)), initial=1.0))
    return np.ascontiguousarray(columns, dtype=np.float32), _REFINE if refined else 0, min(step, 2.0)


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
    from codesign.quantize.fit import octav

    steps = (1 << (bits - 1)) - 1
    clip = np.empty(len(x), np.float32)
    octav(np.ascontiguousarray(x), x.shape[1], 1 / (12 * steps**2), deviation.astype(np.float32), clip)
    return clip.astype(np.float64)


def power_of_two_clips(
    formats: Sequence[FloatFormat], largest: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64]
) -> Floats:
    """[channels, formats, candidates]: every power of two times the format's largest value that is worth a try."""
    most = np.array([fmt.max for fmt in formats])
    lowest = np.minimum(_LEAST_CLIP * deviation, largest)
    any_number = largest > 0
    first = np.floor(np.log2(np.where(any_number, lowest, 1)[:, None] / most))
    last = np.ceil(np.log2(np.where(any_number, largest, 1)[:, None] / most)) + 1
    exponents = last[:, :, None] - np.arange(int((last - first).max(initial=0)) + 1)
    clips = np.where(exponents >= first[:, :, None], np.exp2(exponents) * most[:, None], 0)
    return np.ascontiguousarray(np.where(any_number[:, None, None], clips, 0), np.float32)


def _up_to_powers(columns: npt.NDArray[np.float64], formats: Sequence[FloatFormat]) -> Floats:
    """Clips as given, each moved up to the next whose scale is a power of two."""
    most = np.array([fmt.max for fmt in formats])[:, None]
    exponents = np.ceil(np.log2(np.where(columns > 0, columns, 1) / most))
    return np.ascontiguousarray(np.where(columns > 0, np.exp2(exponents) * most, 0), np.float32)


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
