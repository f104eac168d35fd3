"""CONTRIBUTING.md names files that exist, and things in them that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDERS = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
PATHS = sorted({*re.findall(rf"\b(?:{FOLDERS})/[\w./-]*\w", TEXT), *re.findall(r"\]\(([^)#:]+)\)", TEXT)})
NUMBERED = re.findall(r"^\d+\. `(codesign/[\w./]+)`: (.*)$", TEXT, re.M)


def test_there_are_paths():
    assert len(PATHS) > 20
    assert len(NUMBERED) > 10


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("file", "what"), NUMBERED)
def test_every_name_of_a_step_is_in_its_file(file, what):
    source = (ROOT / file).read_text(encoding="utf-8")
    for name in re.findall(r"`(\w+)`", what.split("Without")[0]):
        assert re.search(rf"\b{name}\b", source), f"{file} has no {name}"
