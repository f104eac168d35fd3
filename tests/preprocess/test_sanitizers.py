"""The C filters under AddressSanitizer and UndefinedBehaviorSanitizer, on buffers of exactly the promised size."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
# Not optimised: nothing is folded away before it is checked, and it compiles five times as fast.
FLAGS = ["-std=c11", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", f"-I{CSRC}"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
ISA_FLAGS = {
    "isa_avx2.c": ["-mavx2", "-mfma"],
    "isa_avx512.c": AVX512,
    "isa_vbmi.c": [*AVX512, "-mavx512vbmi", "-mavx512vnni"],
}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_no_filter_leaves_its_buffers(tmp_path):
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    objects = []
    for source in [*sorted((CSRC / "filters").glob("*.c")), Path(__file__).with_name("filters_check.c")]:
        objects.append(str(tmp_path / f"{source.stem}.o"))
        flags = ISA_FLAGS.get(source.name, []) if on_x86 else []
        subprocess.run(["cc", *FLAGS, *flags, "-c", str(source), "-o", objects[-1]], check=True)
    program = tmp_path / "filters_check"
    linked = subprocess.run(["cc", *FLAGS, *objects, "-o", str(program)], capture_output=True, text=True)
    if "cannot find -lasan" in linked.stderr or "libasan" in linked.stderr:
        pytest.skip("the compiler has no AddressSanitizer library")
    assert linked.returncode == 0, linked.stderr
    checked = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    assert checked.returncode == 0, checked.stdout[-2000:] + checked.stderr[-4000:]
