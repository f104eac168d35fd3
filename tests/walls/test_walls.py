"""The walls that ARCHITECTURE.md promises, and that each of them would refuse what it forbids."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.walls.imports import circles, past_the_face

ROOT = Path(__file__).parents[2]

# One forbidden import for each contract of pyproject.toml: contract -> (file it is planted in, the import).
PLANTS = {
    "Arrows only point down": ("codesign/errors.py", "import codesign.design"),
    "The search knows neither networks nor machines": ("codesign/search/front.py", "import codesign.cost.report"),
    "The cost model knows no training": ("codesign/cost/report.py", "import torch"),
    "Nouns load no torch": ("codesign/hardware/load.py", "import torch"),
    "Training knows neither costs nor the search": ("codesign/nn/recipe.py", "import codesign.cost.report"),
    "One door to the compiled core": ("codesign/cost/batch.py", "from codesign._core import lib"),
}

# The checkout's own sources, not those that an editable installation points to.
LINT = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
sys.path.insert(0, ".")
from importlinter.cli import lint_imports
sys.exit(lint_imports(no_cache=True))
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the package's sources and of the contracts."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "codesign", folder / "codesign", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder):
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def contracts():
    with open(ROOT / "pyproject.toml", "rb") as file:
        return [contract["name"] for contract in tomllib.load(file)["tool"]["importlinter"]["contracts"]]


def test_every_contract_is_kept_and_would_refuse_a_forbidden_import(house):
    kept = lint(house)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert sorted(PLANTS) == sorted(contracts())
    for name, (file, line) in PLANTS.items():
        source = (house / file).read_text()
        (house / file).write_text(f"{source}\n{line}\n")
        refused = lint(house).stdout
        (house / file).write_text(source)
        assert f"{name} BROKEN" in refused, f"'{line}' in {file} is not refused by '{name}'"


def test_no_room_is_entered_past_its_face(house):
    assert past_the_face(house) == []


def test_an_import_past_a_face_is_found(house):
    planted = house / "codesign" / "report" / "planted.py"
    planted.write_text("def draw():\n    from codesign.search.front import ParetoFront, _private\n")
    try:
        found = past_the_face(house)
    finally:
        planted.unlink()
    assert sum("codesign.report.planted:2" in line for line in found) == 2


def test_no_modules_import_each_other_in_a_ring(house):
    assert circles(house) == []


def test_a_ring_inside_of_functions_is_found(house):
    first, second = house / "codesign" / "report" / "one.py", house / "codesign" / "report" / "other.py"
    first.write_text("import codesign.report.other\n")
    second.write_text("def late():\n    from codesign.report.one import x\n")
    try:
        found = circles(house)
    finally:
        first.unlink()
        second.unlink()
    assert ("codesign.report.one", "codesign.report.other") in found


def test_only_the_command_line_may_print():
    planted = "def report():\n    print(1)\n"
    for file, refused in (("codesign/cost/planted.py", True), ("codesign/cli/planted.py", False)):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--stdin-filename", str(ROOT / file), "-"],
            input=planted,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("T201" in found.stdout) == refused, found.stdout + found.stderr


@pytest.mark.parametrize(
    "statement", ["import codesign", "import codesign.search", "import codesign.whatif", "import codesign.cost"]
)
def test_values_are_imported_without_torch(statement):
    code = f"{statement}\nimport sys\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
