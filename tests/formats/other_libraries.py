"""Formats of this package as other libraries know them, to compare roundings and codes with theirs."""

from gfloat import Domain, FormatInfo, RoundMode

from codesign.formats import Reserved, Rounding

ML_DTYPES = {
    "float8_e4m3fn": "e4m3fn-nan",
    "float8_e5m2": "e5m2-inf",
    "float8_e4m3": "e4m3-inf",
    "float8_e3m4": "e3m4-inf",
    "float8_e4m3fnuz": "e4m3fnuz-nan",
    "float8_e5m2fnuz": "e5m2fnuz-nan",
    "float8_e4m3b11fnuz": "e4m3b11fnuz-nan",
    "float6_e3m2fn": "e3m2",
    "float6_e2m3fn": "e2m3",
    "float4_e2m1fn": "e2m1",
    "bfloat16": "bfloat16-inf",
}  # dtype of ml_dtypes: the format with the same codes and the same overflow

GFLOAT_ROUNDINGS = {Rounding.NEAREST_EVEN: RoundMode.TiesToEven, Rounding.TOWARD_ZERO: RoundMode.TowardZero}


def gfloat_format(fmt):
    """A signed format, its policies apart."""
    return FormatInfo(
        name="any",
        k=fmt.bits,
        precision=fmt.mantissa_bits + 1,
        bias=fmt.bias,
        is_signed=True,
        domain=Domain.Extended if fmt.has_infinity else Domain.Finite,
        has_nz=fmt.reserved is not Reserved.FNUZ,
        num_high_nans={"ieee": (1 << fmt.mantissa_bits) - 1, "fn": 1, "fnuz": 0, "all": 0}[fmt.reserved],
        has_subnormals=True,
        is_twos_complement=False,
    )


def gfloat_comparable(fmt):
    """gfloat 0.5.2 knows no integers, with M = 0 takes ties to the even *code*, and saturates formats without normal
    numbers (E = 1 with the top exponent reserved) to a number that is none of their values."""
    return fmt.min_normal is not None and fmt.mantissa_bits > 0
