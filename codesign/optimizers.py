"""Update rules of training: what a network is trained by, and what the accelerator is charged for."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never


class Optimizer(StrEnum):
    """An update rule, which fixes the state that a parameter has."""

    SGD = "sgd"
    MOMENTUM = "momentum"  # Nesterov, 0.9
    ADAM = "adam"  # AdamW with torch's defaults

    @property
    def states(self) -> int:
        """Numbers kept for each parameter: master weight, first and second moment. Each is read and written a step."""
        match self:
            case Optimizer.SGD:
                return 1
            case Optimizer.MOMENTUM:
                return 2
            case Optimizer.ADAM:
                return 3
        assert_never(self)

    @property
    def operations(self) -> int:
        """Operations for each parameter: w -= a g; m = b m + g; both moments, root, division, weight decay."""
        match self:
            case Optimizer.SGD:
                return 1
            case Optimizer.MOMENTUM:
                return 2
            case Optimizer.ADAM:
                return 10
        assert_never(self)
