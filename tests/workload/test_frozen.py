"""Every number of every network stays what it was. The data was written when torch.export read the networks."""

import gzip
import json

import pytest

from codesign import Workload
from codesign.workload import builtin_workload
from tests.workload import frozen

FROZEN = json.loads(gzip.decompress(frozen.PATH.read_bytes())) if frozen.PATH.is_file() else {}
CASES = frozen.cases()


@pytest.mark.parametrize("name", [name for name, held in FROZEN.items() if "layers" in held])
def test_numbers_are_those_that_were_frozen(name):
    if name.startswith("builtin "):
        workload = builtin_workload(name.removeprefix("builtin "), batch=64)
    else:
        workload = Workload.from_torch(*CASES[name]())
    found, held = frozen.written_down(workload), FROZEN[name]
    assert found["batch"] == held["batch"]
    assert found["layers"] == held["layers"]
