"""The cut itself: tensors, gradients, optimizer state and attributes, then a pass that proves it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, combinations, zip_longest
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from codesign.errors import ModelError, did_you_mean
from codesign.network import HeadPrunedAttention, NetworkFailure, become, make_prunable, stored_tensors, watch
from codesign.prune.attributes import sizes_after
from codesign.prune.fold import fold_constants_of
from codesign.prune.groups import ChannelGroups
from codesign.prune.plan import PrunePlan
from codesign.prune.reconstruction import reconstruct as rebuild_inputs
from codesign.prune.slicing import Undo, cut, cut_optimizer, replace_data


def prune(
    model: nn.Module,
    plan: PrunePlan,
    optimizer: torch.optim.Optimizer | None = None,
    inplace: bool = False,
    *,
    fold_constants: bool = False,
    reconstruct: Sequence[Any] | None = None,
) -> nn.Module:
    """Remove the channels of a plan for good: every tensor that holds them becomes smaller.

    The network afterwards computes what it would with those channels at zero. The smaller network is run once on the
    example of `plan.groups`, following every channel, before it is handed out; if that pass is not what the plan says,
    nothing has changed and the error names the module.

    Parameters
    ----------
    model : the network for which the plan was made, or one of the same tensor names and shapes
    optimizer : one that holds parameters of `model`, with `inplace`: its state (momentum, moments, master weights of
        the parameter's shape) is cut too, and it goes on training the same parameter objects
    inplace : change `model` itself, else a deep copy
    fold_constants : a cut channel of which only the filter goes to zero may go on firing a constant, such as relu(beta)
        of its batch norm. Add what that constant contributes to the bias of the layers that read it (or take it from
        the running mean of the batch norm behind them). A bias is the same everywhere, so this is exact but for the
        zero-padded border of a convolution and the strides of a transposed one
    reconstruct : a few hundred images of the training data, in batches: the layers that read cut channels get weights
        that rebuild them from those that stay, see `codesign.prune.reconstruct`. Where a layer cannot, a warning names
        it; call `reconstruct` yourself for the report

    Further state per channel: a module may state, in an attribute `prune_axes`, how attributes of its own follow its
    channels, one of "out", "in" or None per dimension: `{"weight_scale": ("out",), "formats": ("out",)}`. Tensors,
    numpy arrays, lists and tuples are cut so. Buffers and tensors that the pass reaches need no statement; a buffer
    that it does not reach is cut with the outputs when its first dimension is their number.
    """
    _check_same(model, plan)
    if optimizer is not None and not inplace:
        raise ModelError("an optimizer holds the parameters of the original network; pass inplace=True to cut both")
    if fold_constants and reconstruct is not None:
        raise ModelError("reconstruct makes up for constants too; leave fold_constants out")
    if not plan.removed:
        return model if inplace else copy.deepcopy(model)
    target = model if inplace else copy.deepcopy(model)
    dense = copy.deepcopy(model) if inplace and reconstruct is not None else model
    undo: Undo = []
    try:
        if fold_constants:
            fold_constants_of(target, plan, undo)
        _cut(target, plan, optimizer, undo)
        _prove(target, plan, undo)
        if reconstruct is not None:
            for place in rebuild_inputs(dense, target, plan, reconstruct).dropped:
                warnings.warn(f"what cut channels carried is lost here: {place}", stacklevel=2)
    except BaseException:
        for action in reversed(undo):
            action()
        raise
    return target


def _check_same(model: nn.Module, plan: PrunePlan) -> None:
    found = {name: tuple(tensor.shape) for name, (_, tensor, _) in stored_tensors(model).items()}
    for name, stored in plan.groups.stored.items():
        if name not in found:
            raise ModelError(f"the plan is for another network: it knows a tensor '{name}'{did_you_mean(name, found)}")
        if found[name] != stored.shape:
            raise ModelError(
                f"the plan is for another network: tensor '{name}' has shape {list(found[name])}, the plan expects "
                f"{list(stored.shape)}; call channel_groups again after each cut"
            )


def _cut(model: nn.Module, plan: PrunePlan, optimizer: torch.optim.Optimizer | None, undo: Undo) -> None:
    groups = plan.groups
    gone = groups.gone(plan.removed)
    tensors = {name: tensor for name, (_, tensor, _) in stored_tensors(model).items()}
    kept = {
        name: [np.flatnonzero(~gone[atoms]) for atoms in stored.atoms]
        for name, stored in groups.stored.items()
        if any(gone[atoms].any() for atoms in stored.atoms)
    }
    if optimizer is not None:
        cut_optimizer(optimizer, tensors, kept, undo)
    _cut_state(model, plan, tensors, undo)
    for name, indices in kept.items():
        tensor = tensors[name]
        gradient = None if tensor.grad is None else cut(tensor.grad, indices)
        replace_data(tensor, cut(tensor.data, indices), gradient, undo)
    spans = {place.module: int((~gone[array.numpy()]).sum()) for place, array in groups.findings.spans}
    holders = {owner.rpartition(".")[0] for name in kept for owner in (name, *groups.stored[name].aliases)}
    for path, module in model.named_modules():
        if path in holders or path in spans:
            if type(module) in (nn.MultiheadAttention, HeadPrunedAttention) and path in holders:
                undo.append(partial(become, module, *make_prunable(module, path)))
            for name, value in sizes_after(module, spans.get(path)).items():
                _set(module, name, value, undo)


def _cut_state(model: nn.Module, plan: PrunePlan, tensors: Mapping[str, torch.Tensor], undo: Undo) -> None:
    """State per channel that the pass did not reach: by `prune_axes`, or a buffer with one row per output channel."""
    groups = plan.groups
    gone = groups.gone(plan.removed)
    for path, module in model.named_modules():
        stated = getattr(module, "prune_axes", {})
        for name, axes in stated.items():
            atoms = [None if axis is None else _channels(groups, path, module, axis) for axis in axes]
            value = getattr(module, name)
            full = f"{path}.{name}" if path else name
            if full not in groups.reading.reached:
                _cut_attribute(
                    module, name, value, [None if a is None else np.flatnonzero(~gone[a]) for a in atoms], undo
                )
        if path in groups.layers:
            own = groups.layers[path]
            for name in module._buffers:
                full = f"{path}.{name}"
                known = groups.stored.get(full)
                if (
                    known
                    and name not in stated
                    and full not in groups.reading.reached
                    and known.shape[:1] == (len(own),)
                ):
                    _cut_attribute(module, name, tensors[full], [np.flatnonzero(~gone[own])], undo)


def _channels(groups: ChannelGroups, path: str, module: nn.Module, axis: str) -> np.ndarray:
    """Atoms of the outputs or inputs of a module that has a weight."""
    weight = groups.stored.get(f"{path}.weight")
    if axis not in ("out", "in"):
        raise ModelError(f"module '{path}': prune_axes must say 'out', 'in' or None per dimension, got {axis!r}")
    if axis == "out" and path in groups.layers:
        return groups.layers[path]
    if weight is None or getattr(module, "groups", 1) != 1:
        raise ModelError(
            f"module '{path}': prune_axes says '{axis}', but this module has no weight with that dimension"
        )
    if axis == "out":
        return weight.atoms[0]
    return weight.atoms[0 if isinstance(module, _ConvTransposeNd) or len(weight.shape) == 1 else 1]


def _cut_attribute(module: nn.Module, name: str, value: Any, kept: list[np.ndarray | None], undo: Undo) -> None:
    if isinstance(value, torch.Tensor):
        full = [np.arange(size) if k is None else k for size, k in zip_longest(value.shape, kept)]
        replace_data(value, cut(value.data, full), None, undo)
        return
    if isinstance(value, np.ndarray):
        for d, indices in enumerate(kept):
            value = value if indices is None else value.take(indices, axis=d)
    elif isinstance(value, (list, tuple)) and len(kept) == 1 and kept[0] is not None:
        value = type(value)(value[i] for i in kept[0].tolist())
    else:
        raise ModelError(
            f"prune_axes: attribute '{name}' is a {type(value).__name__}; only tensors, "
            "arrays, lists and tuples follow channels"
        )
    old = getattr(module, name)
    undo.append(lambda: setattr(module, name, old))
    setattr(module, name, value)


def _set(module: nn.Module, name: str, value: Any, undo: Undo) -> None:
    old = getattr(module, name)
    if old != value:
        undo.append(lambda: setattr(module, name, old))
        setattr(module, name, value)


def _prove(model: nn.Module, plan: PrunePlan, undo: Undo) -> None:
    """Run the smaller network, following its channels: each must meet the ones that it met before the cut.

    A module of the user's own may hold a size in an attribute (`num_heads`). Where the pass fails in such a module,
    attributes that equal a size which the cut changed are set to the new one, and the pass decides.
    """
    choices = _Sizes(model, plan)
    while True:
        problem = _problem(model, plan)
        if problem is None:
            return
        module, message = problem
        if not choices.next_choice(module, undo):
            raise ModelError(
                f"module '{module or 'the network itself'}' does not work with fewer channels, probably because its "
                f"code states a size ({message}); take the size from the input's shape or from a whole-number "
                f"attribute of the module, or leave its channels alone with channel_groups(..., opaque=['{module}'])"
            )


def _problem(model: nn.Module, plan: PrunePlan) -> tuple[str, str] | None:
    """Where and how the smaller network is not what the plan says; None when it is."""
    groups = plan.groups
    gone = groups.gone(plan.removed)
    left = {name: tuple(atoms[~gone[atoms]] for atoms in stored.atoms) for name, stored in groups.stored.items()}
    try:
        watched = watch(model, groups.reading.example, left, groups.reading.opaque, groups.findings.depthwise)
    except NetworkFailure as failure:
        return failure.module, str(failure.__cause__)
    for refusal in watched.refusals:
        raise refusal
    wrong = watched.findings.relations.first_contradiction(groups.classes)
    if wrong is None:
        return None
    return wrong.place.module, f"after the cut, {wrong.place.operation} joins channels that it did not join before"


class _Sizes:
    """Attributes of the user's modules that may state a size which the cut changed, and the choices left to try.

    A value that stands for a changed and an unchanged size alike (8 heads of 8 channels) leaves several choices.
    """

    def __init__(self, model: nn.Module, plan: PrunePlan) -> None:
        self._modules = dict(model.named_modules())
        self._next: dict[type, int] = {}
        self._set: dict[type, Undo] = {}
        self._changes: dict[str, dict[int, set[int]]] = {}
        gone = plan.groups.gone(plan.removed)
        for place, array in plan.groups.findings.spans:
            alive = torch.from_numpy(~gone[array.numpy()])
            for d, size in enumerate(array.shape):
                others = [e for e in range(array.ndim) if e != d]
                left = int((alive.any(dim=others) if others else alive).sum())
                self._changes.setdefault(place.module, {}).setdefault(size, set()).add(left)

    def next_choice(self, path: str, undo: Undo) -> bool:
        """Apply the next choice to the module at `path`, or to the nearest module around it that has one left, and to
        all modules of the same class; False when there is none.
        """
        parts = path.split(".") if path else []
        for depth in range(len(parts), -1, -1):
            kind = type(self._modules[".".join(parts[:depth])])
            if kind.__module__.startswith("torch.nn."):
                continue
            choice = self._next.get(kind, 0)
            self._next[kind] = choice + 1
            for action in self._set.pop(kind, []):
                action()
            done: Undo = []
            for name, module in self._modules.items():
                if type(module) is kind:
                    self._apply(module, self._changes.get(name, {}), choice, done)
            if done:
                self._set[kind] = done
                undo.extend(done)
                return True
        return False

    def _apply(self, module: nn.Module, changes: Mapping[int, set[int]], choice: int, done: Undo) -> None:
        options = list(self._options(module, changes))
        if choice < len(options):
            for name, value in options[choice].items():
                _set(module, name, value, done)

    def _options(self, module: nn.Module, changes: Mapping[int, set[int]]) -> Iterator[dict[str, int]]:
        """Sets of attributes to change, the smallest first where a value is ambiguous."""
        certain: dict[str, int] = {}
        doubtful: list[tuple[str, int]] = []
        for name, value in vars(module).items():
            if type(value) is int and value in changes:
                for new in changes[value] - {value}:
                    if len(changes[value]) == 1:
                        certain[name] = new
                    else:
                        doubtful.append((name, new))
        subsets = chain.from_iterable(combinations(doubtful, size) for size in range(len(doubtful) + 1))
        for subset in subsets:
            if certain or subset:
                yield certain | dict(subset)
