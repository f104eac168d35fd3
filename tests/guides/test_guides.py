"""Every command and every Python block of the guides runs as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from codesign.cli import main

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
LONG = "codesign verify e2m1"  # 2^32 inputs: proven for nine formats elsewhere


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", guide.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


COMMANDS = [line for guide in GUIDES for block in blocks(guide, "sh") for line in block.splitlines()]


def test_there_is_a_guide_for_each_kind_of_user():
    assert [guide.stem for guide in GUIDES] == ["architect", "numerics", "training"]
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != LONG])
def test_a_command_of_a_guide_runs(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(command)
    assert program == "codesign"
    assert main(words) == 0, capsys.readouterr().err
    assert capsys.readouterr().out or any((tmp_path / "runs").iterdir())


def test_the_python_of_the_numerics_guide_runs():
    names: dict[str, object] = {}
    for block in blocks(ROOT / "docs" / "guides" / "numerics.md", "python"):
        exec(compile(block, "numerics.md", "exec"), names)  # one block goes on where the one before ended
    assert len(names["best"].formats) == 64
