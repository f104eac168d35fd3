"""Every policy, everywhere. Evidence: each path gives the bits of `FloatFormat.round` at every decision of a small format.

A new member of a policy is drawn from its enumeration here; what does not handle it fails. The bits are promised on any
machine: they are integer operations, or float32 operations whose results are exact.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import find, given
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding, round_to_format
from codesign.cli import main
from codesign.errors import FormatError
from codesign.formats import InfiniteInput, NanInput, Overflow, Reserved, Subnormals
from codesign.quantize.paths.integer import round_tensor
from codesign.quantize.paths.layout import ChannelFormats, RoundingJob
from codesign.quantize.proof import decisions
from codesign.quantize.rounding import stochastic_key
from codesign.testing import float32_near_ties, float32s, float_formats
from tests.reference.random_bits import random_bits, random_key

_FIELDS = {
    "reserved": Reserved,
    "subnormals": Subnormals,
    "overflow": Overflow,
    "infinite_input": InfiniteInput,
    "nan_input": NanInput,
}
_MEMBERS = [(field, member) for field, kind in _FIELDS.items() for member in kind]
_SEED, _STEP = 5, 7


def _formats_with(field, member):
    """Small formats with this policy, one for each choice of reserved codes that can have it."""
    found = []
    for (exponent_bits, mantissa_bits), reserved in itertools.product([(3, 2), (2, 0), (0, 3)], Reserved):
        try:
            found.append(FloatFormat.of(exponent_bits, mantissa_bits, **{"reserved": reserved, field: member}))
        except FormatError:
            continue
    assert found, f"no format has {field} {member}"
    return [fmt for fmt in found if getattr(fmt, field) is member]


def _hard_numbers(fmt):
    """Every value and midpoint of two, the float32 numbers beside them, and the ends."""
    values = np.array([*fmt.values(), min(2 * fmt.max + fmt.quantum, 2.0**127)], np.float32)
    centers = np.concatenate([values, values[1:] / 2 + values[:-1] / 2])  # halved first: the sum may leave float32
    beside = [np.nextafter(centers, np.float32(side)) for side in (-np.inf, np.inf)]
    ends = np.array([np.inf, np.nan, 0.0, -0.0, 2.0**-149, 2.0**-126, 3e38, -np.inf], np.float32)
    return np.concatenate([centers, *beside, ends])


def _defined(fmt, x, rounding):
    if rounding is not Rounding.STOCHASTIC:
        return np.array([fmt.round(number, rounding) for number in x.tolist()], np.float32)
    key = random_key(_SEED, _STEP)
    bits = [random_bits(i, key) for i in range(len(x))]
    return np.array([fmt.round(n, rounding, random_bits=b) for n, b in zip(x.tolist(), bits, strict=True)], np.float32)


def _by_integers(x, fmt, rounding):
    key = stochastic_key(rounding, _SEED, _STEP)
    formats = ChannelFormats.of([fmt])
    job = RoundingJob(rounding=rounding, formats=formats, scale=None, axis=0, block=None, key=key, threads=1)
    return round_tensor(torch.from_numpy(x), job).numpy()


def _by_decisions(x, fmt, rounding):
    """What the proof compares with."""
    first, result = decisions(fmt, rounding)
    bits = x.view(np.uint32)
    magnitude = result[np.searchsorted(first, bits & np.uint32(0x7FFFFFFF), side="right") - 1].view(np.float32)
    return np.where((magnitude == 0) & (not fmt.has_minus_zero), magnitude, np.copysign(magnitude, x))


def _assert_same(got, expected, x, what):
    nan = np.isnan(got) & np.isnan(expected)
    differing = ~(nan | (got.view(np.uint32) == expected.view(np.uint32)))
    assert not differing.any(), (what, x[differing][:4], got[differing][:4], expected[differing][:4])


def _assert_every_path_is_as_defined(x, fmt, rounding):
    expected = _defined(fmt, x, rounding)
    stochastic = {"seed": _SEED, "step": _STEP}
    _assert_same(round_to_format(x, fmt, rounding, **stochastic), expected, x, f"{fmt}: fast path")
    _assert_same(round_to_format(x, fmt, rounding, axis=0, **stochastic), expected, x, f"{fmt}: general path")
    if fmt.signed:
        _assert_same(_by_integers(x, fmt, rounding), expected, x, f"{fmt}: torch integers")
        if rounding is not Rounding.STOCHASTIC:
            _assert_same(_by_decisions(x, fmt, rounding), expected, x, f"{fmt}: decisions of the proof")


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(("field", "member"), _MEMBERS)
def test_every_path_gives_every_policy_as_defined(field, member, rounding):
    for fmt in _formats_with(field, member):
        _assert_every_path_is_as_defined(_hard_numbers(fmt), fmt, rounding)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e4m3fnuz", "e2m1", "e3m2", "e2m3", "e8m0", "e8m0-flush"])
def test_every_path_gives_the_named_formats_as_defined(name, rounding):
    fmt = FloatFormat.parse(name)
    _assert_every_path_is_as_defined(_hard_numbers(fmt), fmt, rounding)


@given(st.data(), st.sampled_from(Rounding))
def test_every_path_gives_any_format_as_defined(data, rounding):
    fmt = data.draw(float_formats())
    x = data.draw(st.lists(float32_near_ties(fmt) | float32s(), min_size=1, max_size=20))
    _assert_every_path_is_as_defined(np.array(x, np.float32), fmt, rounding)


@pytest.mark.parametrize(("field", "member"), _MEMBERS)
def test_a_policy_has_a_name_a_description_and_is_drawn_by_the_strategy(field, member, capsys):
    fmt = _formats_with(field, member)[0]
    assert FloatFormat.parse(str(fmt)) == fmt
    assert main(["formats", str(fmt)]) == 0
    assert find(float_formats(), lambda drawn: getattr(drawn, field) is member)
