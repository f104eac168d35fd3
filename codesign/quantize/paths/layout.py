"""From an array with a channel or block axis to the flat rows, columns or blocks of the loops, in parts for threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError
from codesign.formats import FloatFormat, Rounding
from codesign.quantize.kernels.constants import MODES, STOCHASTIC, TOWARD_ZERO, format_constants, is_fast

Floats = npt.NDArray[np.float32]
Constants = npt.NDArray[np.uint32]

_LONG_ROW = 256  # elements from which on starting a row costs little beside the row (measured: 5 ns against 15)
_WIDE_ROW = 512  # columns that several short rows are put together to; their constants then fill 4 kB
_LONGEST_BLOCK = 2048  # of the blocks loop, which spreads the scales over a buffer of that length
_SMALLEST_PART = 1 << 16  # elements below which a second thread does not pay


@dataclass(frozen=True, slots=True, eq=False)
class ChannelFormats:
    """The formats of channels: a few distinct ones, and which of them each channel has (shape (1,): all channels)."""

    distinct: tuple[FloatFormat, ...]
    chosen: npt.NDArray[np.intp]

    @classmethod
    def of(cls, formats: Sequence[FloatFormat]) -> ChannelFormats:
        """From one, or one for each channel. Recent ones are remembered: a tuple by itself, a list by what is in it."""
        key = id(formats) if isinstance(formats, tuple) else tuple(map(id, formats))
        kept, found = _recent.get(key, (None, None))
        if found is None or (isinstance(formats, tuple) and kept is not formats):
            distinct = {id(fmt): fmt for fmt in formats}
            for fmt in distinct.values():
                if not isinstance(fmt, FloatFormat):
                    raise FormatError(
                        f"fmt must be a list of a FloatFormat for each channel, got {str(fmt)[:60]!r} in it"
                    )
            place = dict(zip(distinct, range(len(distinct)), strict=True))
            found = cls(tuple(distinct.values()), np.array([place[id(fmt)] for fmt in formats], dtype=np.intp))
            if len(_recent) >= _MOST_RECENT:
                _recent.clear()
            _recent[key] = formats, found  # holds the objects, so that their ids stay theirs
        return found

    @property
    def signed(self) -> bool:
        """False for the unsigned e8m0, which stands alone."""
        return self.distinct[0].signed

    def constants(self, mode: int) -> tuple[Constants, bool]:
        """Constants of each channel, shape (len(chosen), COUNT), and whether the fast formula serves all of them."""
        return _constants_of(self, mode)


_recent: dict[int | tuple[int, ...], tuple[Sequence[FloatFormat], ChannelFormats]] = {}
_MOST_RECENT = 64  # lists of formats remembered; a network has fewer layers, and its lists come back at every step


@functools.lru_cache(maxsize=_MOST_RECENT)
def _constants_of(formats: ChannelFormats, mode: int) -> tuple[Constants, bool]:
    rows = [format_constants(fmt, mode != TOWARD_ZERO) for fmt in formats.distinct]
    return np.array(rows, dtype=np.uint32)[formats.chosen], all(map(is_fast, rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingJob:
    """One rounding: everything but the array.

    scale : None; shape (1,); (channels,); or, with `block`, the array's shape with channels // block on `axis`
    block : neighbours on `axis` that share a scale; divides the channels
    key : the two 32-bit halves of the stochastic key
    """

    rounding: Rounding
    formats: ChannelFormats
    scale: Floats | None
    axis: int
    block: int | None
    key: tuple[int, int]
    threads: int

    @property
    def mode(self) -> int:
        """The rounding as the loops know it."""
        return MODES[self.rounding]


def spread_scale(job: RoundingJob, shape: tuple[int, ...]) -> Floats | None:
    """The scale in a shape that broadcasts to the array's."""
    scale, block = job.scale, job.block
    if scale is None or (scale.size == 1 and block is None):
        return scale if scale is None or not shape else scale.reshape((1,) * len(shape))
    return spread(scale, shape, job.axis, block)


def spread(scale: Floats, shape: tuple[int, ...], axis: int, block: int | None) -> Floats:
    """One scale for each channel of `axis`, or for each block along it, in a shape that broadcasts to the array's."""
    if block is None:
        return scale.reshape([-1 if d == axis else 1 for d in range(len(shape))])
    return np.repeat(scale, block, axis=axis).take(range(shape[axis]), axis=axis)


def round_array(x: Floats, y: Floats, job: RoundingJob) -> None:
    """Round x into y: same shape, any strides; y is x itself, or shares no memory with it."""
    order = list(range(x.ndim))
    if job.mode != STOCHASTIC:  # which counts elements in C order
        order.sort(key=lambda d: -abs(x.strides[d]))
    source, result = x.transpose(order), y.transpose(order)
    flags = (source.flags, result.flags)
    if not all(f.c_contiguous and f.aligned for f in flags):
        dense = np.array(x, order="C")
        round_array(dense, dense, job)
        y[...] = dense
        return
    axis = order.index(job.axis) if x.ndim else 0
    scale = job.scale
    if scale is not None:
        scale = np.ascontiguousarray(scale.transpose(order) if scale.ndim == x.ndim > 1 else scale).reshape(-1)
    _round_dense(source, result, scale, axis, job)


