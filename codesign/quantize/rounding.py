"""`round_to_format`: the values of a format nearest to an array's, for numpy and torch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat, Rounding, as_format, as_member
from codesign.quantize.kernels.constants import MODES, STOCHASTIC
from codesign.quantize.paths.dense import round_dense
from codesign.quantize.paths.layout import ChannelFormats, Floats, RoundingJob, round_array, spread_scale

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", npt.NDArray[Any], torch.Tensor)

_FLOATS = ("float32", "float64", "bfloat16", "float16")


def round_to_format(
    x: Array,
    fmt: FloatFormat | str | Sequence[FloatFormat],
    rounding: Rounding = Rounding.NEAREST_EVEN,
    *,
    scale: Any = None,
    axis: int | None = None,
    block: int | None = None,
    seed: int | None = None,
    step: int = 0,
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Round every element of `x` to a value of `fmt`, times its scale: `scale * round(x / scale)`.

    The policies of `fmt` say what becomes of the ends; by default magnitudes above `fmt.max`, infinity included,
    saturate to it, NaN stays NaN (some NaN), subnormals are kept, and so is the sign of zero (fnuz formats have none).
    `e8m0` makes zero 2^-127 and anything negative NaN. An empty array stays empty.

    Parameters
    ----------
    x : float32, float64, bfloat16 or float16; numpy or torch; any shape, contiguous or strided. Rounded once, from its
        own precision, and returned in it. Of a tensor that requires a gradient the result is detached.
    fmt : one format, or one for each channel of `axis`; fastest where it is the same tuple at every call
    scale : positive; a number, shape (channels of `axis`,), or with `block` the shape of `x` with
        ceil(channels / block) on `axis`. Division and product are one float32 (float64) operation each, so that powers
        of two are exact unless they leave the range. 16-bit `x` take powers of two only.
    axis : the channel axis of `scale` and `fmt`, or the one that `block` counts along
    block : neighbours on `axis` that share a scale (32 in the microscaling formats); the last block may be shorter
    seed, step : required by, and only used by, `Rounding.STOCHASTIC`: the random bits are a function of seed, step and
        the element's index in C order (modulo 2^32), the same on any device and with any number of threads. Use one
        seed for each tensor and one step for each call. Probabilities are exact to 2^(M - 23) of a step of the format.
    out : where to write, same shape, dtype and device; may be `x` itself
    threads : of the CPU; results do not depend on it

    Where the processor flushes subnormal numbers (`torch.set_flush_denormal`) this holds for formats with steps from
    2^-125 on, and for those with bias 127, whose numbers are rounded as integers.
    """
    if scale is block is axis is None and threads == 1 and isinstance(fmt, FloatFormat | str):
        at_once = round_at_once(x, fmt, rounding, seed, step, out)
        if at_once is not None:
            return at_once
    check_kind(x)
    formats = channel_formats(fmt)
    rounding = as_member(Rounding, rounding)
    dtype = str(x.dtype).removeprefix("torch.")
    _check_array(x, out, dtype)
    shape = tuple(x.shape)
    values = None if scale is None else np.asarray(_on_cpu(scale), dtype=np.float32)
    axis = _axis(axis, shape, formats, values, block)
    job = RoundingJob(
        rounding=rounding,
        formats=formats,
        scale=_scale(values, shape, axis, block),
        axis=axis,
        block=block,
        key=stochastic_key(rounding, seed, step),
        threads=whole("threads", threads, 1),
    )
    _check_precision(job, dtype)
    if isinstance(x, np.ndarray):
        result = np.empty_like(x) if out is None else out
        _round_numpy(x, result, job)
        return result
    return _round_torch(x, out, job)


def round_at_once(
    x: Array,
    fmt: FloatFormat | str,
    rounding: Rounding,
    seed: int | None,
    step: int,
    out: Array | None,
    *,
    scaled: bool = False,
    axis: int | None = None,
) -> Array | None:
    """By the fast path of dense.py; None if it does not cover the call, or if there may be something to complain about."""
    mode = MODES.get(rounding)
    if mode is None or (mode == STOCHASTIC and seed is None):
        return None
    key = stochastic_key(rounding, seed, step)
    rounded: Array | None = round_dense(x, out, as_format(fmt), mode, key, scaled=scaled, axis=axis)
    return rounded


