"""The configuration of one training run with pruning stages, as it stands in configs/training/*.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_never

from codesign.config import FormatChoice, load
from codesign.design import LayerFormats, uniform
from codesign.errors import ConfigError
from codesign.nn import Recipe
from codesign.prune import StructureConfig
from codesign.runs.search_settings import DataSettings, NetworkSettings, pipeline_of


class Sample(StrEnum):
    """What the structure search propagates."""

    DATA = "data"  # training images: method M1, the second cut of method M2
    NOISE = "noise"  # normally distributed random images: the first cut of method M2


class Ranking(StrEnum):
    """How the channels that stay are chosen."""

    RECONSTRUCTION = "reconstruction"  # those that the next layers miss least; the others are rebuilt from them
    L1 = "l1"
    L2 = "l2"
    BATCH_NORM = "batch-norm"
    RANDOM = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSettings:
    """A cut before a stage: PCA of feature maps gives the counts, a ranking says which channels stay.

    images : how many are propagated; a structure search on too few is an error that says how many it needs. A ranking
        by reconstruction looks at the same ones
    ranking : left out, reconstruction with training images, and L1 with random ones: what an untrained network computes
        is not worth rebuilding
    align : move counts to where the accelerator's time per channel is good
    """

    sample: Sample
    images: int = 1000
    ranking: Ranking | None = None
    align: bool = False
    structure: StructureConfig = field(default_factory=StructureConfig)

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ConfigError(f"images must be at least 1, got {self.images}")

    @property
    def ranked_by(self) -> Ranking:
        """The ranking, whether it was given or left out."""
        if self.ranking is not None:
            return self.ranking
        match self.sample:
            case Sample.DATA:
                return Ranking.RECONSTRUCTION
            case Sample.NOISE:
                return Ranking.L1
        assert_never(self.sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """A cut, if any, and then `epochs` of training.

    restart : begin a learning-rate schedule here, with its warm-up; else the one that is under way goes on
    learning_rate : highest of a schedule that begins here; else that of `training`. After a cut that rebuilds what it
        removes a fifth of it or less: a high one destroys what the cut has saved
    """

    epochs: float
    cut: CutSettings | None = None
    restart: bool = False
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if not self.epochs > 0:
            raise ConfigError(f"epochs must be positive, got {self.epochs:g}")
        if self.learning_rate is not None and not self.restart:
            raise ConfigError("learning_rate belongs to a schedule that begins here; add restart = true")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSettings:
    """Number formats of the convolutions and linear layers: a name for all four tensors, a preset, or a table by role.

    layers : of single layers, by name; all others have `default`
    """

    default: FormatChoice = "fp32"
    layers: dict[str, FormatChoice] = field(default_factory=dict)

    def of(self, layer: str) -> LayerFormats:
        """Formats of one layer."""
        choice = self.layers.get(layer, self.default)
        return uniform(choice) if isinstance(choice, str) else LayerFormats.parse(choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """One training run.

    network, start : a fresh network, or a folder that `codesign apply` or an earlier training run wrote
    formats : left out, a start brings its own, and a fresh network is trained in float32
    accelerator : for which each stage is priced
    device : where torch trains: cpu, cuda, ...; transforms : filters of the training images, as in a search, on the CPU
    """

    title: str
    accelerator: str
    data: DataSettings
    training: Recipe
    stages: tuple[StageSettings, ...]
    network: NetworkSettings | None = None
    start: str | None = None
    formats: FormatSettings | None = None
    seed: int = 0
    device: str = "cpu"
    transforms: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if (self.network is None) == (self.start is None):
            raise ConfigError("give one of network (a fresh one) and start (the folder of a trained one)")
        if not self.stages:
            raise ConfigError("stages is empty; give at least one, for example [[stages]] with epochs = 10")
        if self.formats is not None:
            for layer in ("", *self.formats.layers):
                self.formats.of(layer)
        if pipeline_of(self.transforms) and self.device != "cpu":
            raise ConfigError(f"transforms filter on the CPU, so device must be cpu, got '{self.device}'")


def load_training_settings(path: str | Path) -> TrainingSettings:
    """The configuration of a training run from its TOML file."""
    return load(TrainingSettings, path)
