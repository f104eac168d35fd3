"""Number formats: a sign, E exponent bits, M mantissa bits (the hidden bit is not counted), and policies for the ends.

A format is named by one word that `FloatFormat.parse` reads and `str` writes back, always in the same, shortest form:

    e<E>m<M>[b<bias>][ieee|fn|fnuz|all][-<policy>]...

    ieee, fn, fnuz, all   which top codes are taken by infinity and NaN, see `Reserved`; left out: `ieee` from 8 bits
                          on, `all` below (as in the OCP microscaling formats) and for integers (E = 0)
    b<bias>               left out: 2^(E-1) - 1, one more for fnuz; for integers the one that makes the step 1
    -flush                numbers below the smallest normal one become zero
    -inf, -nan            finite overflow becomes infinity or NaN; left out, it saturates to the largest value
    -keepinf, -infnan     an infinite input stays infinite or becomes NaN; left out, it is an overflow like any other
    -nanzero              a NaN input becomes zero; left out, it stays NaN
    -signed               `e8m0` alone is the unsigned scale of the microscaling formats; `e8m0-signed` has a sign

    >>> e4m3 = FloatFormat.parse("float8_e4m3fn")
    >>> str(e4m3), e4m3.max, e4m3.min_normal, e4m3.min_subnormal
    ('e4m3fn', 448.0, 0.015625, 0.001953125)

Sources: IEEE 754-2019; OCP 8-bit Floating Point Specification (OFP8) rev. 1.0, 2023 (e4m3fn, e5m2); OCP Microscaling
Formats (MX) rev. 1.0, 2023 (e3m2, e2m3, e2m1, e8m0); Noune et al. 2022, arXiv 2206.02915 (fnuz).

Where to read: `FloatFormat.round` in `format.py` is the definition of rounding, which every fast path is tested against;
`policies.py` has the members of each policy; `names.py` the grammar above.
"""

from codesign.formats.format import FLOAT32, FloatFormat, as_format
from codesign.formats.policies import (
    InfiniteInput,
    NanInput,
    Overflow,
    Reserved,
    Rounding,
    Subnormals,
    as_member,
)

__all__ = [
    "FLOAT32",
    "FloatFormat",
    "InfiniteInput",
    "NanInput",
    "Overflow",
    "Reserved",
    "Rounding",
    "Subnormals",
    "as_format",
    "as_member",
]
