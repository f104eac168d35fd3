"""Kinds of operations: each has names, and no name has two kinds."""

from collections import Counter

import pytest

from codesign.network import OperationKind, kinds


@pytest.mark.parametrize("kind", [kind for kind in OperationKind if kind is not OperationKind.UNKNOWN])
def test_a_kind_has_names(kind):
    assert kinds._NAMES[kind].split()


def test_a_name_has_one_kind():
    named = Counter(name for names in kinds._NAMES.values() for name in names.split())
    assert [name for name, count in named.items() if count > 1] == []
