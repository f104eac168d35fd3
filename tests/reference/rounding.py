"""Rounding to a minifloat by exact rational arithmetic, one number at a time. Imports nothing of the package."""

import math
from fractions import Fraction


def magnitude(code, mantissa_bits, bias):
    """The value of a magnitude code, also of one past the largest, as a Fraction."""
    field, mantissa = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    significand = Fraction(mantissa, 1 << mantissa_bits) + (1 if field else 0)
    return significand * Fraction(2) ** (max(field, 1) - bias)


def finite_codes(exponent_bits, mantissa_bits, reserved):
    """Number of magnitude codes that are finite values."""
    taken = {"ieee": 1 << mantissa_bits, "fn": 1, "fnuz": 0, "all": 0}[reserved]
    return (1 << exponent_bits + mantissa_bits) - taken


def round_exactly(x, codes, mantissa_bits, bias, *, toward_zero=False, overflow="sat", flush=False):
    """What finite `x` becomes, with the sign of `x`.

    codes : number of finite magnitude codes
    overflow : sat, inf or nan, for what more than the largest value after rounding becomes (nearest-even only)
    """
    exact = abs(Fraction(x))
    low, high = 0, codes  # invariant: magnitude(low) <= exact, and the answer is not above code `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if magnitude(middle, mantissa_bits, bias) <= exact else (low, middle)
    odd = low % 2 == 1 if mantissa_bits else low > 0  # with no mantissa bit every digit but zero's is odd
    lower, upper = magnitude(low, mantissa_bits, bias), magnitude(low + 1, mantissa_bits, bias)
    if exact >= upper:
        code = low + 1
    elif toward_zero:
        code = low
    else:
        code = low + (exact - lower > upper - exact or (exact - lower == upper - exact and odd))
    if code < codes:
        subnormal = code < 1 << mantissa_bits
        result = 0.0 if flush and subnormal else float(magnitude(code, mantissa_bits, bias))
    elif toward_zero or overflow == "sat":
        result = float(magnitude(codes - 1, mantissa_bits, bias))
    else:
        result = {"inf": math.inf, "nan": math.nan}[overflow]
    return math.copysign(result, x)
