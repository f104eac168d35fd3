"""Codes and values. Evidence: exhaustive, against a table of every code made by ml_dtypes and gfloat."""

import csv
import gzip
import math
from pathlib import Path

import pytest

from codesign import FloatFormat

_TABLE = Path(__file__).parents[1] / "data" / "format_codes.csv.gz"


def _rows_by_format():
    with gzip.open(_TABLE, "rt") as file:
        table = {}
        for row in csv.DictReader(file):
            table.setdefault(row["format"], []).append(row)
        return table


_ROWS = _rows_by_format()


@pytest.mark.parametrize("name", _ROWS)
def test_every_code_has_the_published_value_and_every_value_that_code(name):
    fmt = FloatFormat.parse(name)
    assert len(_ROWS[name]) == 1 << fmt.bits
    for row in _ROWS[name]:
        code = int(row["code"], 16)
        if row["class"] == "nan":
            assert math.isnan(fmt.decode(code))
        else:
            assert fmt.decode(code) == float.fromhex(row["value_hexfloat"])
            assert math.copysign(1, fmt.decode(code)) == math.copysign(1, float.fromhex(row["value_hexfloat"]))
            assert fmt.encode(fmt.decode(code)) == code


@pytest.mark.parametrize("name", _ROWS)
def test_the_values_are_the_finite_ones_of_the_table_and_their_ends_the_properties(name):
    fmt = FloatFormat.parse(name)
    of_class = {}
    for row in _ROWS[name]:
        if row["class"] != "nan":
            of_class.setdefault(row["class"], []).append(float.fromhex(row["value_hexfloat"]))
    finite = [value for kind in ("zero", "subnormal", "normal") for value in of_class.get(kind, [])]
    assert fmt.values() == sorted(set(finite))
    assert fmt.max == max(finite)
    assert fmt.min_normal == min(abs(value) for value in of_class["normal"])
    subnormal = [abs(value) for value in of_class.get("subnormal", [])]
    assert fmt.min_subnormal == (min(subnormal) if subnormal else None)
    assert fmt.has_infinity == ("inf" in of_class)
    assert fmt.has_nan == any(row["class"] == "nan" for row in _ROWS[name])


@pytest.mark.parametrize("name", ["e4m3fn", "e4m3fnuz", "e5m2"])
def test_nan_has_a_code(name):
    fmt = FloatFormat.parse(name)
    assert math.isnan(fmt.decode(fmt.encode(math.nan)))
