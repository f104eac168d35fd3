"""The filters' C interface stands alone. Evidence: each header is read without the other; a wrong ABI number is refused."""

import re
from pathlib import Path

import cffi
import pytest

from codesign import native

CSRC = Path(__file__).parents[2] / "csrc"
BEGIN, END = "/* cdef: begin */", "/* cdef: end */"


def _declared(header):
    """What a header declares to Python; parsed without the other header, so that it stands alone."""
    declarations = (CSRC / header).read_text().split(BEGIN)[1].split(END)[0]
    cffi.FFI().cdef(declarations)
    return set(re.findall(r"\bcs_\w+", declarations, re.IGNORECASE))


def test_the_two_headers_declare_nothing_in_common_and_include_nothing_of_each_other():
    simulator, filters = _declared("codesign.h"), _declared("filters/filters.h")
    assert "cs_cost_searched" in simulator and "cs_box_u8" in filters
    assert not simulator & filters
    assert "filters/" not in (CSRC / "codesign.h").read_text()
    for source in (CSRC / "filters").glob("*.[ch]"):
        assert 'codesign.h"' not in source.read_text(), source.name


@pytest.mark.parametrize(
    ("part", "function"), [("core", "cs_abi_version"), ("image filters", "cs_filters_abi_version")]
)
def test_another_abi_is_refused_with_the_mend(part, function):
    built = getattr(native.lib, function)()
    native._check_abi(part, function, built)
    with pytest.raises(
        ImportError, match=f"the compiled {part} has ABI {built}, this Python code needs {built + 1}; rebuild"
    ):
        native._check_abi(part, function, built + 1)


def test_a_library_older_than_the_number_is_refused():
    with pytest.raises(ImportError, match="has ABI 0"):
        native._check_abi("image filters", "cs_no_such_function", 1)
