"""Constants that cut channels would go on firing, moved into the layers that read them."""

from __future__ import annotations

from torch import nn

from codesign.prune.plan import PrunePlan
from codesign.prune.slicing import Undo


def fold_constants_of(model: nn.Module, plan: PrunePlan, undo: Undo) -> None:
    raise NotImplementedError
