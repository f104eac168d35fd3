"""What a pruned structure must be shown against: uniform widths of the same size or cost, and training from scratch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
from torch import nn

from codesign.errors import ModelError
from codesign.prune.groups import ChannelGroups


def uniform_counts(
    groups: ChannelGroups,
    *,
    parameters: int | None = None,
    macs: int | None = None,
    layers: Iterable[str] | None = None,
) -> dict[str, int]:
    """Channel counts that keep the same share of every layer and come closest to a number of parameters or of MACs.

    Parameters
    ----------
    parameters, macs : the target, one of the two: of the whole network, as `PrunePlan.parameters` and `PrunePlan.macs`
    layers : layers to narrow (those tied to them follow); default all of which channels can leave
    """
    if (parameters is None) == (macs is None):
        raise ModelError("uniform_counts needs one target: parameters or macs")
    target = parameters if parameters is not None else macs
    assert target is not None
    size: Callable[[set[int]], int] = groups.parameters if parameters is not None else groups.macs
    names = list(groups.channels if layers is None else layers)
    free = {tuple(sorted(set(groups.classes_of(name).tolist()) - {groups.classes.fixed})): None for name in names}
    if not any(free):
        raise ModelError("none of the layers can lose channels")
    units = np.array([len(classes) for classes in free])

    def removed(share: float) -> set[int]:
        kept = np.maximum(1, np.rint(share * units)).astype(int)
        return {name for classes, n in zip(free, kept, strict=True) for name in classes[n:]}

    least, most = size(removed(0.0)), size(set())
    if not least <= target <= most:
        raise ModelError(f"a uniform width reaches {least:,} to {most:,}, not {target:,}")
    low, high = 0.0, 1.0
    while high - low > 0.25 / units.max():
        middle = (low + high) / 2
        low, high = (middle, high) if size(removed(middle)) <= target else (low, middle)
    share = min((low, high), key=lambda share: abs(size(removed(share)) - target))
    gone = groups.gone(removed(share))
    return {name: int((~gone[groups.atoms(name)]).sum()) for name in names}


def reinitialized(model: nn.Module) -> nn.Module:
    """A copy of the same structure with fresh weights, for training from scratch.

    Every module with tensors of its own is reset by its `reset_parameters`. A network that is initialized otherwise is
    better made anew and cut by the same plan: `prune(make(), plan)`.
    """
    fresh = copy.deepcopy(model)
    for name, module in fresh.named_modules():
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            reset()
        elif module._parameters:
            raise ModelError(
                f"module '{name}' ({type(module).__name__}) has no reset_parameters; make the dense network anew and "
                "cut it by the same plan"
            )
    return fresh
