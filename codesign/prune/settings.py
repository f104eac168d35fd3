"""Every choice that the structure search by PCA leaves open. Each changes the result several times over."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from codesign.errors import ConfigError


class Tap(StrEnum):
    """Where the feature map is read. A batch norm that directly follows the layer is part of it."""

    BEFORE_ACTIVATION = "before"
    AFTER_ACTIVATION = "after"


class BatchNormMode(StrEnum):
    """How batch norms run while feature maps are read; running statistics never change."""

    EVAL = "eval"  # running statistics: the identity in an untrained network
    BATCH = "batch"  # statistics of the batch: whitens each channel, and leaves little to prune in an untrained network


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureConfig:
    """How PCA turns feature maps into channel counts.

    tap, batch_norm : where and how feature maps are read
    alpha : share of the variance that the kept components must hold, above 0 to 1
    floor : no layer gets fewer channels than this (or than it has). 8 keeps a deep layer from collapsing to a rank of 3
    observations_per_channel : fewer observations (images x positions) per channel are an error: the rank of a
        covariance is at most their number, and what is cut by that is sampling error
    halves_tolerance : the count found on each half of the images may differ by this share of it (and by 2 channels);
        a larger difference is an error
    align_window : how far alignment may move a count, as a share of it
    align_worth : alignment drops a share of the channels only for a saving of this many times that share of the time,
        and adds channels only where a share of them costs at most 1/align_worth of that share
    """

    tap: Tap = Tap.AFTER_ACTIVATION
    batch_norm: BatchNormMode = BatchNormMode.EVAL
    alpha: float = 0.99  # the reference value of methods M1 and M2
    floor: int = 8
    observations_per_channel: float = 20.0
    halves_tolerance: float = 0.1
    align_window: float = 0.25
    align_worth: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"alpha must be above 0 and at most 1, got {self.alpha:g}")
        if self.floor < 1:
            raise ConfigError(f"floor must be at least 1, got {self.floor}; a layer cannot lose all its channels")
        if self.observations_per_channel < 0:
            raise ConfigError(f"observations_per_channel must not be negative, got {self.observations_per_channel:g}")
        if self.halves_tolerance < 0:
            raise ConfigError(f"halves_tolerance must not be negative, got {self.halves_tolerance:g}")
        if not 0 <= self.align_window < 1:
            raise ConfigError(f"align_window must be from 0 to below 1, got {self.align_window:g}")
        if self.align_worth < 1:
            raise ConfigError(f"align_worth must be at least 1, got {self.align_worth:g}")

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
