"""How to train, as values: read from a configuration without loading torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codesign.errors import ConfigError
from codesign.optimizers import Optimizer

MOMENTUM = 0.9  # Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train: everything but the network, its formats and the number of epochs.

    crop_and_flip : shift each training image by up to that many pixels and mirror every other one; 0: as they are
    """

    batch: int
    learning_rate: float
    weight_decay: float = 5e-4
    optimizer: Optimizer = Optimizer.MOMENTUM
    warmup_share: float = 0.05  # share of the steps in which the learning rate rises from 0 to its top
    crop_and_flip: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1, got {self.batch}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate:g}")
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay:g}")
        if not 0 <= self.warmup_share < 1:
            raise ConfigError(f"warmup_share must be at least 0 and below 1, got {self.warmup_share:g}")
        if self.crop_and_flip < 0:
            raise ConfigError(f"crop_and_flip must not be negative, got {self.crop_and_flip}")

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Linear warm-up, then a half cosine to zero (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
        warmup = round(self.warmup_share * steps)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
