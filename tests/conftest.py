"""Settings of the whole suite.

`CODESIGN_DISTURB=seed`: every test runs with other last bits, see `tests/disturbed.py`.
`pytest --hypothesis-profile=explore`: properties draw new examples. Else they draw the same ones in every run, so that a
suite that is green here is green elsewhere.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadlines: a first call compiles, and a shared machine stalls.
settings.register_profile("explore", deadline=None)
settings.register_profile("repeat", deadline=None, derandomize=True)
settings.load_profile("repeat")

_SEED = os.environ.get("CODESIGN_DISTURB")

if _SEED is not None:  # before any test imports the package
    from tests import disturbed

    disturbed.install()


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker."""
    config.addinivalue_line(
        "markers", "exact_products(why): every product in the test is exact in any order, so no BLAS changes a bit"
    )


@pytest.fixture(autouse=True)
def other_last_bits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Results of matrix operations as another processor's BLAS might give them, if `CODESIGN_DISTURB` names a seed."""
    if _SEED is None or request.node.get_closest_marker("exact_products") is not None:
        yield
        return
    with disturbed.disturbed(int(_SEED)):
        yield
