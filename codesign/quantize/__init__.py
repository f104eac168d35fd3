"""Rounding to number formats, and what goes with it.

    round_to_format(x, fmt, rounding=Rounding.NEAREST_EVEN, *, scale=None, axis=None, block=None,
                    seed=None, step=0, out=None, threads=1)

rounds a numpy array or torch tensor `x` (float32, float64, bfloat16, float16) to `scale * round(x / scale)` and returns
it; `out=x` rounds in place. `fmt` is a FloatFormat, its name, or a list of one for each channel of `axis`; `scale` is a
number, one for each channel of `axis`, or one for each `block` neighbours along it.

    absmax_scale(x, fmt, *, axis=None, block=None, rule=ScaleRule.POWER_OF_TWO)

gives such a scale, by which the largest magnitude just fits; `round_scaled(x, fmt, axis=...)` finds and applies it at once.

    encode, decode, pack, unpack                  values, their codes, and codes as dense bits
    matmul(a, b, accumulate, chunk=n)             a product whose running sums are rounded
    allocate(x, bits, axis=0), compare(...)       formats and scales chosen by the numbers themselves
    allocate_mean(x, mean_bits, axis=0)           widths of channels, too
    Moments.of(inputs)                            what a layer reads; allocate(x, bits, inputs=moments) goes by its outputs
    fit_outputs(weights, bits, moments)           the same, each weight rounded for what the others have lost
    numpy_dtype, torch_dtype                      the dtype with the codes of a format, where there is one
"""

from codesign.quantize.accumulate import matmul
from codesign.quantize.allocate import Allocation, allocate, compare
from codesign.quantize.budget import allocate_mean
from codesign.quantize.codes import decode, encode, numpy_dtype, pack, torch_dtype, unpack
from codesign.quantize.histogram import FloatHistogram
from codesign.quantize.moments import Missing, Moments
from codesign.quantize.output_error import OutputFit, corrected
from codesign.quantize.output_fit import fit_outputs
from codesign.quantize.rounding import Rounding, round_to_format
from codesign.quantize.scales import ScaleRule, absmax_scale, round_scaled

__all__ = [
    "Allocation",
    "FloatHistogram",
    "Missing",
    "Moments",
    "OutputFit",
    "Rounding",
    "ScaleRule",
    "absmax_scale",
    "allocate",
    "allocate_mean",
    "compare",
    "corrected",
    "decode",
    "encode",
    "fit_outputs",
    "matmul",
    "numpy_dtype",
    "pack",
    "round_scaled",
    "round_to_format",
    "torch_dtype",
    "unpack",
]
