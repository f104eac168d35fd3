"""A mistake in a TOML file becomes one line: where, what, got, do. Each test breaks one thing."""

from dataclasses import dataclass
from typing import Any

import pytest

from codesign.config import FormatChoice, dump, load, structure
from codesign.errors import ConfigError
from codesign.nn.recipe import Recipe
from codesign.optimizers import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    name: str
    training: Recipe
    ratios: tuple[float, ...] = (1.0,)
    folder: str | None = None
    formats: tuple[FormatChoice, ...] = ()


def good() -> dict[str, Any]:
    return {
        "name": "a",
        "training": {"batch": 8, "learning_rate": 1, "optimizer": "adam"},
        "ratios": [1, 0.5],
        "formats": ["bf16", {"weight": "e4m3"}],
    }


def test_what_is_dumped_is_loaded_again(tmp_path):
    record = structure(good(), Example, "x.toml")
    assert record.training.optimizer is Optimizer.ADAM
    assert record.training.learning_rate == 1.0
    (tmp_path / "x.toml").write_text(dump(record))
    assert load(Example, tmp_path / "x.toml") == record


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (None, "nmae", 1, "x.toml: unknown key 'nmae'; did you mean 'name'?"),
        ("training", "btach", 1, "x.toml: training: unknown key 'btach'; did you mean 'batch'?"),
        ("training", "batch", "8", "x.toml: training: batch: must be a whole number, got '8'"),
        ("training", "batch", True, "x.toml: training: batch: must be a whole number, got True"),
        ("training", "batch", 0, "x.toml: training: batch must be at least 1, got 0"),
        ("training", "optimizer", "adm", "x.toml: training: optimizer: must be one of sgd, momentum, adam, got 'adm'"),
        (None, "training", 3, "x.toml: training: must be a table"),
        (None, "ratios", 3, "x.toml: ratios: must be a list"),
        (None, "ratios", [1, "x"], "x.toml: ratios[1]: must be a number, got 'x'"),
        (None, "folder", 3, "x.toml: folder: must be a string, got 3"),
        (
            None,
            "formats",
            [3],
            'x.toml: formats[0]: must be a name such as "e4m3" or a table of names by role, got 3',
        ),
    ],
)
def test_one_mistake_is_one_line(section, key, value, message):
    table = good()
    (table[section] if section else table)[key] = value
    with pytest.raises(ConfigError) as caught:
        structure(table, Example, "x.toml")
    assert str(caught.value) == message


def test_a_misspelt_required_key_is_called_unknown_rather_than_missing():
    table = good()
    table["nmae"] = table.pop("name")
    with pytest.raises(ConfigError, match=r"x\.toml: unknown key 'nmae'; did you mean 'name'"):
        structure(table, Example, "x.toml")


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        (None, "name", "x.toml: 'name' is missing"),
        ("training", "batch", "x.toml: training: 'batch' is missing"),
    ],
)
def test_a_missing_key_is_named(section, key, message):
    table = good()
    del (table[section] if section else table)[key]
    with pytest.raises(ConfigError) as caught:
        structure(table, Example, "x.toml")
    assert str(caught.value) == message


def test_a_file_that_is_not_there_or_not_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load(Example, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML: .*line 1"):
        load(Example, tmp_path / "bad.toml")
