"""The configuration of a search, as it stands in configs/searches/*.toml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codesign.config import FormatChoice, load
from codesign.design import LayerFormats, uniform
from codesign.errors import ConfigError, located
from codesign.nn import Recipe
from codesign.preprocess import Transform, transform_from_config


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """Which images. `train_images`, `test_images`: how many of them, from the first on (all if left out)."""

    name: str
    folder: str | None = None
    train_images: int | None = None
    test_images: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Which network: a name that `codesign.nn.networks.build` knows."""

    name: str
    width: float = 1.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ConfigError(f"width must be positive, got {self.width:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """One training run: `dense_epochs` with all channels, then the cut, then `pruned_epochs`.

    A design that keeps all of its channels trains `dense_epochs + pruned_epochs` without a cut.
    """

    dense_epochs: float
    pruned_epochs: float

    def __post_init__(self) -> None:
        if not (self.dense_epochs > 0 and self.pruned_epochs > 0):
            raise ConfigError(
                f"dense_epochs and pruned_epochs must be positive, got {self.dense_epochs:g} and {self.pruned_epochs:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """What may be chosen.

    alphas : shares of the variance of a layer's feature maps that its kept channels must explain; each gives one
        channel count per layer (PCA). All channels are always a choice.
    keep : shares of a layer's channels, in place of alphas; nothing is analysed then
    floor : no layer gets fewer channels
    multiple_of : counts are rounded up to a multiple of it
    structure_images : training images whose feature maps are analysed
    formats : choices of each layer, most precise first: a name for all four tensors, a preset, a table by role, or
        ranges of exponent and mantissa bits, "e2..5m1..3", widest first
    baselines : uniform formats, nothing pruned, that every run measures: names of `formats`, or of any other format
    """

    formats: tuple[FormatChoice, ...]
    baselines: tuple[str, ...]
    alphas: tuple[float, ...] = ()
    keep: tuple[float, ...] = ()
    floor: int = 4
    multiple_of: int = 1
    structure_images: int = 1000

    def __post_init__(self) -> None:
        if bool(self.alphas) == bool(self.keep):
            raise ConfigError("give alphas or keep, one of them, and at least one value")
        for name, shares in (("alphas", self.alphas), ("keep", self.keep)):
            for share in shares:
                if not 0 < share <= 1:
                    raise ConfigError(f"{name} must lie above 0 and at most at 1, got {share:g}")
        if self.multiple_of < 1:
            raise ConfigError(f"multiple_of must be at least 1, got {self.multiple_of}")
        if not self.formats:
            raise ConfigError("formats is empty; give at least one")
        if not self.baselines:
            raise ConfigError("baselines is empty; give at least one, the first of which speed-ups are over")
        for name in self.baselines:
            self.baseline(name)

    def options(self) -> dict[str, LayerFormats]:
        """Every format choice by its name."""
        found: dict[str, LayerFormats] = {}
        for choice in self.formats:
            if not isinstance(choice, str):
                found["/".join(choice.values())] = LayerFormats.parse(choice)
            elif ".." in choice:
                found |= {name: uniform(name) for name in _names_of(choice)}
            else:
                found[choice] = uniform(choice)
        return found

    def baseline(self, name: str) -> LayerFormats:
        """Formats of a baseline."""
        options = self.options()
        return options[name] if name in options else uniform(name)


def _names_of(ranges: str) -> list[str]:
    """ "e2..3m1..2" as e3m2, e3m1, e2m2, e2m1."""
    parts = re.fullmatch(r"e(\d+|\d+\.\.\d+)m(\d+|\d+\.\.\d+)", ranges)
    exponents, mantissas = (_falling(part) for part in parts.groups()) if parts else ([], [])
    if not exponents or not mantissas:
        raise ConfigError(
            f"formats: '{ranges}' is no range; write \"e2..5m1..3\" for 2 to 5 exponent bits and 1 to 3 mantissa bits"
        )
    return [f"e{e}m{m}" for e in exponents for m in mantissas]


def _falling(span: str) -> list[int]:
    first, _, last = span.partition("..")
    return list(range(int(last or first), int(first) - 1, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How long to search.

    trainings : full training runs to spend, baselines and repeats included
    ladder : shares of a run at which a design is looked at, rising to 1; those that can still be on the front go on
    """

    trainings: int
    seed: int = 0
    ladder: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.trainings < 1:
            raise ConfigError(f"trainings must be at least 1, got {self.trainings}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareSettings:
    """Machines beside the accelerator, on which the designs are priced too.

    vary : key of the accelerator's file -> values; all combinations whose area `limits.area_um2` allows
    trainings : beyond those of the search, for designs that should be the fastest on one of the machines
    """

    vary: dict[str, tuple[Any, ...]]
    trainings: int = 0

    def __post_init__(self) -> None:
        if not self.vary:
            raise ConfigError("vary is empty; give at least one key of the accelerator with its values")
        if self.trainings < 0:
            raise ConfigError(f"trainings must not be negative, got {self.trainings}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Constraints on what may be returned; None: no limit.

    accuracy : share of the test images, at least
    latency_s, energy_j : of the whole training run, at most
    peak_memory_bytes : DRAM occupied by a training step, at most
    area_um2 : of the accelerator, at most; the same for every design of a search
    """

    accuracy: float | None = None
    latency_s: float | None = None
    energy_j: float | None = None
    peak_memory_bytes: float | None = None
    area_um2: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One search.

    transforms : filters that every batch of training images passes, in this order, as tables of
        `codesign.preprocess.transform_from_config`; a pixel value lies in [0, 1] there
    """

    title: str
    accelerator: str
    data: DataSettings
    network: NetworkSettings
    training: Recipe
    schedule: ScheduleSettings
    space: SpaceSettings
    search: SearchSettings
    limits: Limits = field(default_factory=Limits)
    hardware: HardwareSettings | None = None
    transforms: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        self.pipeline()

    def pipeline(self) -> list[Transform]:
        """The transforms that `transforms` describes."""
        return pipeline_of(self.transforms)


def pipeline_of(tables: Sequence[dict[str, Any]]) -> list[Transform]:
    """The transforms that tables of a configuration describe; a mistake names its place in the list `transforms`."""
    found = []
    for place, table in enumerate(tables):
        with located(f"transforms[{place}]"):
            found.append(transform_from_config(table))
    return found


def load_settings(path: str | Path) -> Settings:
    """The configuration of a search from its TOML file."""
    return load(Settings, path)