def _round_dense(source: Floats, result: Floats, scale: Floats | None, axis: int, job: RoundingJob) -> None:
    """The same for C-contiguous arrays: choose a loop."""
    from codesign.quantize.kernels import rows as loops

    shape = source.shape or (1,)
    channels, inner = shape[axis], math.prod(shape[axis + 1 :])
    outer = math.prod(shape[:axis])
    given, use_fast = job.formats.constants(job.mode)
    constants = given
    if use_fast and scale is not None and job.block is None:
        moved = np.empty((max(len(constants), len(scale)), 2), np.uint32)
        if loops.move_constants(constants, scale, moved):
            constants, scale = moved, None
    scaled = scale is not None
    each = np.ones(1, dtype=np.float32) if scale is None else scale
    run = _Run(source.reshape(-1).view(np.uint32), result.reshape(-1).view(np.uint32), job)
    if job.block is not None and inner == 1:
        long = job.block > _LONGEST_BLOCK
        kernel = loops.rows(job.mode, use_fast, True) if long else loops.blocks(job.mode, use_fast)
        run(kernel, constants, each, length=job.block, unit=job.block)
    elif job.block is not None:
        run(loops.columns(job.mode, use_fast, True), _spread(constants, 1, inner), each, length=job.block, unit=inner)
    elif len(constants) == each.size == 1:
        run(loops.rows(job.mode, use_fast, scaled), constants, each, length=None, unit=1)
    elif inner >= _LONG_ROW or (outer == 1 and inner > 1 and len(constants) > 1):
        run(loops.rows(job.mode, use_fast, scaled), constants, each, length=inner, unit=inner)
    else:
        together = max(1, min(_WIDE_ROW // (channels * inner), outer))
        if constants is given:
            table = _table_of(job.formats, job.mode, channels, inner, together)
        else:
            table = _spread(constants, channels, inner, together)
        if scaled:
            each = _spread(each.view(np.uint32)[:, None], channels, inner, together)[0].view(np.float32)
        run(loops.columns(job.mode, use_fast, scaled), table, each, length=outer, unit=table.shape[1])


@functools.lru_cache(maxsize=_MOST_RECENT)
def _table_of(formats: ChannelFormats, mode: int, channels: int, inner: int, together: int) -> Constants:
    constants, use_fast = formats.constants(mode)
    return _spread(constants[:, :2] if use_fast else constants, channels, inner, together)


def _spread(constants: Constants, channels: int, inner: int, together: int = 1) -> Constants:
    """Constants of every column: (constants of one, channels * inner * together), each row on a cache line of its own."""
    columns = channels * inner * together
    table = _on_cache_lines(constants.shape[1], columns)
    table.reshape(-1, together, channels, inner)[:] = constants.T[:, None, :, None]
    return table


def _on_cache_lines(rows: int, columns: int) -> Constants:
    """An array whose rows start on cache lines, at least those of a multiple of 16 columns (measured: a tenth faster)."""
    line = 64
    memory = np.empty(rows * columns * 4 + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + rows * columns * 4].view(np.uint32).reshape(rows, columns)


@dataclass(frozen=True, slots=True)
class _Run:
    """Calls a loop on whole rows of an array, one part for each thread."""

    x: Constants
    y: Constants
    job: RoundingJob

    def __call__(
        self, kernel: Callable[..., None], constants: Constants, scale: Floats, *, length: int | None, unit: int
    ) -> None:
        """`unit` elements stay together; `length` is the loop's own argument, None for all that a part holds."""
        total = -(-self.x.size // unit)
        low, high = (np.uint32(half) for half in self.job.key)

        def part(first: int, last: int) -> None:
            elements = slice(first * unit, last * unit)
            first_index = np.uint32(first * unit & 0xFFFFFFFF)
            row, row_length = (0, last - first) if length is None else (first, length)
            kernel(self.x[elements], self.y[elements], constants, scale, row_length, row, low, high, first_index)

        in_parts(total, min(self.job.threads, self.x.size // _SMALLEST_PART), part)


def in_parts(total: int, threads: int, part: Callable[[int, int], None]) -> None:
    """`part(first, last)` for consecutive parts of range(total), each in a thread of its own."""
    count = max(1, min(threads, total))
    if count == 1:
        part(0, total)
        return
    bounds = [total * k // count for k in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:  # of this call alone: nothing that a forked child could inherit
        list(pool.map(part, bounds[:-1], bounds[1:]))
