"""A proof by walking all 2^32 float32 inputs: is each rounded as the sorted list of a format's values demands?

The oracle knows no bit arithmetic. It takes the values of the format, halves the distance between neighbours exactly in
float64, and lists for which magnitude the result changes to which. What becomes of the ends is said by the format itself
(`overflow_result`, `flushed_below`, ...), its values by `decode`, which is tested against published tables of codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError
from codesign.formats import FloatFormat, Rounding
from codesign.quantize.codes import decode
from codesign.quantize.kernels.compiled import compiled
from codesign.quantize.rounding import round_to_format

INPUTS = 1 << 32
_WIDEST_BITS = 20  # a million decisions; wider formats would need gigabytes of them
_AT_ONCE = 1 << 18  # inputs rounded at a time: 1 MB, and 1 MB of results, stay in the cache
_SIGN = np.uint32(0x80000000)
_INFINITY = 0x7F800000
_NAN = 0x7FC00000

Bits = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a walk over all inputs found.

    wrong : number of inputs that were rounded to something else than the oracle says
    first_wrong : the first such input, as float32 bits; None if there is none
    """

    fmt: FloatFormat
    rounding: Rounding
    inputs: int
    decisions: int
    wrong: int
    first_wrong: int | None

    @property
    def holds(self) -> bool:
        """Whether every input was rounded right."""
        return self.wrong == 0


def decisions(fmt: FloatFormat, rounding: Rounding) -> tuple[Bits, Bits]:
    """(first, result), ascending: a magnitude in [first[i], first[i+1]) (float32 bits) is rounded to result[i].

    `Rounding.NEAREST_EVEN` or `TOWARD_ZERO`. A result above infinity's bits stands for any NaN.
    """
    if fmt.bits > _WIDEST_BITS:
        raise FormatError(f"'{fmt}' has {fmt.bits} bits; up to {_WIDEST_BITS} can be proven")
    values = _magnitudes(fmt)
    top_exponent = max(math.frexp(fmt.max)[1] - 1, fmt.min_exponent) if fmt.max else fmt.min_exponent
    beyond = fmt.max + math.ldexp(1.0, top_exponent - fmt.mantissa_bits)  # the next value, if the codes went on
    lower, upper = values, np.append(values[1:], beyond)
    match rounding:
        case Rounding.NEAREST_EVEN:
            boundary, beyond_result = (
                (lower + upper) / 2,
                fmt.overflow_result,
            )  # exact: two neighbours of at most 24 bits
            # with an odd last digit below it, a tie goes up; with no mantissa bits it always does: see Rounding
            up_at_tie = np.arange(len(values)) % 2 == 1 if fmt.mantissa_bits else lower > 0
        case Rounding.TOWARD_ZERO:
            boundary, beyond_result = upper, fmt.max
            up_at_tie = np.ones(len(values), dtype=bool)
        case Rounding.STOCHASTIC:
            raise FormatError("stochastic rounding has no fixed decisions; choose nearest-even or toward-zero")
        case _:
            assert_never(rounding)
    results = np.append(values, beyond_result)
    results[results < fmt.flushed_below] = 0
    first = np.append(np.uint32(0), _first_at_or_above(boundary, up_at_tie))
    below_infinity = first < _INFINITY
    ends_first = np.array([_INFINITY, _INFINITY + 1], dtype=np.uint32)
    ends = np.array([fmt.infinite_result, fmt.nan_result])
    result = np.append(results[below_infinity], ends).astype(np.float32)
    return np.append(first[below_infinity], ends_first), np.where(np.isnan(result), _NAN, result.view(np.uint32))


def _magnitudes(fmt: FloatFormat) -> npt.NDArray[np.float64]:
    """Values of the magnitude codes 0, 1, ..., all finite ones, before any flushing."""
    return decode(np.arange(fmt.encode(fmt.max) + 1), fmt).astype(np.float64)


def _first_at_or_above(boundary: npt.NDArray[np.float64], inclusive: npt.NDArray[np.bool_]) -> Bits:
    """Bits of the smallest float32 that is at least (`inclusive`) or more than each boundary; infinity's if none is."""
    with np.errstate(over="ignore"):
        nearest = boundary.astype(np.float32)
    exact = nearest.astype(np.float64)
    missed = (exact < boundary) | ((exact == boundary) & ~inclusive)
    bits: Bits = nearest.view(np.uint32) + missed
    return bits


def prove(
    fmt: FloatFormat,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Proof:
    """Round every float32 by `round_to_format` and compare; formats up to 20 bits.

    progress : is called with the number of inputs done, now and then
    """
    first, positive = decisions(fmt, rounding)
    negative = np.where((positive == 0) & (not fmt.has_minus_zero), np.uint32(0), positive | _SIGN)
    place = np.arange(_AT_ONCE, dtype=np.uint32)
    x, y = np.empty(_AT_ONCE, dtype=np.uint32), np.empty(_AT_ONCE, dtype=np.uint32)
    tally = np.zeros(2, dtype=np.int64)  # wrong inputs, and the first of them
    for start in range(0, INPUTS, _AT_ONCE):
        if start < _SIGN:
            changes, results = first, positive
        elif fmt.signed:
            changes, results = first | _SIGN, negative
        else:  # minus zero is zero
            changes, results = np.array([_SIGN, _SIGN + 1], dtype=np.uint32), np.array([positive[0], _NAN], np.uint32)
        np.add(place, np.uint32(start), out=x)
        round_to_format(x.view(np.float32), fmt, rounding, out=y.view(np.float32))
        _count_wrong(y, start, changes, results, tally)
        progress(start + _AT_ONCE)
    wrong, first_wrong = int(tally[0]), int(tally[1])
    return Proof(
        fmt=fmt,
        rounding=rounding,
        inputs=INPUTS,
        decisions=len(first),
        wrong=wrong,
        first_wrong=first_wrong if wrong else None,
    )


@compiled("void(uint32[::1], int64, uint32[::1], uint32[::1], int64[::1])")
def _count_wrong(got, start, changes, results, tally):  # type: ignore[no-untyped-def]
    """Compare got[i], the result for the input with bits start + i, with the last change at or before it."""
    segment = np.searchsorted(changes, start, side="right") - 1
    i = 0
    while i < got.size:
        stop = min(got.size, np.int64(changes[segment + 1]) - start) if segment + 1 < changes.size else got.size
        part, expected = got[i:stop], results[segment]
        nan = expected & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000)
        wrong = 0
        for k in range(part.size):
            is_nan = (part[k] & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            wrong += not is_nan if nan else part[k] != expected
        if wrong and tally[0] == 0:
            for k in range(part.size - 1, -1, -1):
                is_nan = (part[k] & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
                if not is_nan if nan else part[k] != expected:
                    tally[1] = start + i + k
        tally[0] += wrong
        i, segment = stop, segment + 1
