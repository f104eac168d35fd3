"""Strategies for number formats and for arrays that are hard to round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codesign.errors import FormatError
from codesign.formats import FloatFormat, InfiniteInput, NanInput, Overflow, Reserved, Subnormals


@st.composite
def float_formats(draw: st.DrawFn, *, max_bits: int = 19, policies: bool = True) -> FloatFormat:
    """Signed formats with 0 to 8 exponent bits, 0 to 10 mantissa bits, any bias and reserved codes.

    max_bits : the widest format drawn, at least 2
    policies : also draw policies other than the default ones
    """
    exponent_bits = draw(st.integers(0, min(8, max_bits - 2)))
    mantissa_bits = draw(st.integers(0 if exponent_bits else 1, min(10, max_bits - 1 - exponent_bits)))
    fields: dict[str, Any] = {"reserved": draw(st.none() | st.sampled_from(Reserved)), "signed": True}
    if draw(st.booleans()):
        fields["bias"] = draw(st.integers(-60, 127))
    if policies:
        fields["subnormals"] = draw(st.sampled_from(Subnormals))
        fields["overflow"] = draw(st.sampled_from(Overflow))
        fields["infinite_input"] = draw(st.sampled_from(InfiniteInput))
        fields["nan_input"] = draw(st.sampled_from(NanInput))
    for left_out in ("", "infinite_input", "overflow", "subnormals", "reserved", "bias"):
        fields.pop(left_out, None)  # not every field goes with every other: fall back on defaults one by one
        try:
            fmt = FloatFormat.of(exponent_bits, mantissa_bits, **fields)
        except FormatError:
            continue
        if fmt.max > 0:
            return fmt
    return FloatFormat.of(
        exponent_bits, mantissa_bits, reserved=None if exponent_bits > 1 else Reserved.NONE, signed=True
    )


def float32s() -> st.SearchStrategy[float]:
    """Every float32, subnormals, infinities and NaN included."""
    return st.floats(width=32)


@st.composite
def float32_near_ties(draw: st.DrawFn, fmt: FloatFormat) -> float:
    """A float32 within two units in the last place of a value of `fmt`, of the midpoint of two, or of either end."""
    top = fmt.encode(fmt.max)
    code = draw(st.integers(0, top))
    lower = fmt.decode(code)
    upper = fmt.decode(code + 1) if code < top else fmt.max + _step(fmt)
    center = draw(st.sampled_from([lower, (lower + upper) / 2, upper]))
    bits = int(np.float32(min(center, float(np.finfo(np.float32).max))).view(np.uint32))
    bits = min(max(bits + draw(st.integers(-2, 2)), 0), 0x7F7FFFFF)
    magnitude = float(np.uint32(bits).view(np.float32))
    return -magnitude if fmt.signed and draw(st.booleans()) else magnitude


def _step(fmt: FloatFormat) -> float:
    """Spacing of the values at the largest one."""
    exponent = max(math.frexp(fmt.max)[1] - 1, fmt.min_exponent) if fmt.max else fmt.min_exponent
    return math.ldexp(1.0, exponent - fmt.mantissa_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTensor:
    """An array with a format and a power-of-two scale for each channel of an axis.

    formats, scale : one for each of x.shape[axis]
    """

    x: npt.NDArray[np.float32]
    axis: int
    formats: tuple[FloatFormat, ...]
    scale: npt.NDArray[np.float32]


@st.composite
def channel_tensors(draw: st.DrawFn) -> ChannelTensor:
    """Arrays of 1 to 4 dimensions, contiguous, transposed or with gaps, with their channels' formats and scales."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
    x = draw(hnp.arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32)))
    match draw(st.sampled_from(["contiguous", "transposed", "gaps"])):
        case "transposed":
            x = x.transpose(draw(st.permutations(range(x.ndim))))
        case "gaps":
            x = x[tuple(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in range(x.ndim))]
    axis = draw(st.integers(0, x.ndim - 1))
    channels = x.shape[axis]
    few = draw(st.lists(float_formats(max_bits=12), min_size=1, max_size=3))
    formats = tuple(draw(st.lists(st.sampled_from(few), min_size=channels, max_size=channels)))
    exponents = draw(st.lists(st.integers(-8, 8), min_size=channels, max_size=channels))
    return ChannelTensor(x=x, axis=axis, formats=formats, scale=np.exp2(np.array(exponents, dtype=np.float32)))
