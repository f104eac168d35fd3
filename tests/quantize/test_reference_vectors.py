"""Rounding. Evidence: an independent oracle, 21,534 roundings on which ml_dtypes, gfloat and an exact table agree.

The bits are promised on any machine: the table is exact, and so is rounding.
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign import FloatFormat, Rounding, round_to_format
from codesign.formats import Overflow
from codesign.quantize.paths.integer import round_tensor
from codesign.quantize.paths.layout import ChannelFormats, RoundingJob

_TABLE = Path(__file__).parents[1] / "data" / "quantizer_vectors.csv.gz"


def _rows_by_format():
    with gzip.open(_TABLE, "rt") as file:
        table = {}
        for row in csv.DictReader(file):
            table.setdefault(row["format"], []).append(row)
        return table


_ROWS = _rows_by_format()


def _floats(words):
    return np.array([0x7FC00000 if word == "nan" else int(word, 16) for word in words], np.uint32).view(np.float32)


def _as_words(values):
    return np.where(np.isnan(values), 0x7FC00000, values.view(np.uint32))


def _not_saturating(fmt):
    if fmt.has_infinity:
        overflow = Overflow.INFINITY
    elif fmt.has_nan:
        overflow = Overflow.NAN
    else:
        return fmt  # the table has no row where it matters
    fields = {name: getattr(fmt, name) for name in ("bias", "reserved", "signed")}
    return FloatFormat.of(fmt.exponent_bits, fmt.mantissa_bits, overflow=overflow, **fields)


def _in_torch_integers(x, fmt, rounding):
    job = RoundingJob(
        rounding=rounding, formats=ChannelFormats.of([fmt]), scale=None, axis=0, block=None, key=(0, 0), threads=1
    )
    return round_tensor(torch.from_numpy(x), job).numpy()


@pytest.mark.parametrize("path", [round_to_format, _in_torch_integers], ids=["cpu", "torch integers"])
@pytest.mark.parametrize("column", ["sat_f32", "nonsat_f32", "rtz_f32"])
@pytest.mark.parametrize("name", _ROWS)
def test_every_row_matches(name, column, path):
    rows = [row for row in _ROWS[name] if row[column]]
    assert rows
    fmt = FloatFormat.parse(name)
    if column == "nonsat_f32":
        fmt = _not_saturating(fmt)
    rounding = Rounding.TOWARD_ZERO if column == "rtz_f32" else Rounding.NEAREST_EVEN
    got = path(_floats([row["in_f32"] for row in rows]), fmt, rounding)
    assert np.array_equal(_as_words(got), _as_words(_floats([row[column] for row in rows])))
