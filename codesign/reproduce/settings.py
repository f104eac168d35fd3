"""The configurations of the pruning experiments, as they stand in configs/experiments/*.toml."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codesign.config import load
from codesign.errors import ConfigError
from codesign.nn import Recipe
from codesign.prune import StructureConfig
from codesign.runs import DataSettings, NetworkSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is trained, how, and how often.

    accelerator : on which training runs are priced; device : where torch trains
    seeds : repetitions; a seed gives the weights to begin with and the order of the images
    """

    accelerator: str
    data: DataSettings
    network: NetworkSettings
    training: Recipe
    seeds: int = 3
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ConfigError(f"seeds must be at least 2, since a spread is reported, got {self.seeds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingSettings:
    """Method M1 against a conventional prune and retrain.

    dense_epochs : training before the cut
    short_epochs, long_epochs : of retraining; 20 and 200 in the original
    images : training images of the structure search
    """

    title: str
    subject: Subject
    dense_epochs: float
    short_epochs: float
    long_epochs: float
    images: int = 1000
    structure: StructureConfig = field(default_factory=StructureConfig)

    def __post_init__(self) -> None:
        if not 0 < self.short_epochs < self.long_epochs:
            raise ConfigError(
                f"short_epochs must be positive and below long_epochs, got {self.short_epochs:g} and {self.long_epochs:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSettings:
    """Method M2 against pruning at initialization, all with the same epochs in all.

    first_epochs, rest_epochs : before and after the second cut of M2; 30 and 170 in the original
    alphas : share of the variance that both cuts of M2 keep; each gives one compression
    noise_images, images : random and training images of the two structure searches
    structure : all other choices of the structure search
    score_images : training images by which SNIP and GraSP rank; 10 per class in their papers
    """

    title: str
    subject: Subject
    first_epochs: float
    rest_epochs: float
    alphas: tuple[float, ...]
    noise_images: int = 3072
    images: int = 1000
    score_images: int = 100
    structure: StructureConfig = field(default_factory=StructureConfig)

    def __post_init__(self) -> None:
        if not (self.first_epochs > 0 and self.rest_epochs > 0):
            raise ConfigError(
                f"first_epochs and rest_epochs must be positive, got {self.first_epochs:g} and {self.rest_epochs:g}"
            )
        if not self.alphas or not all(0 < alpha <= 1 for alpha in self.alphas):
            raise ConfigError(f"alphas must lie above 0 and at most at 1, got {list(self.alphas)}")


def load_retraining(path: str | Path) -> RetrainingSettings:
    """One configuration of `codesign reproduce retraining`."""
    return load(RetrainingSettings, path)


def load_staged(path: str | Path) -> StagedSettings:
    """One configuration of `codesign reproduce staged`."""
    return load(StagedSettings, path)


def digest(settings: Any, *grows: str) -> str:
    """Twelve hexadecimal digits that differ between configurations, but for their title, their number of seeds and the
    fields that `grows` names: more of those leaves results valid."""
    record = asdict(settings)
    del record["subject"]["seeds"]
    for name in ("title", *grows):
        del record[name]
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shipped(name: str) -> Path:
    """A configuration that comes with the package: configs/experiments/<name>.toml."""
    package = Path(__file__).resolve().parents[1]
    for parent in (package, package.parent):  # installed; checked out
        path = parent / "configs" / "experiments" / f"{name}.toml"
        if path.is_file():
            return path
    raise ConfigError(f"the file configs/experiments/{name}.toml is missing; reinstall codesign")
