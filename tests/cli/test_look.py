"""`codesign doctor` says what is installed, and what is not."""

import json
from importlib import metadata

from codesign.cli import main


def test_doctor_names_every_library_and_the_core(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numpy"] == metadata.version("numpy")
    assert len(found["core sources"]) == 16
    assert "-Wconversion" in found["core flags"]


def test_doctor_says_what_is_missing(capsys, monkeypatch):
    def absent(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", absent)
    assert main(["doctor"]) == 2
    assert "torch         not installed" in capsys.readouterr().out
