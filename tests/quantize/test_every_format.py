"""Rounding to every format. Evidence: exhaustive at every decision of every E <= 8, M <= 10; a rational oracle.

The bits are promised on any machine: integer operations and exact float32 ones.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding, round_to_format
from codesign.errors import FormatError
from codesign.formats import NanInput, Overflow, Reserved, Subnormals
from codesign.quantize.paths.integer import round_tensor
from codesign.quantize.paths.layout import ChannelFormats, RoundingJob
from codesign.quantize.proof import decisions, prove
from codesign.testing import float32_near_ties, float32s, float_formats
from tests.reference.rounding import finite_codes, round_exactly

_BOTH = [Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO]


def _same(got, expected):
    nan = np.isnan(got) & np.isnan(expected)
    return bool(((got.view(np.uint32) == expected.view(np.uint32)) | nan).all())


def _job(fmt, rounding):
    formats = ChannelFormats.of([fmt])
    return RoundingJob(rounding=rounding, formats=formats, scale=None, axis=0, block=None, key=(7, 11), threads=1)


def _formats(exponent_bits, mantissa_bits):
    """The format with each choice of reserved codes that it can have, and with other policies."""
    for reserved in Reserved:
        for subnormals in Subnormals:
            try:
                yield FloatFormat.of(
                    exponent_bits, mantissa_bits, reserved=reserved, subnormals=subnormals, signed=True
                )
            except FormatError:  # for example the top binade of E = 8, which only `ieee` keeps within float32
                continue


def _on_both_sides_of_every_decision(fmt, rounding):
    """(inputs, results): the first and the last float32 that gives each result, of either sign."""
    first, result = decisions(fmt, rounding)
    last = np.append(first[1:], np.uint32(0x80000000)) - np.uint32(1)
    bits, expected = np.concatenate([first, last]), np.concatenate([result, result]).view(np.float32)
    negative = np.where(expected == 0, np.float32(0), -expected) if fmt.reserved is Reserved.FNUZ else -expected
    inputs = np.concatenate([bits, bits | np.uint32(0x80000000)]).view(np.float32)
    return inputs, np.concatenate([expected, negative])


@pytest.mark.parametrize("rounding", _BOTH)
@pytest.mark.parametrize("exponent_bits", range(9))
def test_every_decision_of_every_format_falls_at_the_right_float32(exponent_bits, rounding):
    for mantissa_bits in range(11):
        for fmt in _formats(exponent_bits, mantissa_bits):
            inputs, expected = _on_both_sides_of_every_decision(fmt, rounding)
            assert _same(round_to_format(inputs, fmt, rounding), expected), fmt


@pytest.mark.parametrize("rounding", _BOTH)
@pytest.mark.parametrize("exponent_bits", range(9))
def test_torch_integers_decide_every_decision_of_every_format_alike(exponent_bits, rounding):
    for mantissa_bits in range(11):
        fmt = FloatFormat.of(exponent_bits, mantissa_bits, signed=True)
        inputs, expected = _on_both_sides_of_every_decision(fmt, rounding)
        assert _same(round_tensor(torch.from_numpy(inputs), _job(fmt, rounding)).numpy(), expected), fmt


# One format for each route to the loops: fast formula, general formula, without minus zero, without a sign. Each walk rounds
# 2^32 numbers; the decisions of all other formats are tested one by one above.
@pytest.mark.parametrize("name", ["e4m3fn", "bfloat16", "e4m3fnuz", "e8m0"])
def test_a_named_format_is_proven_on_all_float32_inputs(name):
    proof = prove(FloatFormat.parse(name))
    assert proof.holds, proof
    assert proof.inputs == 1 << 32


def test_a_proof_finds_a_single_wrong_decision(monkeypatch):
    fmt = FloatFormat.parse("e2m1")
    first, result = decisions(fmt, Rounding.NEAREST_EVEN)
    first[3] += 1  # as if the decision fell one float32 later
    monkeypatch.setattr("codesign.quantize.proof.decisions", lambda fmt, rounding: (first, result))
    proof = prove(fmt)
    assert (proof.wrong, proof.first_wrong) == (2, int(first[3]) - 1)  # one input of either sign


@given(st.data())
@settings(max_examples=300)
def test_a_number_becomes_what_rational_arithmetic_says(data):
    fmt = data.draw(float_formats())
    x = data.draw(float32_near_ties(fmt) | float32s().filter(np.isfinite))
    rounding = data.draw(st.sampled_from(_BOTH))
    codes = finite_codes(fmt.exponent_bits, fmt.mantissa_bits, fmt.reserved)
    expected = round_exactly(
        x,
        codes,
        fmt.mantissa_bits,
        fmt.bias,
        toward_zero=rounding is Rounding.TOWARD_ZERO,
        overflow=fmt.overflow,
        flush=fmt.subnormals is Subnormals.FLUSH,
    )
    got = round_to_format(np.array([x], np.float32), fmt, rounding)
    if fmt.reserved is Reserved.FNUZ and expected == 0:
        expected = 0.0
    assert _same(got, np.array([expected], np.float32)), (fmt, x, got, expected)


@given(float_formats(), st.sampled_from(_BOTH))
def test_the_ends_follow_the_policies(fmt, rounding):
    infinity, nan = round_to_format(np.array([np.inf, np.nan], np.float32), fmt, rounding)
    assert np.array_equal(nan, {NanInput.KEEP: np.nan, NanInput.ZERO: 0.0}[fmt.nan_input], equal_nan=True)
    overflowed = {Overflow.SATURATE: fmt.max, Overflow.INFINITY: np.inf, Overflow.NAN: np.nan}[fmt.overflow]
    expected = {"overflow": overflowed, "keepinf": np.inf, "infnan": np.nan}[fmt.infinite_input]
    assert np.array_equal(infinity, expected, equal_nan=True)


@given(st.data())
def test_torch_integers_give_the_same_bits(data):
    fmt = data.draw(float_formats())
    x = np.array(data.draw(st.lists(float32_near_ties(fmt) | float32s(), min_size=1, max_size=50)), np.float32)
    rounding = data.draw(st.sampled_from(Rounding))
    job = _job(fmt, rounding)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    there = round_tensor(torch.from_numpy(x).to(device), job).cpu().numpy()
    here = x.copy()
    from codesign.quantize.paths.layout import round_array

    round_array(here, here, job)
    assert _same(there, here)


@pytest.mark.parametrize("rounding", Rounding)
def test_float32_is_the_identity(rounding):
    x = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
    x[:3] = np.inf, -np.inf, -0.0
    assert _same(round_to_format(x, "float32", rounding, seed=0), x)


@given(st.data())
def test_float64_and_16_bit_inputs_are_rounded_once(data):
    fmt = data.draw(float_formats(policies=False))
    number = data.draw(st.floats(-2 * fmt.max, 2 * fmt.max) | float32_near_ties(fmt))
    nudge = data.draw(st.sampled_from([0.0, 2.0**-40, -(2.0**-40)]))  # invisible in float32, decides a tie in float64
    x = np.array([number * (1 + nudge)])
    codes = finite_codes(fmt.exponent_bits, fmt.mantissa_bits, fmt.reserved)
    expected = abs(round_exactly(Fraction(x[0]), codes, fmt.mantissa_bits, fmt.bias))
    assert abs(round_to_format(x, fmt)[0]) == expected
    assert abs(round_to_format(torch.from_numpy(x), fmt)[0].item()) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_16_bit_number_is_rounded_as_its_float32(dtype):
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype)
    for name in ("e4m3fn", "e5m2", "e2m1", "e3m2-flush"):
        got = round_to_format(every, FloatFormat.parse(name), scale=0.25)
        assert got.dtype == dtype
        wide = round_to_format(every.float(), FloatFormat.parse(name), scale=0.25)
        assert torch.equal(got.float().nan_to_num(), wide.nan_to_num())
