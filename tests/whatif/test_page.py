"""The page moved by hand in a real browser says what `codesign simulate --json` says, to the last digit."""

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from codesign.cli import main
from codesign.hardware import load_accelerator, preset_path
from codesign.whatif import what_if_page
from codesign.workload import builtin_workload
from tests.whatif.browser import CHROMIUM, dump, record

CSRC = Path(__file__).parents[2] / "csrc"
FORMAT_ROLES = ("weight", "activation", "error", "gradient", "accumulator", "optimizer_state")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

# Moves random sliders and selects, as a hand would, and writes down what the page says after each move.
MOVES = """
<pre id="moves"></pre><script>
let seed = %d;
const random = n => (seed = (seed * 48271) %% 2147483647, seed %% n);
const said = [];
for (let i = 0; i < %d; ++i) {
  const inputs = [...document.querySelectorAll("#controls input, #controls select")];
  for (let j = 0; j < 4; ++j) {
    const x = inputs[random(inputs.length)];
    x.value = x.type === "range" ? random(+x.max + 1) : x.options[random(x.options.length)].value;
    x.dispatchEvent(new Event("input"));
  }
  said.push(JSON.parse(document.getElementById("result").textContent));
}
document.getElementById("moves").textContent = JSON.stringify(said);
</script></body>"""


def moved(page: str, seed: int, moves: int, folder: Path) -> list[dict]:
    path = folder / "page.html"
    path.write_text(page.replace("</body>", MOVES % (seed, moves)), encoding="utf-8")
    return record(dump(path, folder / "profile"), "moves")


def simulated(said: dict, workload: str, accelerator: str, folder: Path, capsys: pytest.CaptureFixture) -> dict | str:
    """What the command line says about the page's state; its message where it refuses."""
    state = said["state"]
    machine = preset_path(accelerator).read_text()
    flows = [name for i, name in enumerate(("os", "ws", "is")) if state["dataflows"] >> i & 1]
    changes = {
        "rows": state["rows"], "cols": state["cols"], "count": state["arrays"], "clock_hz": state["clock_hz"],
        "bandwidth_bytes_per_s": state["bandwidth_bytes_per_s"],
    }  # fmt: skip
    lines, part = [], ""
    for line in machine.splitlines():
        part = line if line.startswith("[") else part
        name = line.partition(" =")[0]
        if name in changes:
            line = f"{name} = {changes[name]!r}"
        elif name == "dataflows":
            line = f"dataflows = {json.dumps(flows)}"
        elif name == "capacity_bytes" and part == "[sram]":
            line = f"capacity_bytes = {state['sram_bytes']}"
        lines.append(line)
    (folder / "machine.toml").write_text("\n".join(lines))
    roles = ", ".join(f'{role} = "{state[role]}"' for role in FORMAT_ROLES)
    (folder / "formats.toml").write_text(f"default = {{ {roles} }}\n")
    status = main(
        [
            "simulate", workload, "-a", str(folder / "machine.toml"), "--formats", str(folder / "formats.toml"),
            "--batch", str(state["batch"]), "--keep", str(state["keep"]), "--json",
        ]
    )  # fmt: skip
    out, err = capsys.readouterr()
    return json.loads(out) if status == 0 else err


@needs_chromium
@pytest.mark.parametrize(
    ("workload", "accelerator", "moves"),
    [("vgg16-cifar", "edge", 30), ("vgg11-cifar", "h100", 10), ("mobilenet-v2", "tpuv3", 4), ("vit-b16", "edge", 3)],
)
def test_every_number_of_the_page_is_that_of_the_command_line(workload, accelerator, moves, tmp_path, capsys):
    page = what_if_page(builtin_workload(workload, batch=128), load_accelerator(accelerator))
    compared = 0
    for said in moved(page, random.Random(7).randrange(1, 2**31), moves, tmp_path):
        expected = simulated(said, workload, accelerator, tmp_path, capsys)
        if "problem" in said:
            assert isinstance(expected, str), (said, expected)
            continue
        assert isinstance(expected, dict), expected
        for name in ("latency_s", "energy_j", "traffic_bits", "area_um2", "utilisation"):
            assert said[name] == expected[name], name
        for phase, cost in said["phases"].items():
            for name, value in cost.items():
                assert value == expected["phases"][phase][name], (phase, name)
        for ours, theirs in zip(said["layers"], expected["layers"], strict=True):
            for name, value in ours.items():
                assert value == theirs[name], (ours["layer"], ours["phase"], name)
        compared += 1
    assert compared > moves // 3


@needs_chromium
def test_an_address_restores_a_state_and_a_mistake_in_it_changes_nothing(tmp_path):
    path = tmp_path / "page.html"
    machine = load_accelerator("edge")
    text = what_if_page(builtin_workload("vgg-digits", batch=64), machine)
    script = "<script>location.hash='rows=24&cols=-3&weight=e2m1&error=nonsense&other=1';</script></head>"
    path.write_text(text.replace("</head>", script), encoding="utf-8")
    state = record(dump(path, tmp_path / "profile"), "result")["state"]
    assert (state["rows"], state["cols"]) == (24, machine.array.cols)
    assert (state["weight"], state["error"]) == ("e2m1", "e8m7")


@pytest.mark.skipif(not (shutil.which("clang") and shutil.which("wasm-ld")), reason="no clang or wasm-ld on the path")
def test_the_program_in_the_page_is_made_from_the_sources_that_are_here(tmp_path):
    """Byte for byte, if the compiler is the one that made the copy: others write other bytes."""
    built = tmp_path / "page.wasm"
    subprocess.run(["sh", str(CSRC / "page.sh"), str(built)], check=True)
    kept = (CSRC.parent / "codesign" / "whatif" / "page.wasm").read_bytes()
    version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    if "version 14." not in version:
        pytest.skip(f"page.wasm is from clang 14; here is {version.splitlines()[0]}")
    assert built.read_bytes() == kept, "sh csrc/page.sh $PWD/codesign/whatif/page.wasm"


def test_the_page_asks_for_nothing_from_anywhere_and_its_title_is_escaped():
    network = replace(builtin_workload("vgg-digits", batch=64), name="a</script><b>")
    page = what_if_page(network, load_accelerator("edge"))
    assert "<title>a&lt;/script&gt;&lt;b&gt; on edge" in page
    assert not any(word in page for word in ("https://", "http://", "<link", "@import", "src=", "fetch("))
    assert page.count("</script>") == 3
