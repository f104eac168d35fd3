"""No cost moves: every number is, to the last digit, what it was when it was frozen. A change that is meant freezes anew.

Compared with `==`: costs are whole numbers of cycles and bits, divided once; every step is one IEEE operation, and no
result of a BLAS or of the C library's logarithm is among them.
"""

import gzip
import json
from pathlib import Path

import pytest

from tests.cost import frozen

DATA = Path(__file__).parents[1] / "data" / "costs.json.gz"


@pytest.fixture(scope="module")
def known() -> dict:
    return json.loads(gzip.decompress(DATA.read_bytes()))


@pytest.mark.parametrize("part", ["steps", "layers", "sweeps", "options"])
def test_no_number_moves(part, known):
    for pair, expected in known[part].items():
        assert getattr(frozen, part)(*pair.split(" on ")) == expected, pair


def test_no_number_of_scales_and_optimizers_moves(known):
    assert {name: frozen.variants(name) for name in known["variants"]} == known["variants"]