def _round_torch(x: torch.Tensor, out: torch.Tensor | None, job: RoundingJob) -> torch.Tensor:
    import torch

    x = x.detach().resolve_neg()
    result = torch.empty_like(x) if out is None else out
    if x.device.type != "cpu":
        from codesign.quantize.paths.integer import round_tensor

        result.detach().copy_(round_tensor(x, job))
    elif x.dtype in (torch.float32, torch.float64):
        _round_numpy(x.numpy(), result.detach().numpy(), job)
    else:
        wide = x.float()
        _round_numpy(wide.numpy(), wide.numpy(), job)
        result.detach().copy_(wide)
    return result


def _round_numpy(x: npt.NDArray[Any], y: npt.NDArray[Any], job: RoundingJob) -> None:
    """Round x into y, of the same shape and dtype, on the CPU."""
    if x.size == 0:
        return
    ragged = job.block is not None and x.shape[job.axis] % job.block != 0
    if x.dtype == np.float32 and not ragged and job.formats.signed:
        same = x.ctypes.data == y.ctypes.data and x.strides == y.strides
        round_array(x.copy() if not same and np.may_share_memory(x, y) else x, y, job)
        return
    with np.errstate(all="ignore"):  # the ends are the business of the format
        scale = spread_scale(job, x.shape)
        wide: npt.NDArray[Any] = x if x.dtype == np.float64 else np.array(x, dtype=np.float32, order="C")
        if scale is not None:
            wide = wide / scale.astype(wide.dtype)
        narrow = _to_odd_float32(wide) if wide.dtype == np.float64 else np.ascontiguousarray(wide)
        plain = replace(job, scale=None, block=None)
        if job.formats.signed:
            round_array(narrow, narrow, plain)
        else:
            _round_to_powers(narrow, plain)
        y[...] = narrow.astype(wide.dtype) * scale if scale is not None else narrow


def _to_odd_float32(x: npt.NDArray[np.float64]) -> Floats:
    """x in float32, where inexact to the neighbour with an odd last bit, so that a later rounding is right as from x.

    Source: S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Comput. 57(4), 2008.
    Right for at most 21 mantissa bits.
    """
    nearest = np.array(x, dtype=np.float32, order="C")
    bits = nearest.view(np.uint32)
    magnitude = np.abs(nearest, dtype=np.float64)
    bits -= magnitude > np.abs(x)  # toward zero; from infinity to the largest number
    bits |= nearest.astype(np.float64) != x
    nearest[np.isnan(x)] = np.nan
    return nearest


def _round_to_powers(x: Floats, job: RoundingJob) -> None:
    """Round a C-contiguous array in place to the unsigned e8m0."""
    from codesign.quantize.kernels import rows as loops

    bits = x.reshape(-1).view(np.uint32)
    loops.to_equal_binades(bits)
    round_array(x, x, job)
    loops.from_equal_binades(bits)


def channel_formats(fmt: FloatFormat | str | Sequence[FloatFormat]) -> ChannelFormats:
    """One format, or one for each channel."""
    if isinstance(fmt, str):
        return ChannelFormats.of((FloatFormat.parse(fmt),))
    if isinstance(fmt, FloatFormat):
        return ChannelFormats.of((fmt,))
    if not isinstance(fmt, list | tuple) or not fmt:
        raise FormatError(
            f"fmt must be a FloatFormat, its name, or a list of a FloatFormat for each channel, got {str(fmt)[:60]!r}"
        )
    formats = ChannelFormats.of(fmt)
    if len(formats.distinct) > 1 and not all(each.signed for each in formats.distinct):
        raise FormatError("the unsigned e8m0 cannot be mixed with other formats; round its channels apart")
    return formats


def stochastic_key(rounding: Rounding, seed: int | None, step: int) -> tuple[int, int]:
    """64 well mixed bits of seed and step.

    Source: the finaliser of G. Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014
    (SplitMix64), once for each number.
    """
    if rounding != Rounding.STOCHASTIC:
        return 0, 0
    if seed is None:
        raise FormatError("stochastic rounding needs a seed; pass seed=, and a new step= with every call")
    z, ones = 0, (1 << 64) - 1
    for number in (whole("seed", seed), whole("step", step)):
        z = z + number + 0x9E3779B97F4A7C15 & ones
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & ones
        z = (z ^ z >> 27) * 0x94D049BB133111EB & ones
        z ^= z >> 31
    return z & 0xFFFFFFFF, z >> 32


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ModelError(f"{name} must be a whole number, got {value!r}") from None
    if least is not None and number < least:
        raise ModelError(f"{name} must be {least} or more, got {number}")
    return number


