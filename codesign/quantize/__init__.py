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
    Moments.of(inputs)                            what a layer reads, for choices that go by its outputs:
    allocate_for_outputs(x, bits, moments)        the least error of the outputs, rounded to nearest
    fit_outputs(x, bits, moments)                 the same, each weight rounded for what the others have lost
    numpy_dtype, torch_dtype                      the dtype with the codes of a format, where there is one

Three modules are imported when they are asked for, as in `from codesign.quantize import checkpoint`:

    checkpoint    safetensors and torch files in, packed files out and in
    prepared      roundings that come back at every training step (needs torch)
    proof         a walk over all 2^32 float32 inputs
"""

from codesign.formats import Rounding
from codesign.quantize.accumulate import matmul
from codesign.quantize.allocate import METHODS, Allocation, allocate, compare, split
from codesign.quantize.budget import WATER_FILLING, allocate_mean
from codesign.quantize.codes import decode, encode, numpy_dtype, pack, torch_dtype, unpack
from codesign.quantize.histogram import FloatHistogram
from codesign.quantize.moments import Missing, Moments
from codesign.quantize.output_error import OutputFit, allocate_for_outputs, corrected
from codesign.quantize.output_fit import fit_outputs
from codesign.quantize.rounding import round_to_format
from codesign.quantize.scales import ScaleRule, absmax_scale, round_scaled

__all__ = [
    "METHODS",
    "WATER_FILLING",
    "Allocation",
    "FloatHistogram",
    "Missing",
    "Moments",
    "OutputFit",
    "Rounding",
    "ScaleRule",
    "absmax_scale",
    "allocate",
    "allocate_for_outputs",
    "allocate_mean",
    "checkpoint",
    "compare",
    "corrected",
    "decode",
    "encode",
    "fit_outputs",
    "matmul",
    "numpy_dtype",
    "pack",
    "prepared",
    "proof",
    "round_scaled",
    "round_to_format",
    "split",
    "torch_dtype",
    "unpack",
]
