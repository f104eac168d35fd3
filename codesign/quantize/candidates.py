"""Candidates of formats and clips, and which of them has the least squared error on the numbers of a channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError
from codesign.formats import FloatFormat
from codesign.quantize.paths.layout import Floats

CLIPS = 64  # in geometric steps from the largest magnitude down to
_LEAST_CLIP = 0.75  # root mean squares; three levels of a Gaussian clip at 1.2, more levels higher
CLIPS_EACH_ABOVE = (
    4  # a quarter as many above it, up to twice: numbers may be better off in a lower binade, with finer spacing
)
_REFINE = 4  # looks to both sides of the best clip, each half as far as the one before
_FLOOR_EXPONENT = -100  # relative to the largest value; steps below are finer than float32 can tell


class Clips(NamedTuple):
    """Clips to be tried: [channels, formats, candidates], float32, 0 where there is none.

    refine, step : how often to look `step` to both sides of a format's best clip, the square root of `step` the next time
    """

    tried: Floats
    refine: int = 0
    step: float = 1.0


def best_candidates(
    x: Floats, weights: npt.NDArray[np.float64] | None, formats: tuple[FloatFormat, ...], clips: Clips
) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.float64]]:
    """Format number, clip and summed squared error of each channel; all 0 for a channel of zeros.

    x : float32 magnitudes, [channels, n]
    weights : how often each occurs, or None
    """
    from codesign.quantize.kernels.fit import fit

    channels = len(x)
    rows = [normalised(fmt) for fmt in formats]
    table = [np.array([row[i] for row in rows], kind) for i, kind in enumerate((np.float32, np.uint32, np.uint32))]
    chosen, clip, error = np.zeros(channels, np.int64), np.zeros(channels, np.float32), np.zeros(channels)
    fit(_blocks(x), _blocks(weights, channels), *table, *clips, chosen, clip, error)
    zero = x.max(1) == 0
    chosen[zero], clip[zero], error[zero] = 0, 0, 0
    return chosen, clip, error


def geometric_clips(
    largest: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], formats: int, clips: int
) -> npt.NDArray[np.float64]:
    """[channels, formats, clips]: from the largest magnitude down to 0.75 root mean squares, and a quarter as many above."""
    lowest = np.minimum(_LEAST_CLIP * deviation, largest)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(largest > 0, lowest / largest, 1.0)
    above = clips // CLIPS_EACH_ABOVE
    columns = np.concatenate(
        [
            largest[:, None] * ratio[:, None] ** (np.arange(clips) / (clips - 1)),
            largest[:, None] * np.exp2(np.arange(1, above + 1) / above),
        ],
        axis=1,
    )
    return np.repeat(columns[:, None, :], formats, axis=1)


def refined(tried: Floats, largest: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], clips: int) -> Clips:
    """These clips, and looks between the best of `geometric_clips` and its neighbours."""
    lowest = np.minimum(_LEAST_CLIP * deviation, largest)
    step = float(np.max((largest / np.maximum(lowest, 1e-300)) ** (0.5 / (clips - 1)), initial=1.0))
    return Clips(tried, _REFINE, min(step, 2.0))


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


def up_to_powers(columns: npt.NDArray[np.float64], formats: Sequence[FloatFormat]) -> Floats:
    """Clips as given, each moved up to the next whose scale is a power of two."""
    most = np.array([fmt.max for fmt in formats])[:, None]
    exponents = np.ceil(np.log2(np.where(columns > 0, columns, 1) / most))
    return np.ascontiguousarray(np.where(columns > 0, np.exp2(exponents) * most, 0), np.float32)


def check_candidate(fmt: FloatFormat) -> None:
    """Refuse a format that the search cannot treat."""
    if fmt.max == 0 or not fmt.signed or (fmt.min_subnormal is None and fmt.mantissa_bits > 0):
        raise FormatError(f"'{fmt}' cannot be allocated: it needs a sign, subnormal numbers and a value besides zero")


def top_exponent(fmt: FloatFormat) -> int:
    """Exponent of the largest binade."""
    return math.frexp(fmt.max)[1] - 1


def normalised(fmt: FloatFormat) -> tuple[float, int, int]:
    """The format with its largest binade at [1, 2), as `fit` takes it."""
    check_candidate(fmt)
    top = top_exponent(fmt)
    floor = max(fmt.min_exponent - top, _FLOOR_EXPONENT)
    return fmt.max / 2.0**top, floor + 127 << 23, 23 - fmt.mantissa_bits << 23


def _blocks(values: npt.NDArray[Any] | None, channels: int = 0) -> npt.NDArray[Any]:
    """[channels, n] as [channels, blocks, numbers], padded with zeros; nothing as [channels, 0, 0]."""
    from codesign.quantize.kernels.fit import BLOCK, LANES

    if values is None:
        return np.zeros((channels, 0, 0))
    n = values.shape[1]
    blocks = -(-n // BLOCK)
    width = -(-n // (blocks * LANES)) * LANES  # equal blocks, so that little is padding
    padded = np.pad(values, ((0, 0), (0, -n % width))) if n % width else values
    return np.ascontiguousarray(padded).reshape(len(values), -1, width)