def check_kind(x: Any, name: str = "x") -> None:
    """Refuse what is neither a numpy array nor a tensor."""
    if not isinstance(x, np.ndarray) and not hasattr(x, "detach"):
        raise ModelError(f"{name} must be a numpy array or a torch tensor, got {type(x).__name__}; use np.asarray")


def _check_array(x: Any, out: Any, dtype: str) -> None:
    if dtype not in _FLOATS:
        raise ModelError(f"x must be float32, float64, bfloat16 or float16, got {dtype}; convert it first")
    if out is not None and (type(out) is not type(x) or out.shape != x.shape or out.dtype != x.dtype):
        got = f"{type(out).__name__} {tuple(out.shape)} {out.dtype}"
        raise ModelError(f"out must be like x, {type(x).__name__} {tuple(x.shape)} {x.dtype}, got {got}")
    if out is not None and (not out.flags.writeable if isinstance(out, np.ndarray) else out.device != x.device):
        raise ModelError("out must be writeable and on the device of x; pass another array")


def _check_precision(job: RoundingJob, dtype: str) -> None:
    """Refuse what would be rounded twice."""
    for fmt in job.formats.distinct:
        if dtype == "float64" and fmt.mantissa_bits > 21:
            raise FormatError(f"float64 is rounded to at most 21 mantissa bits, not to '{fmt}'; convert x to float32")
        if dtype in ("bfloat16", "float16"):
            own = FloatFormat.parse(dtype)
            if fmt.mantissa_bits > own.mantissa_bits or fmt.max > own.max or fmt.quantum < own.quantum:
                raise FormatError(f"the values of '{fmt}' do not all fit {dtype}; convert x to float32")
        if not fmt.signed and job.scale is not None:
            raise FormatError("e8m0 is itself a scale and takes none; divide x first")
    if dtype in ("bfloat16", "float16") and job.scale is not None and np.any(np.frexp(job.scale)[0] != 0.5):
        raise FormatError(f"a scale of {dtype} must be a power of two; convert x to float32 for any other")


def _on_cpu(scale: Any) -> Any:
    return scale.detach().cpu() if hasattr(scale, "detach") else scale


def axis_of(shape: tuple[int, ...], axis: int) -> int:
    """The axis, counted from 0."""
    if not -len(shape) <= whole("axis", axis) < len(shape):
        raise ModelError(f"axis {axis} is out of range for shape {shape}; it counts from 0 to {len(shape) - 1}")
    return axis % len(shape)


def _axis(
    axis: int | None, shape: tuple[int, ...], formats: ChannelFormats, scale: Floats | None, block: int | None
) -> int:
    """The axis as a number from 0 on; 0 where none is needed."""
    if axis is None:
        if len(formats.chosen) > 1 or block is not None or (scale is not None and scale.size > 1):
            raise ModelError("formats, scales or blocks of channels need axis=; pass the channel axis")
        return 0
    axis = axis_of(shape, axis)
    if len(formats.chosen) not in (1, shape[axis]):
        raise ModelError(
            f"{len(formats.chosen)} formats for {shape[axis]} channels (axis {axis} of {shape}); pass one for each"
        )
    if block is not None and whole("block", block, 1) and len(formats.chosen) > 1:
        raise ModelError("blocks share one format; pass a single format with block=")
    return axis


def _scale(values: Floats | None, shape: tuple[int, ...], axis: int, block: int | None) -> Floats | None:
    """The scale as a float32 array of a shape that `RoundingJob` allows."""
    if values is None:
        if block is not None:
            raise ModelError("block= needs scale=; for example absmax_scale(x, fmt, axis=axis, block=block)")
        return None
    if block is not None:
        expected = tuple(-(-size // block) if d == axis else size for d, size in enumerate(shape))
        if values.shape != expected:
            raise ModelError(
                f"scale of blocks of {block} along axis {axis} must have shape {expected}, got {values.shape}"
            )
    elif values.size == 1:
        values = values.reshape(1)
    elif not shape or values.shape != (shape[axis],):
        channels = shape[axis] if shape else 1
        raise ModelError(f"scale must be a number or have shape ({channels},) for axis {axis}, got {values.shape}")
    good = (values > 0) & np.isfinite(values)
    if not good.all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        where = f" at {place if len(place) > 1 else place[0]}" if values.size > 1 else ""
        raise FormatError(f"scale must be positive and finite in float32, got {values[place]:g}{where}")
    return values
