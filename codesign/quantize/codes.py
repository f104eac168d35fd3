"""Arrays of values as arrays of codes, and codes as dense bits."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat, as_format

if TYPE_CHECKING:
    import torch

_TABLE_BITS = 16  # formats up to here are decoded by a table of all their codes, 256 kB at most
_AT_ONCE = 1 << 16  # codes taken apart into bits at a time, a multiple of 8


def encode(x: Any, fmt: FloatFormat | str) -> npt.NDArray[Any]:
    """The codes of values of `fmt`: uint8, uint16 or uint32, the narrowest that holds `fmt.bits`, shape of `x`.

    `x` is float32 or float64, numpy or torch, and is not rounded: a number that is not a value of the format is an
    error, and so is NaN where the format has no code for it. Minus zero becomes zero in fnuz formats.
    """
    fmt = as_format(fmt)
    values = np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
    magnitude = np.abs(values).astype(np.float64)
    top = (1 << (fmt.exponent_bits + fmt.mantissa_bits)) - 1
    with np.errstate(invalid="ignore"):
        exponent = np.maximum(np.frexp(magnitude)[1] - 1, fmt.min_exponent)
        exponent = np.where((magnitude == 0) | ~np.isfinite(magnitude), fmt.min_exponent, exponent)
        steps = np.ldexp(magnitude, fmt.mantissa_bits - exponent)
        whole = np.where(np.isfinite(steps), steps, 0).astype(np.int64)
    codes = whole + ((exponent.astype(np.int64) - fmt.min_exponent) << fmt.mantissa_bits) - (not fmt.signed)
    valid = (whole == steps) & (codes >= 0) & (codes <= fmt.encode(fmt.max))
    valid &= (magnitude == 0) | (magnitude >= fmt.flushed_below)
    if fmt.has_infinity:
        infinite = np.isinf(magnitude)
        codes, valid = np.where(infinite, fmt.encode(math.inf), codes), valid | infinite
    if fmt.signed:
        negative = np.signbit(values)
        if not fmt.has_minus_zero:
            negative &= codes != 0
        codes = codes + negative * (top + 1)
    else:
        valid &= ~(values < 0)
    if fmt.has_nan:
        missing = np.isnan(values)
        codes, valid = np.where(missing, fmt.encode(math.nan), codes), valid | missing
    if not valid.all():
        place = tuple(int(i) for i in np.argwhere(~valid)[0])
        raise FormatError(
            f"x{list(place)} = {float(values[place])!r} is not a value of '{fmt}'; round it first, by round_to_format"
        )
    return codes.astype(np.min_scalar_type((1 << fmt.bits) - 1))


def decode(codes: npt.NDArray[Any], fmt: FloatFormat | str) -> npt.NDArray[np.float32]:
    """The float32 values of codes, integers of `fmt.bits` bits; the inverse of `encode`."""
    fmt = as_format(fmt)
    codes = _checked(codes, fmt)
    return _table(fmt)[codes] if fmt.bits <= _TABLE_BITS else _values(codes.astype(np.int64), fmt)


def _checked(codes: npt.NDArray[Any], fmt: FloatFormat) -> npt.NDArray[Any]:
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise ModelError(f"codes must be integers, got {codes.dtype}")
    if codes.size and (codes.min() < 0 or codes.max() >> fmt.bits):
        raise FormatError(f"codes of '{fmt}' run from 0 to {(1 << fmt.bits) - 1}, got {codes.min()} to {codes.max()}")
    return codes


@functools.lru_cache(maxsize=64)
def _table(fmt: FloatFormat) -> npt.NDArray[np.float32]:
    return _values(np.arange(1 << fmt.bits), fmt)


def _values(code: npt.NDArray[np.int64], fmt: FloatFormat) -> npt.NDArray[np.float32]:
    width = fmt.exponent_bits + fmt.mantissa_bits
    magnitude, negative = code & ((1 << width) - 1), (code >> width).astype(bool)
    field, mantissa = magnitude >> fmt.mantissa_bits, magnitude & ((1 << fmt.mantissa_bits) - 1)
    hidden = (field > 0) | (not fmt.signed)
    exponent = np.maximum(field, int(fmt.signed)) - fmt.bias - fmt.mantissa_bits
    values = np.ldexp((mantissa + (hidden.astype(np.int64) << fmt.mantissa_bits)).astype(np.float64), exponent)
    top = fmt.encode(fmt.max)
    values[magnitude > top] = np.nan
    if fmt.has_infinity:
        values[magnitude == top + 1] = np.inf
    values = np.where(negative, -values, values)
    if fmt.signed and not fmt.has_minus_zero:  # whose code is NaN
        values[negative & (magnitude == 0)] = np.nan
    narrow: npt.NDArray[np.float32] = values.astype(np.float32)
    return narrow


def pack(codes: npt.NDArray[Any], fmt: FloatFormat | str) -> npt.NDArray[np.uint8]:
    """Codes as dense bits: code i takes the bits i * fmt.bits ... of a little-endian stream, flat in C order.

    Shape: (ceil(codes.size * fmt.bits / 8),). Bits after the last code are 0.
    """
    fmt = as_format(fmt)
    flat = np.ascontiguousarray(_checked(codes, fmt)).reshape(-1)
    places = np.arange(fmt.bits)
    parts = [
        np.packbits((part[:, None] >> places).astype(np.uint8) & 1, bitorder="little")
        for part in (flat[start : start + _AT_ONCE].astype(np.uint32) for start in range(0, flat.size, _AT_ONCE))
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def unpack(packed: npt.NDArray[np.uint8], fmt: FloatFormat | str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The codes that `pack` made dense, in the dtype of `encode`."""
    fmt, count = as_format(fmt), math.prod(shape)
    needed = -(-count * fmt.bits // 8)
    if packed.dtype != np.uint8 or packed.shape != (needed,):
        raise ModelError(
            f"{count} codes of '{fmt}' are packed in uint8 of shape ({needed},), got {packed.dtype} {packed.shape}"
        )
    codes = np.empty(count, dtype=np.min_scalar_type((1 << fmt.bits) - 1))
    bytes_at_once = _AT_ONCE // 8 * fmt.bits
    for start in range(0, count, _AT_ONCE):
        part = codes[start : start + _AT_ONCE]
        first = start // _AT_ONCE * bytes_at_once
        bits = np.unpackbits(packed[first : first + bytes_at_once], count=part.size * fmt.bits, bitorder="little")
        weights = np.uint32(1) << np.arange(fmt.bits, dtype=np.uint32)
        part[:] = bits.reshape(-1, fmt.bits) @ weights
    return codes.reshape(shape)


def numpy_dtype(fmt: FloatFormat | str) -> np.dtype[Any]:
    """The numpy or ml_dtypes dtype with the codes of `fmt`, so that `encode(x, fmt).view(dtype)` has its values."""
    fmt = as_format(fmt)
    name = fmt.dtype_name
    if name is None:
        raise FormatError(f"no numpy dtype has the codes of '{fmt}'; keep them as integers")
    if name in ("float32", "float16"):
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError as error:
        raise FormatError(f"the dtype {name} comes with ml_dtypes; install it by `pip install ml_dtypes`") from error
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


def torch_dtype(fmt: FloatFormat | str) -> torch.dtype:
    """The torch dtype with the codes of `fmt`, one number a code."""
    import torch

    fmt = as_format(fmt)
    found = getattr(torch, fmt.dtype_name or "", None)
    if not isinstance(found, torch.dtype):
        raise FormatError(f"torch {torch.__version__} has no dtype with the codes of '{fmt}'; keep them as integers")
    return found
