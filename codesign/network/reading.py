"""One reading of a network: its operations, and which of its channels leave together, from the same pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

import numpy as np
import torch
from torch import nn

from codesign.errors import ModelError, did_you_mean
from codesign.network.cells import Cells
from codesign.network.labels import Classes
from codesign.network.modes import evaluating, training
from codesign.network.operations import Operation, Value
from codesign.network.rules import Findings, tensors
from codesign.network.stored import Stored, number
from codesign.network.trace import Example, NetworkFailure, Watch, watch


class ReadingMode(Enum):
    """How the network ran when it was read."""

    TRAINING = auto()  # but for norms and parametrizations, which stay as they are
    EVALUATION = auto()


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Reading:
    """What one pass of a network says.

    operations : in the order in which the network ran them, those on constants left out
    inputs, outputs : the tensors of the example, and those that the network returned
    layers : layer name -> atoms of its output channels, in order
    stored : tensor name -> its atoms
    classes : which atoms leave together
    reached : names of the stored tensors that took part
    refusals : an error for each operation on channels that is not understood; those channels cannot leave
    unreached : the parameters that did not, those of opaque modules left out
    mode, why : how the network ran; why in evaluation mode, if it did
    """

    operations: tuple[Operation, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    layers: Mapping[str, np.ndarray]
    stored: Mapping[str, Stored]
    classes: Classes
    findings: Findings
    example: Example
    opaque: tuple[str, ...]
    reached: frozenset[str]
    refusals: tuple[ModelError, ...]
    unreached: tuple[Stored, ...]
    mode: ReadingMode
    why: str

    @property
    def batch(self) -> int:
        """Size of the example's batch: the first dimension of its first tensor."""
        values = list(self.example.values()) if isinstance(self.example, Mapping) else [self.example]
        return int(next(iter(tensors(values))).shape[0])

    @cached_property
    def cells(self) -> Cells:
        """The classes by how often every tensor of the pass holds them."""
        values = {value.index: value for op in self.operations for value in (*op.operands, *op.outputs)}
        arrays = [array for value in values.values() for array in value.labels]
        outputs = [torch.from_numpy(atoms) for atoms in self.layers.values()]
        return Cells(self.classes, {id(array): array for array in (*outputs, *arrays)}.values())


def read(model: nn.Module, example: Example, *, opaque: Collection[str] = ()) -> Reading:
    """Run `model` once on `example` and say what it is made of; the model is left as it was.

    The network runs as in training, so that everything that a training step computes is seen. Where its own code fails
    so, or leaves parameters aside that evaluation reaches, it runs as in evaluation, and the reading says why.

    Parameters
    ----------
    example : what the model is called with: a tensor, a tuple of arguments or a dictionary of keyword arguments, the
        first dimension of whose first tensor is the batch
    opaque : names of modules whose channels are left alone
    """
    if hasattr(model, "_orig_mod"):
        raise ModelError("the network is compiled (torch.compile); prune the module that was compiled, then compile it")
    known = dict(model.named_modules())
    for name in opaque:
        if name not in known:
            raise ModelError(f"opaque: the network has no module '{name}'{did_you_mean(name, known)}")
    first = next(tensors(example.values() if isinstance(example, Mapping) else [example]), None)
    if first is None or first.ndim == 0 or first.shape[0] == 0:
        raise ModelError("example_input must hold a tensor, and the first dimension of its first one is the batch")
    stored = number(model)
    watched, mode, why = _watched(model, example, stored, opaque)
    atoms = 1 + sum(sum(tensor.shape) for tensor in stored.values())
    return Reading(
        operations=tuple(watched.operations),
        inputs=tuple(watched.inputs),
        outputs=tuple(watched.outputs),
        layers=_layers(stored, watched.findings),
        stored=stored,
        classes=watched.findings.relations.solve(atoms),
        findings=watched.findings,
        example=example,
        opaque=tuple(opaque),
        reached=frozenset(watched.reached),
        refusals=tuple(watched.refusals),
        unreached=tuple(_unreached(stored, watched, opaque)),
        mode=mode,
        why=why,
    )


def _watched(
    model: nn.Module, example: Example, stored: Mapping[str, Stored], opaque: Collection[str]
) -> tuple[Watch, ReadingMode, str]:
    """The pass, the mode that it ran in, and why not in training mode."""
    atoms = {name: tensor.atoms for name, tensor in stored.items()}
    try:
        trained = watch(model, example, atoms, opaque, mode=training)
    except NetworkFailure as error:
        return watch(model, example, atoms, opaque, mode=evaluating), ReadingMode.EVALUATION, str(error)
    missing = {tensor.name for tensor in _unreached(stored, trained, opaque)}
    if not missing and not trained.refusals:
        return trained, ReadingMode.TRAINING, ""
    try:
        evaluated = watch(model, example, atoms, opaque, mode=evaluating)
    except NetworkFailure:
        return trained, ReadingMode.TRAINING, ""
    left = {tensor.name for tensor in _unreached(stored, evaluated, opaque)}
    if left < missing:
        why = f"parameter '{min(missing - left)}' takes no part in training mode"
        return evaluated, ReadingMode.EVALUATION, why
    if left == missing and trained.refusals and not evaluated.refusals:
        return evaluated, ReadingMode.EVALUATION, str(trained.refusals[0])
    return trained, ReadingMode.TRAINING, ""


def _unreached(stored: Mapping[str, Stored], watched: Watch, opaque: Collection[str]) -> list[Stored]:
    return [
        tensor
        for name, tensor in stored.items()
        if tensor.is_parameter
        and name not in watched.reached
        and not any(tensor.module == module or tensor.module.startswith(module + ".") for module in opaque)
    ]


def _layers(stored: Mapping[str, Stored], findings: Findings) -> dict[str, np.ndarray]:
    """Layers by the name of the module that owns the weight, or of the weight where one module owns several."""
    owner: dict[int, Stored] = {
        int(atoms[0]): tensor for tensor in stored.values() for atoms in tensor.atoms if len(atoms)
    }
    weights: dict[str, np.ndarray] = {}
    for product in findings.products:
        if product.outputs is not None:
            atoms = product.outputs.numpy()
            tensor = owner.get(int(atoms[0]))
            if tensor is not None:
                weights.setdefault(tensor.name, atoms)
    modules = [_module(stored[name]) for name in weights]
    return {
        module if modules.count(module) == 1 else name: atoms
        for (name, atoms), module in zip(weights.items(), modules, strict=True)
    }


def _module(tensor: Stored) -> str:
    """Owning module; a parametrized weight belongs to the module that uses it."""
    return tensor.module.split(".parametrizations.")[0]
