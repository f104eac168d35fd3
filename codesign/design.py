"""What is proposed: channels and formats per layer. A `DesignPoint` is a value: hashable, and written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from codesign.errors import ConfigError, did_you_mean
from codesign.formats import FloatFormat


class Role(StrEnum):
    """Which tensor of a training step a number belongs to."""

    WEIGHT = "weight"
    ACTIVATION = "activation"  # also as stashed between forward and backward
    ERROR = "error"  # gradient of the loss by a layer's output
    GRADIENT = "gradient"  # gradient of the loss by a weight
    ACCUMULATOR = "accumulator"  # partial sums inside the array
    OPTIMIZER_STATE = "optimizer_state"  # master weights and moments


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFormats:
    """One format per role of one layer."""

    weight: FloatFormat
    activation: FloatFormat
    error: FloatFormat
    gradient: FloatFormat
    accumulator: FloatFormat
    optimizer_state: FloatFormat

    @classmethod
    def parse(cls, names: Mapping[str, str]) -> LayerFormats:
        """From role names to format names; `accumulator` and `optimizer_state` may be left out (float32)."""
        known = {field.name for field in fields(cls)}
        for name in names:
            if name not in known:
                raise ConfigError(f"unknown role '{name}'{did_you_mean(name, known)}")
        defaults = {"accumulator": "float32", "optimizer_state": "float32"}
        for name in sorted(known - names.keys() - defaults.keys()):
            raise ConfigError(f"role '{name}' has no format; write for example {name} = \"e4m3\"")
        return cls(**{name: FloatFormat.parse(text) for name, text in (defaults | dict(names)).items()})

    def names(self) -> dict[str, str]:
        """Format name of each role; `LayerFormats.parse` reads it back."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}


_PRESETS = {
    "fp32": ("float32", "float32", "float32", "float32"),
    "bf16": ("bfloat16", "bfloat16", "bfloat16", "bfloat16"),
    "fp8-hybrid": ("e4m3fn", "e4m3fn", "e5m2", "e5m2"),  # forward, backward; Micikevicius et al. 2022, arXiv 2209.05433
    "int8": ("e0m7", "e0m7", "e0m7", "e0m7"),  # sign and 7 bits, symmetric as in Wu et al. 2020, arXiv 2004.09602
}


def uniform(name: str) -> LayerFormats:
    """The same format for weight, activation, error and gradient, or a preset: fp32, bf16, fp8-hybrid, int8.

    Accumulator and optimizer state are float32.
    """
    weight, activation, error, gradient = _PRESETS.get(name, (name,) * 4)
    return LayerFormats.parse({"weight": weight, "activation": activation, "error": error, "gradient": gradient})


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignPoint:
    """Output channels and formats per layer, by the layer's name in the network.

    channels : (layer name, output channels kept), sorted by name; a layer that is absent keeps all of its channels
    formats : (layer name, formats), sorted by name; a layer that is absent has `default`
    default : formats of every layer that `formats` does not name
    """

    channels: tuple[tuple[str, int], ...] = ()
    formats: tuple[tuple[str, LayerFormats], ...] = ()
    default: LayerFormats

    @classmethod
    def of(
        cls,
        *,
        default: LayerFormats,
        channels: Mapping[str, int] | None = None,
        formats: Mapping[str, LayerFormats] | None = None,
    ) -> DesignPoint:
        """From mappings, in any order."""
        return cls(
            channels=tuple(sorted((channels or {}).items())),
            formats=tuple(sorted((formats or {}).items(), key=lambda item: item[0])),
            default=default,
        )

    def formats_of(self, layer: str) -> LayerFormats:
        """Formats of one layer."""
        return dict(self.formats).get(layer, self.default)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists and strings; `from_json` reads them back."""
        return {
            "channels": dict(self.channels),
            "formats": {layer: formats.names() for layer, formats in self.formats},
            "default": self.default.names(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DesignPoint:
        """The point that `to_json` wrote."""
        return cls.of(
            channels=record["channels"],
            formats={layer: LayerFormats.parse(names) for layer, names in record["formats"].items()},
            default=LayerFormats.parse(record["default"]),
        )
