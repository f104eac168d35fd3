"""What a format buys: area and energy of a multiply-accumulate unit, and multiply-accumulates per cycle.

Operand mantissas M1, M2 and accumulator mantissa MA are counted without the hidden bit; a format without exponent bits
is an integer of M + 1 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from codesign.errors import CostError, FormatError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator, MacModel, ThroughputLaw

FULL_ADDER_UM2 = 4.256  # FA_X1 of NanGate 45 nm (recalled)
BLOCK_LANES = 32  # the block of OCP MX formats


@dataclass(frozen=True, slots=True, kw_only=True)
class MacFit:
    """Where a model comes from, and how far it is off.

    mean_error, max_error : relative, on the units that it was fitted to
    """

    model: MacModel
    node_nm: int
    source: str
    mean_error: float
    max_error: float


FITS = {
    MacModel.PUBLISHED_28NM: MacFit(
        model=MacModel.PUBLISHED_28NM,
        node_nm=28,
        source="8 float MACs and 3 integer MACs of the Block Minifloat RTL (Fox et al., ICLR 2021), 28 nm FD-SOI",
        mean_error=0.046,
        max_error=0.092,
    ),
    MacModel.SYNTHESISED_45NM: MacFit(
        model=MacModel.SYNTHESISED_45NM,
        node_nm=45,
        source="119 float and 7 integer MACs synthesised with Yosys for NanGate 45 nm, area-driven, no subnormals",
        mean_error=0.026,
        max_error=0.108,
    ),
    MacModel.BLOCK_DOT: MacFit(
        model=MacModel.BLOCK_DOT,
        node_nm=45,
        source="component count of Chen et al. 2025, arXiv 2510.25602, appendix C, weighted to meet its table 5",
        mean_error=0.034,
        max_error=0.061,
    ),
}


def _log2_ceil(value: int) -> int:
    return (value - 1).bit_length()


def _is_integer(first: FloatFormat, second: FloatFormat) -> bool:
    return first.exponent_bits == 0 and second.exponent_bits == 0


@lru_cache(maxsize=4096)
def mac_area_um2(model: MacModel, first: FloatFormat, second: FloatFormat, accumulator: FloatFormat) -> float:
    """Area of one unit at the node of the fit. Of a block dot-product unit: per lane."""
    m1, m2, ma = first.mantissa_bits, second.mantissa_bits, accumulator.mantissa_bits
    product = (m1 + 1) * (m2 + 1)
    match model:
        case MacModel.PUBLISHED_28NM:
            if _is_integer(first, second):
                return 2.4 * product + 8 * accumulator.bits
            return _published_28nm(3.84, 5.92, product, ma)  # constrained to 500 MHz
        case MacModel.SYNTHESISED_45NM:
            if _is_integer(first, second):  # least squares of relative errors on the 7 units, largest 2.1 %
                return 7.72 * product + 9.76 * accumulator.bits
            wide = max(ma + 1, m1 + m2 + 2) + 3
            shifted = wide + 2
            registers = 1 + accumulator.exponent_bits + ma + first.bits + second.bits
            shift = wide * _log2_ceil(wide) + shifted * _log2_ceil(shifted + 1)
            return 4.67 * product + 3.18 * shift + 10.3 * registers
        case MacModel.BLOCK_DOT:
            return FULL_ADDER_UM2 * block_dot_adders(first, second, BLOCK_LANES)
        case _:
            assert_never(model)


def _published_28nm(per_product: float, per_width: float, product: int, ma: int) -> float:
    width = ma + 4
    return per_product * product + per_width * 2 * width * _log2_ceil(width)


def block_dot_adders(first: FloatFormat, second: FloatFormat, lanes: int) -> float:
    """Full adders per lane of a dot product of `lanes` lanes into one FP32 accumulator.

    Components as Chen et al. count them; a multiplexer of aligner and normaliser weighs half a full adder and the
    accumulator 375, which meets the four relative areas of their table 5 within 6.1 %.
    """
    x = max(first.exponent_bits, second.exponent_bits)
    y1, y2 = first.mantissa_bits, second.mantissa_bits
    width = min((2 << x) + y1 + y2, 24)
    shift = width * math.log2(width) if x else 0.0
    shared = 0.5 * shift + 375
    return (y1 + 1) * (y2 + 1) + width + 3 * x + 0.5 * shift + shared / lanes


@lru_cache(maxsize=4096)
def mac_energy_pj(model: MacModel, first: FloatFormat, second: FloatFormat, accumulator: FloatFormat) -> float:
    """Energy of one multiply-accumulate at the node of the fit. Trust ratios to 25 %."""
    match model:
        case MacModel.PUBLISHED_28NM:
            if _is_integer(first, second):
                return 3.9e-3 * mac_area_um2(model, first, second, accumulator)  # 3.9 fJ/um2 at 750 MHz
            product = (first.mantissa_bits + 1) * (second.mantissa_bits + 1)
            return 2.4e-3 * _published_28nm(4.38, 6.81, product, accumulator.mantissa_bits)  # 2.4 fJ/um2 at 750 MHz
        case MacModel.SYNTHESISED_45NM | MacModel.BLOCK_DOT:
            # product and sum of Horowitz, ISSCC 2014, over the synthesised area: FP32 0.72, FP16 0.76 fJ/um2
            return 0.74e-3 * mac_area_um2(model, first, second, accumulator)
        case _:
            assert_never(model)


def macs_per_256_cycles(
    accelerator: Accelerator, first: FloatFormat, second: FloatFormat, accumulator: FloatFormat
) -> int:
    """Multiply-accumulates of one processing element in 256 cycles. Never fewer for fewer bits.

    A table machine looks up the wider operand. A packing machine splits its lanes into 2, 4, ... for operands of half,
    a quarter, ... of the width, and takes 4, 16, ... passes for twice, four times the width. An iso-area machine has as
    many units as fit into the area of a native one; a fraction of a unit counts as one that works part of the time.
    """
    law = accelerator.throughput
    bits = max(first.bits, second.bits)
    match law.law:
        case ThroughputLaw.TABLE:
            widths = sorted(int(width) for width in law.table)
            for width in widths:
                if bits <= width:
                    return int(256 * law.table[str(width)])
            raise CostError(
                f"operands of {bits} bits are too wide for accelerator '{accelerator.name}', whose table ends at "
                f"{widths[-1]} bits; use a narrower format"
            )
        case ThroughputLaw.PACKING:
            native = _format(accelerator, "native").bits
            lanes, passes = 1, 1
            while bits * lanes * 2 <= native:
                lanes *= 2
            while bits > native * passes:
                passes *= 2
            return max(1, 256 * lanes // passes**2)
        case ThroughputLaw.ISO_AREA:
            own = mac_area_um2(accelerator.mac.model, first, second, accumulator)
            return max(1, int(256 * native_area_um2(accelerator) / own))
        case _:
            assert_never(law.law)


def native_area_um2(accelerator: Accelerator) -> float:
    """Area of one processing element at the node of the fit."""
    native = _format(accelerator, "native")
    return mac_area_um2(accelerator.mac.model, native, native, _format(accelerator, "native_accumulator"))


def _format(accelerator: Accelerator, field: str) -> FloatFormat:
    try:
        return FloatFormat.parse(getattr(accelerator.throughput, field))
    except FormatError as error:
        raise CostError(f"accelerator '{accelerator.name}': throughput.{field}: {error}") from error
