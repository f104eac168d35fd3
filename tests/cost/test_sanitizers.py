"""The C cost core under AddressSanitizer and UndefinedBehaviorSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", f"-I{CSRC}"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_no_count_wraps_and_no_column_is_left(tmp_path):
    program = tmp_path / "cost_check"
    sources = [
        *(CSRC / f"{name}.c" for name in ("cost", "machine", "page", "rows", "scalesim", "schedule", "search", "step")),
        Path(__file__).with_name("cost_check.c"),
    ]
    built = subprocess.run(
        ["cc", *FLAGS, *map(str, sources), "-lm", "-o", str(program)], capture_output=True, text=True
    )
    if "cannot find -lasan" in built.stderr or "libasan" in built.stderr:
        pytest.skip("the compiler has no AddressSanitizer library")
    assert built.returncode == 0, built.stderr
    checked = subprocess.run(
        [str(program)], capture_output=True, text=True, timeout=300, env={"ASAN_OPTIONS": "detect_leaks=0"}
    )
    assert checked.returncode == 0, checked.stdout[-2000:] + checked.stderr[-4000:]
