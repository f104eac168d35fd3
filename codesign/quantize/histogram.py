"""The distribution of magnitudes as a histogram over float bits: it streams, merges, and loses nothing that matters.

A bin holds the numbers that share exponent and first mantissa bits, and keeps their count, sum and sum of squares. Every
threshold of a format with fewer mantissa bits, at a scale that is a power of two, is an edge of bins. All numbers of a bin
are then rounded to one value v, and their squared error, sum x^2 - 2 v sum x + v^2 count, is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat
from codesign.quantize.allocate import Allocation, refuse_zeros, rows_of, splits
from codesign.quantize.candidates import check_candidate, power_of_two_clips
from codesign.quantize.kernels.constants import FLOAT32_INFINITY
from codesign.quantize.rounding import round_to_format


class FloatHistogram:
    """Counts, sums and sums of squares of magnitudes per channel, by exponent and the first `mantissa_bits` mantissa bits.

    Formats of up to `mantissa_bits - 1` mantissa bits and integers of up to `mantissa_bits` can be allocated from it: every
    split of a number of `mantissa_bits + 1` bits. Memory: 24 bytes a bin and channel, as many binades as
    the numbers seen span.
    """

    def __init__(self, channels: int, *, mantissa_bits: int = 6) -> None:
        if channels < 1:
            raise ModelError(f"channels must be 1 or more, got {channels}")
        if not 1 <= mantissa_bits <= 12:
            raise ModelError(f"mantissa_bits must be 1 to 12, got {mantissa_bits}")
        self.channels = channels
        self.mantissa_bits = mantissa_bits
        self.numbers = 0  # of each channel
        self._first = 0  # bin number (magnitude bits without the last mantissa bits) of the first column
        self._moments = np.zeros((3, channels, 0))  # count, sum, sum of squares; zeros are counted by `numbers` alone

    def update(self, x: Any, axis: int | None = 0) -> None:
        """Add the numbers of an array or tensor, of as many channels on `axis` (None: one channel)."""
        from codesign.quantize.kernels.counting import count, extremes

        rows = rows_of(x, axis)
        if len(rows) != self.channels:
            raise ModelError(f"a histogram of {self.channels} channels cannot take {len(rows)} of axis {axis}")
        with np.errstate(over="ignore"):
            narrow = np.ascontiguousarray(rows, np.float32)
        bits = narrow.view(np.uint32)
        least, largest = extremes(bits)
        if largest >= FLOAT32_INFINITY:
            bad = int(np.flatnonzero(~np.isfinite(narrow).all(1))[0])
            raise ModelError(
                f"channel {bad} of x holds NaN, infinity or numbers beyond float32; it has no distribution"
            )
        self.numbers += rows.shape[1]
        if largest:
            shift = 23 - self.mantissa_bits
            self._widen((least + 1) >> shift, (largest >> shift) + 1)
            count(bits, self._moments, self._first, shift)

    def merge(self, other: FloatHistogram) -> None:
        """Add what another histogram of as many channels has seen."""
        if (other.channels, other.mantissa_bits) != (self.channels, self.mantissa_bits):
            raise ModelError(
                f"a histogram of {self.channels} channels and {self.mantissa_bits} mantissa bits cannot take one of "
                f"{other.channels} and {other.mantissa_bits}"
            )
        self.numbers += other.numbers
        columns = other._moments.shape[2]
        if columns:
            self._widen(other._first, other._first + columns)
            start = other._first - self._first
            self._moments[:, :, start : start + columns] += other._moments

    def errors(self, fmt: FloatFormat, scales: Sequence[float]) -> npt.NDArray[np.float64]:
        """Summed squared error of each channel at each scale, [channels, scales]. Scales must be powers of two."""
        # bits of a halfway point; the first digit of an integer is not hidden
        needed = fmt.mantissa_bits + (fmt.exponent_bits > 0)
        if needed > self.mantissa_bits:
            raise FormatError(f"'{fmt}' needs a histogram of {needed} mantissa bits, this one has {self.mantissa_bits}")
        count, total, squares = self._moments
        columns = count.shape[1]
        edges = np.arange(self._first, self._first + columns, dtype=np.uint32) << np.uint32(23 - self.mantissa_bits)
        half = np.uint32(1 << (22 - self.mantissa_bits))
        inside = (edges + half).view(np.float32)  # in the middle of its bin: rounded as all of it, no tie among them
        values = np.empty((columns, len(scales)))
        for i, scale in enumerate(scales):
            if np.frexp(scale)[0] != 0.5:
                raise FormatError(f"a histogram knows scales that are powers of two, not {scale}")
            values[:, i] = round_to_format(inside, fmt, scale=scale)
        # sums of many terms that nearly cancel: each is of the order of the result times 4^mantissa_bits at most
        return np.asarray(squares.sum(1)[:, None] - 2 * (total @ values) + count @ values**2)

    def allocate(
        self, bits: int | None = None, *, formats: Sequence[FloatFormat] | None = None, allow_zeros: bool = False
    ) -> Allocation:
        """The format and power-of-two scale of least squared error for each channel, as `allocate` of the numbers finds."""
        if formats is None:
            if bits is None:
                raise FormatError("bits= is missing; pass the width of a number, or formats=")
            formats = splits(bits)
        if self.numbers == 0:
            raise ModelError("the histogram has seen no numbers; update it first")
        for fmt in formats:
            check_candidate(fmt)
        power = self._moments[2].sum(1) / self.numbers
        largest = self._largest()
        if not allow_zeros:
            refuse_zeros(largest)
        best = np.full(self.channels, np.inf)
        chosen, scale = np.zeros(self.channels, np.int64), np.ones(self.channels, np.float32)
        clips = power_of_two_clips(formats, largest, np.sqrt(power))
        for f, fmt in enumerate(formats):
            scales = np.unique(clips[:, f][clips[:, f] > 0]) / fmt.max
            if scales.size == 0:
                continue
            errors = self.errors(fmt, [float(s) for s in scales])
            place = errors.argmin(1)
            error = errors[np.arange(self.channels), place]
            better = (error < best) & (largest > 0)
            best[better], chosen[better], scale[better] = error[better], f, scales[place[better]]
        return Allocation(
            method="empirical",
            formats=tuple(formats[int(f)] for f in chosen),
            scale=scale,
            mse=np.where(largest > 0, np.maximum(best, 0), 0) / self.numbers,
            power=power,
            axis=0 if self.channels > 1 else None,
        )

    def _largest(self) -> npt.NDArray[np.float64]:
        """Upper edge of the last bin of each channel that holds a number; 0 where none does."""
        held = self._moments[0] > 0
        last = (
            held.shape[1] - 1 - np.argmax(held[:, ::-1], axis=1) if held.shape[1] else np.zeros(self.channels, np.int64)
        )
        upper = (np.asarray(self._first + last + 1, np.uint32) << np.uint32(23 - self.mantissa_bits)).view(np.float32)
        return np.where(held.any(1), upper.astype(np.float64), 0.0)

    def _widen(self, first: int, stop: int) -> None:
        """Let the columns cover whole binades around bins first..stop."""
        binade = 1 << self.mantissa_bits
        columns = self._moments.shape[2]
        low, high = first // binade * binade, -(-stop // binade) * binade
        if columns:
            low, high = min(low, self._first), max(high, self._first + columns)
        moments = np.zeros((3, self.channels, high - low))
        if columns:
            start = self._first - low
            moments[:, :, start : start + columns] = self._moments
        self._first, self._moments = low, moments
