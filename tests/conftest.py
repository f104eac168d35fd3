"""`CODESIGN_DISTURB=seed`: every test runs with other last bits, see `tests/disturbed.py`."""

import os
from collections.abc import Iterator

import pytest

_SEED = os.environ.get("CODESIGN_DISTURB")

if _SEED is not None:  # before any test imports the package
    from tests import disturbed

    disturbed.install()


@pytest.fixture(autouse=True)
def other_last_bits() -> Iterator[None]:
    """Results of matrix operations as another processor's BLAS might give them, if `CODESIGN_DISTURB` names a seed."""
    if _SEED is None:
        yield
        return
    with disturbed.disturbed(int(_SEED)):
        yield
