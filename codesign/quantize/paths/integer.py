"""The same roundings in torch operations, for any device: integer arithmetic on the bits of float32.

Compilers for accelerators flush subnormal float32 numbers to zero, so that only integers give the same bits everywhere.
The steps are those of `elements.general`, except that a subnormal result is shifted rather than added into place.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
import torch

from codesign.formats import Rounding
from codesign.quantize.kernels.constants import SHIFT_BITS
from codesign.quantize.paths.layout import RoundingJob, spread_scale

_MAGNITUDE = 0x7FFFFFFF
_INFINITY = 0x7F800000
_NAN = 0x7FC00000
_FIRST_NORMAL = 0x00800000
_SMALLEST_POWER = 0x00400000  # 2^-127


def round_tensor(x: torch.Tensor, job: RoundingJob, first_index: int = 0) -> torch.Tensor:
    """x : float32, float64, bfloat16 or float16; any shape and device; the result has its dtype

    first_index : what the stochastic element index counts from
    """
    spread = spread_scale(job, tuple(x.shape))
    scale = None if spread is None else torch.from_numpy(spread).to(x.device)
    wide = x if x.dtype == torch.float64 else x.float()
    if scale is not None:
        wide = wide / scale.to(wide.dtype)
    narrow = _to_odd_float32(wide) if wide.dtype == torch.float64 else wide
    rounded = _round_float32(narrow, job, first_index) if job.formats.signed else _round_to_powers(narrow, job)
    rounded = rounded.to(wide.dtype)
    return (rounded if scale is None else rounded * scale).to(x.dtype)


def _to_odd_float32(x: torch.Tensor) -> torch.Tensor:
    """As in rounding.py."""
    nearest = x.float()
    bits = nearest.view(torch.int32) - (nearest.double().abs() > x.abs()).int()
    return (bits | (nearest.double() != x).int()).view(torch.float32)


def _round_to_powers(x: torch.Tensor, job: RoundingJob) -> torch.Tensor:
    """As in rounding.py: to the unsigned e8m0."""
    magnitude = x.contiguous().view(torch.int32) & _MAGNITUDE
    low = (magnitude.clamp(min=_SMALLEST_POWER) - _SMALLEST_POWER) << 1
    evened = torch.where(magnitude < _FIRST_NORMAL, low, magnitude).view(torch.float32)
    rounded = _round_float32(evened, job)
    rounded = torch.where(rounded.view(torch.int32) == 0, _SMALLEST_POWER, rounded.view(torch.int32))
    negative = (x.view(torch.int32) < 0) & (magnitude > 0)
    return torch.where(negative, _NAN, rounded).view(torch.float32)


def _round_float32(x: torch.Tensor, job: RoundingJob, first_index: int = 0) -> torch.Tensor:
    table = torch.from_numpy(job.formats.constants(job.mode)[0].view(np.int32)).to(x.device)
    shape = [-1 if d == job.axis else 1 for d in range(x.ndim)] if len(job.formats.chosen) > 1 else [1] * x.ndim
    floor, limit, _, overflow, infinite, nan, flush, zero_sign = (word.reshape(shape) for word in table.T)
    shift, minimum = floor & SHIFT_BITS, floor & _INFINITY

    bits = x.contiguous().view(torch.int32)
    magnitude = bits & _MAGNITUDE
    below = (1 << shift) - 1
    random = (
        _random_bits(x.shape, job.key, first_index, x.device) & below if job.rounding is Rounding.STOCHASTIC else None
    )
    normal = _normal(magnitude, shift, below, job.rounding, random)
    subnormal = _subnormal(magnitude, shift, below, minimum, job.rounding, random)
    rounded = torch.where(magnitude < minimum, subnormal, normal)

    rounded = torch.where(rounded < flush, 0, rounded)
    rounded = torch.where(rounded > limit, overflow, rounded)
    rounded = torch.where(magnitude == _INFINITY, infinite, rounded)
    rounded = torch.where(magnitude > _INFINITY, nan, rounded)
    sign = bits & ~_MAGNITUDE
    sign = torch.where(rounded == 0, sign & zero_sign, sign)
    return (rounded | sign).view(torch.float32)


def _normal(
    magnitude: torch.Tensor, shift: torch.Tensor, below: torch.Tensor, rounding: Rounding, random: torch.Tensor | None
) -> torch.Tensor:
    """Rounded at bit `shift`; also right for float32's own subnormals, which are integers."""
    match rounding:
        case Rounding.NEAREST_EVEN:
            digits = magnitude | (shift == 23).int() << 23  # with no mantissa bit the last digit is the hidden one
            return (magnitude + _to_nearest(digits, shift)) & ~below
        case Rounding.TOWARD_ZERO:
            return magnitude & ~below
        case Rounding.STOCHASTIC:
            assert random is not None
            return (magnitude + random) & ~below
        case _:
            assert_never(rounding)


def _to_nearest(number: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """What makes cutting `shift` bits off round to nearest-even: half, less one where the bit that stays is even."""
    odd = (number >> shift) & 1
    return torch.where(shift > 0, (1 << (shift - 1).clamp(min=0)) - 1 + odd, 0)


def _subnormal(
    magnitude: torch.Tensor,
    shift: torch.Tensor,
    below: torch.Tensor,
    minimum: torch.Tensor,
    rounding: Rounding,
    random: torch.Tensor | None,
) -> torch.Tensor:
    """Rounded to a multiple of the format's smallest step, where magnitude < minimum (elsewhere of no meaning)."""
    exponent = magnitude >> 23
    significand = (magnitude & 0x7FFFFF) | (exponent > 0).int() << 23
    distance = ((minimum >> 23) - exponent.clamp(min=1)).clamp(0, 25)  # 24 bits and more: nothing is left
    to_step = (distance + shift).clamp(max=25)
    match rounding:
        case Rounding.NEAREST_EVEN:
            steps = (significand + _to_nearest(significand, to_step)) >> to_step
        case Rounding.TOWARD_ZERO:
            steps = significand >> to_step
        case Rounding.STOCHASTIC:
            assert random is not None
            lifted = (significand + _to_nearest(significand, distance)) >> distance
            steps = ((minimum + lifted + random & ~below) - minimum) >> shift
        case _:
            assert_never(rounding)
    exponent_of_step = (minimum >> 23) - 127 - (23 - shift)
    as_normal = steps.float().view(torch.int32) + (exponent_of_step << 23)
    as_subnormal = steps << (exponent_of_step + 149).clamp(0, 23)
    rounded = torch.where(as_normal < _FIRST_NORMAL, as_subnormal, as_normal)
    return torch.where(steps == 0, 0, rounded)


def _random_bits(shape: torch.Size, key: tuple[int, int], first: int, device: torch.device) -> torch.Tensor:
    """`elements.random_bits` of every element, as int32."""
    mask = 0xFFFFFFFF
    h = (torch.arange(first, first + shape.numel(), device=device) & mask) ^ key[0]
    h = (h ^ h >> 16) * 0x7FEB352D & mask
    h = (h ^ h >> 15) + key[1] & mask
    h = h * 0x846CA68B & mask
    h = h ^ h >> 16
    return h.int().reshape(shape)
