"""Each mistake gives one error that says what, got and do. And: an installation that cannot be written still works."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from codesign import FloatFormat, Rounding, round_to_format
from codesign.errors import FormatError, ModelError
from codesign.quantize import decode, encode, pack, unpack
from codesign.quantize.kernels.compiled import compiled

E4M3 = FloatFormat.parse("e4m3fn")
_X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fmt": "fp8"}, FormatError, "'fp8' is not a float format"),
        ({"fmt": []}, FormatError, "a list of a FloatFormat for each channel, got"),
        ({"fmt": ["e4m3", None]}, FormatError, "must be a list of a FloatFormat for each channel, got 'e4m3' in it"),
        ({"fmt": [E4M3, E4M3]}, ModelError, "need axis=; pass the channel axis"),
        ({"fmt": [E4M3, E4M3], "axis": 1}, ModelError, r"2 formats for 3 channels \(axis 1 of \(2, 3\)\)"),
        (
            {"fmt": [E4M3, FloatFormat.parse("e8m0")], "axis": 0},
            FormatError,
            "the unsigned e8m0 cannot be mixed with other formats",
        ),
        ({"fmt": "e3m2b-120"}, FormatError, r"has steps of .*, more than 2\^104; use a larger bias and a scale"),
        ({"axis": 2}, ModelError, r"axis 2 is out of range for shape \(2, 3\); it counts from 0 to 1"),
        ({"axis": -3}, ModelError, "axis -3 is out of range"),
        ({"scale": 0.0}, FormatError, "scale must be positive and finite in float32, got 0"),
        ({"scale": -1.0}, FormatError, "got -1"),
        ({"scale": np.nan}, FormatError, "got nan"),
        ({"scale": np.inf}, FormatError, "got inf"),
        ({"scale": 1e-60}, FormatError, "got 0"),
        ({"scale": np.array([1.0, 0.0, 2.0]), "axis": 1}, FormatError, "got 0 at 1"),
        ({"scale": np.array([1.0, 2.0, 3.0])}, ModelError, "need axis="),
        ({"scale": [1.0, 2.0, 3.0]}, ModelError, "need axis="),
        ({"scale": np.ones(2), "axis": 1}, ModelError, r"scale must be a number or have shape \(3,\) for axis 1"),
        ({"scale": np.ones((2, 3)), "axis": 1}, ModelError, r"shape \(3,\) for axis 1, got \(2, 3\)"),
        ({"block": 2, "axis": 1}, ModelError, "block= needs scale=; for example absmax_scale"),
        ({"block": 2, "scale": np.ones((2, 2))}, ModelError, "need axis="),
        ({"block": 0, "axis": 1, "scale": 1.0}, ModelError, "block must be 1 or more, got 0"),
        (
            {"block": 2, "axis": 1, "scale": np.ones((2, 3))},
            ModelError,
            r"scale of blocks of 2 along axis 1 must have shape \(2, 2\), got \(2, 3\)",
        ),
        ({"block": 2, "axis": 0, "fmt": [E4M3, E4M3], "scale": np.ones((1, 3))}, ModelError, "blocks share one format"),
        ({"fmt": "e8m0", "scale": 2.0}, FormatError, "e8m0 is itself a scale and takes none"),
        ({"rounding": Rounding.STOCHASTIC}, FormatError, "stochastic rounding needs a seed"),
        ({"rounding": Rounding.STOCHASTIC, "seed": 0.5}, ModelError, "seed must be a whole number, got 0.5"),
        ({"axis": 1.0, "scale": 2.0}, ModelError, "axis must be a whole number, got 1.0"),
        ({"fmt": 8}, FormatError, "fmt must be a FloatFormat, its name, or a list"),
        ({"rounding": "up"}, FormatError, "Rounding 'up' is unknown; known: nearest-even"),
        ({"threads": 0}, ModelError, "threads must be 1 or more, got 0"),
        ({"x": np.ones(3, np.int32)}, ModelError, "x must be float32, float64, bfloat16 or float16, got int32"),
        ({"x": np.ones(3, ">f4")}, ModelError, "got >f4"),
        ({"x": torch.ones(3, dtype=torch.float8_e5m2)}, ModelError, "got float8_e5m2"),
        ({"x": [1.0, 2.0]}, ModelError, "x must be a numpy array or a torch tensor, got list"),
        (
            {"out": np.ones((3, 2), np.float32)},
            ModelError,
            r"out must be like x, ndarray \(2, 3\) float32, got ndarray",
        ),
        ({"out": np.ones((2, 3))}, ModelError, "out must be like x"),
        ({"out": torch.ones(2, 3)}, ModelError, "out must be like x"),
        ({"out": np.broadcast_to(np.float32(0), (2, 3))}, ModelError, "out must be writeable"),
        ({"fmt": 8}, FormatError, "fmt must be a FloatFormat, its name, or a list .* got '8'"),
        ({"x": np.ones(3), "fmt": "float32"}, FormatError, "float64 is rounded to at most 21 mantissa bits"),
        ({"x": torch.ones(3).bfloat16(), "fmt": "e5m10"}, FormatError, "the values of 'e5m10' do not all fit bfloat16"),
        ({"x": torch.ones(3).half(), "scale": 0.3}, FormatError, "a scale of float16 must be a power of two"),
    ],
)
def test_rounding(arguments, error, message):
    with pytest.raises(error, match=message):
        round_to_format(**({"x": _X, "fmt": E4M3} | arguments))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5, 2)])
@pytest.mark.parametrize("rounding", Rounding)
def test_an_empty_array_stays_empty(shape, rounding):
    for axis in range(len(shape)):
        x = np.empty(shape, np.float32)
        y = round_to_format(x, E4M3, rounding, scale=np.ones(shape[axis], np.float32), axis=axis, seed=0)
        assert y.shape == shape
    assert round_to_format(torch.empty(shape), E4M3, rounding, seed=0).shape == shape


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: encode(np.array([[1, 0.3]]), E4M3),
            FormatError,
            r"x\[0, 1\] = 0.3 is not a value of 'e4m3fn'; round it",
        ),
        (lambda: encode(np.array([480.0]), E4M3), FormatError, r"x\[0\] = 480.0 is not a value"),
        (lambda: encode(np.array([np.inf]), E4M3), FormatError, r"x\[0\] = inf is not a value"),
        (lambda: encode(np.array([np.nan]), FloatFormat.parse("e2m1")), FormatError, r"x\[0\] = nan is not a value"),
        (lambda: encode(np.array([-2.0]), FloatFormat.parse("e8m0")), FormatError, r"x\[0\] = -2.0 is not a value"),
        (lambda: encode(np.array([0.0]), FloatFormat.parse("e8m0")), FormatError, r"x\[0\] = 0.0 is not a value"),
        (lambda: decode(np.array([16]), FloatFormat.parse("e2m1")), FormatError, "codes of 'e2m1' run from 0 to 15"),
        (lambda: decode(np.array([1.0]), E4M3), ModelError, "codes must be integers, got float64"),
        (
            lambda: unpack(np.zeros(3, np.uint8), FloatFormat.parse("e2m1"), (4,)),
            ModelError,
            r"4 codes of 'e2m1' are packed in uint8 of shape \(2,\), got uint8 \(3,\)",
        ),
        (lambda: pack(np.array([16]), FloatFormat.parse("e2m1")), FormatError, "codes of 'e2m1' run from 0 to 15"),
    ],
)
def test_codes(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_kernel_compiles_where_no_cache_can_be_written(monkeypatch):
    real = numba.njit

    def without_a_place(*arguments, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'kernel': no locator available")
        return real(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_a_place)

    @compiled("void(float32[::1])")
    def kernel(x):
        x[0] = 7

    x = np.zeros(1, np.float32)
    kernel(x)
    assert x[0] == 7


def test_importing_the_package_imports_neither_torch_nor_numba():
    code = "import sys, codesign; print(sorted({'torch', 'numba'} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert result.stdout.strip() == "[]"
