"""What is varied: one axis per key, each value checked before anything is priced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from codesign.design import LayerFormats, Role, uniform
from codesign.errors import CodesignError, ConfigError, did_you_mean
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator, accelerator_of

_TEXT = ("source", "recalled", "name", "description", "table", "dataflows")  # no quantities
_SHORT = {"macs": "array"}  # `macs.rows` is `array.rows`
ROLES = tuple(f"format.{role.value}" for role in Role)


Value = str | int | float  # of a key


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A key and its values, as they stand in the result."""

    key: str
    values: tuple[Value, ...]


def accelerator_keys(accelerator: Accelerator) -> list[str]:
    """Keys of an accelerator's file that hold one value, and `dataflow`."""
    parts = [field.name for field in fields(accelerator) if is_dataclass(getattr(accelerator, field.name))]
    return ["dataflow"] + [
        f"{part}.{field.name}"
        for part in parts
        for field in fields(getattr(accelerator, part))
        if field.name not in _TEXT
    ]


def axes_of(vary: Mapping[str, Sequence[Value]], accelerator: Accelerator) -> list[Axis]:
    """Checked axes, in the order given. Values may be text, as on the command line.

    Raises `ConfigError` naming the key, and the value, of the first mistake.
    """
    known = [*accelerator_keys(accelerator), "format", *ROLES, "keep", "batch"]
    found: list[Axis] = []
    for given, values in vary.items():
        head, dot, tail = given.partition(".")
        key = f"{_SHORT.get(head, head)}{dot}{tail}"
        if key not in known:
            raise ConfigError(f"vary '{given}': no such key{did_you_mean(key, known)}")
        if key in [axis.key for axis in found]:
            raise ConfigError(f"vary '{given}': given twice")
        if not values:
            raise ConfigError(f"vary '{given}': no values; write {given}=V1,V2,...")
        checked = tuple(_value(key, value, accelerator) for value in values)
        if len(set(checked)) != len(checked):
            raise ConfigError(f"vary '{given}': a value is given twice: {', '.join(map(str, values))}")
        found.append(Axis(key=key, values=checked))
    return found


def _value(key: str, value: Value, accelerator: Accelerator) -> Value:
    try:
        if key == "format":
            uniform(str(value))
        elif key in ROLES:
            FloatFormat.parse(str(value))
        elif key == "keep":
            value = _number(value)
            if not 0 < value <= 1:
                raise ConfigError("must lie above 0 and at most at 1")
        elif key == "batch":
            value = _number(value)
            if not isinstance(value, int) or value < 1:
                raise ConfigError("must be a positive whole number")
        else:
            part, _, name = key.partition(".")
            if key != "dataflow" and not isinstance(getattr(getattr(accelerator, part), name), (str, Enum)):
                value = _number(value)
                if isinstance(getattr(getattr(accelerator, part), name), float):
                    value = float(value)
            with_values(accelerator, {key: value})
    except CodesignError as error:
        raise ConfigError(f"vary '{key}': value '{value}': {error}") from error
    return value


def _number(value: Value) -> int | float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError("is not a number") from None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def with_values(accelerator: Accelerator, values: Mapping[str, Value]) -> Accelerator:
    """The accelerator with some keys set; `dataflow` is one name, or several joined by `+`."""
    table = asdict(accelerator)
    for key, value in values.items():
        if key == "dataflow":
            table["array"]["dataflows"] = str(value).split("+")
        else:
            part, _, name = key.partition(".")
            table[part][name] = value
    return accelerator_of(_plain(table), accelerator.name)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.value if isinstance(value, Enum) else value


def formats_with(base: LayerFormats, values: Mapping[str, Value]) -> LayerFormats:
    """`format` first, then single roles."""
    names = (uniform(str(values["format"])) if "format" in values else base).names()
    return LayerFormats.parse(
        names | {key.partition(".")[2]: str(value) for key, value in values.items() if key in ROLES}
    )
