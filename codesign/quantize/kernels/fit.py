"""The candidate of least squared error for each channel, as numba loops.

A candidate rounds y = x * gain to a format whose largest binade is moved to [1, 2): its constants are the largest value, the
smallest exponent and how many mantissa bits float32 has more. Rounding is the fast formula of `elements.py` for
magnitudes. A candidate is dropped as soon as its error so far exceeds that
of the best one with its format; what is found for one format so does not depend on the others.
"""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import numba
import numpy as np

from codesign.quantize.kernels.compiled import compiled
from codesign.quantize.kernels.elements import as_bits, as_float

u32 = np.uint32
_EXPONENT = u32(0x7F800000)
LANES = 128  # blocks are a multiple of this long, padded with zeros, which cost no error: the loop is then all SIMD
BLOCK = 512  # the longest block, whose squares are summed in float32; after each the best error so far is looked at
_COARSE = 4  # a coarse pass finds a good error early, so that most candidates are dropped early


@numba.njit
def _error(y, limit, floor, shift):
    """y - round(min(y, limit)), y not negative."""
    held = min(y, limit)
    magic = as_float(u32(max(u32(as_bits(held) & _EXPONENT), floor) + shift))
    return np.float32(y - np.float32(np.float32(held + magic) - magic))


@numba.njit(fastmath={"reassoc"})  # of the sum; the rounding above keeps its own, strict operations
def _block_error(x, gain, limit, floor, shift):
    total = np.float32(0)
    for i in range(x.size):
        d = _error(np.float32(x[i] * gain), limit, floor, shift)
        total += d * d
    return total


@numba.njit(fastmath={"reassoc"})
def _weighted_block_error(x, weights, gain, limit, floor, shift):
    total = 0.0
    for i in range(x.size):
        d = np.float64(_error(np.float32(x[i] * gain), limit, floor, shift))
        total += weights[i] * (d * d)
    return total


@numba.njit
def _total_error(x, weights, clip, limit, floor, shift, best):
    """Sum of squared errors with this clip; anything above `best` where it is that large."""
    gain = np.float32(limit / clip)
    unit = 1.0 / (np.float64(gain) * np.float64(gain))
    total = 0.0
    for block in range(x.shape[0]):
        if weights.size:
            total += _weighted_block_error(x[block], weights[block], gain, limit, floor, shift)
        else:
            total += np.float64(_block_error(x[block], gain, limit, floor, shift))
        if total * unit > best:
            break
    return total * unit


@compiled(
    "void(float32[:, :, ::1], float64[:, :, ::1], float32[::1], uint32[::1], uint32[::1], float32[:, :, ::1], int64, float32,"
    " int64[::1], float32[::1], float64[::1])"
)
def fit(x, weights, limits, floors, shifts, clips, refine, step, best_format, best_clip, best_error):
    """For each row of magnitudes the format, clip and summed squared error of least error; of equal ones the first tried.

    x : [channels, blocks, numbers], not negative; weights : the same, or [channels, 0, 0] where every number counts once
    limits, floors, shifts : [formats], of each format with its largest binade at [1, 2)
    clips : [channels, formats, candidates] to be tried, 0 where there is none
    refine, step : how often to look `step` to both sides of a format's best clip, the square root of `step` the next time
    """
    channels, formats, count = clips.shape
    own_clip, own_error = np.empty(formats, np.float32), np.empty(formats)
    for row in range(channels):
        best_format[row], best_clip[row], best_error[row] = -1, 0, np.inf
        own_error[:] = np.inf
        for start in range(_COARSE):
            for f in range(formats):
                for j in range(start, count, _COARSE):
                    clip = clips[row, f, j]
                    if clip > 0:
                        error = _total_error(x[row], weights[row], clip, limits[f], floors[f], shifts[f], own_error[f])
                        if error < own_error[f]:
                            own_clip[f], own_error[f] = clip, error
                        if error < best_error[row]:
                            best_format[row], best_clip[row], best_error[row] = f, clip, error
        for f in range(formats if refine else 0):
            ratio = step
            for _ in range(refine):
                middle = own_clip[f]
                for clip in (np.float32(middle * ratio), np.float32(middle / ratio)):
                    error = _total_error(x[row], weights[row], clip, limits[f], floors[f], shifts[f], own_error[f])
                    if error < own_error[f]:
                        own_clip[f], own_error[f] = clip, error
                ratio = np.float32(np.sqrt(ratio))
            if own_error[f] < best_error[row]:
                best_format[row], best_clip[row], best_error[row] = f, own_clip[f], own_error[f]


@numba.njit(fastmath={"reassoc"})
def _beyond(x, clip):
    """Sum and number of the elements above a clip."""
    total, count = np.float32(0), 0
    for i in range(x.size):
        above = x[i] > clip
        total += x[i] if above else np.float32(0)
        count += above
    return total, count


@compiled("void(float32[:, ::1], int64, float64, float32[::1], float32[::1])")
def octav(x, elements, noise, start, clip):
    """The fixed point of C = sum(x above C) / (noise * elements below C + elements above C), by Newton's steps.

    x : [channels, n] magnitudes, padded with zeros to more than `elements`
    """
    for row in range(x.shape[0]):
        c = start[row]
        for _ in range(12):
            total, above = _beyond(x[row], c)
            nearer = np.float32(total / (noise * (elements - above) + above))
            if nearer <= 0 or abs(nearer - c) <= 1e-5 * c:
                break
            c = nearer
        clip[row] = c
