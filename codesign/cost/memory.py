"""DRAM that a training step occupies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from codesign.cost.scales import Scales
from codesign.design import LayerFormats
from codesign.optimizers import Optimizer
from codesign.workload import Convolution, Embedding, Layer, Linear, Matmul, VectorKind, VectorOp, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """DRAM that a training step occupies, in bytes.

    weights : the copies that the layers read
    optimizer : master weights and moments
    gradients : of all parameters
    stash : activations kept from forward to backward
    workspace : the largest tensors in flight that are not stashed
    """

    weights_bytes: int
    optimizer_bytes: int
    gradients_bytes: int
    stash_bytes: int
    workspace_bytes: int
    capacity_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All of it together."""
        return (
            self.weights_bytes + self.optimizer_bytes + self.gradients_bytes + self.stash_bytes + self.workspace_bytes
        )

    @property
    def fits(self) -> bool:
        """Does it fit into the accelerator's DRAM?"""
        return self.peak_bytes <= self.capacity_bytes


def memory_use(
    network: Workload,
    formats_of: Callable[[Layer], LayerFormats],
    optimizer: Optimizer,
    scales: Scales,
    capacity_bytes: int,
) -> MemoryUse:
    """Peak memory of one training step.

    A tensor that several layers keep is counted once, in the widest of their formats. Tensors that nobody keeps are
    freed as soon as they have been read; the workspace is the largest set of inputs, outputs and their errors of one
    layer.
    """
    weights = states = gradients = masks = workspace = 0
    kept: dict[str, int] = {}
    sizes = {layer.name: _out_elements(layer) for layer in network.layers}
    for layer in network.layers:
        formats = formats_of(layer)
        weights += scales.stored(layer.parameters, formats.weight.bits)
        states += layer.parameters * formats.optimizer_state.bits * optimizer.states
        gradients += scales.stored(layer.parameters, formats.gradient.bits)
        inputs, output, mask = _keeps(layer)
        names = {name: sizes.get(name, _in_elements(layer)) for name in (layer.sources if inputs else ())}
        if output:
            names[layer.name] = sizes[layer.name]
        for name, elements in names.items():
            kept[name] = max(kept.get(name, 0), scales.stored(elements * network.batch, formats.activation.bits))
        masks += mask * _out_elements(layer) * network.batch
        flying = (_in_elements(layer) + _out_elements(layer)) * network.batch
        workspace = max(workspace, flying * (formats.activation.bits + formats.error.bits))
    return MemoryUse(
        weights_bytes=-(-weights // 8),
        optimizer_bytes=-(-states // 8),
        gradients_bytes=-(-gradients // 8),
        stash_bytes=-(-(sum(kept.values()) + masks) // 8),
        workspace_bytes=-(-workspace // 8),
        capacity_bytes=capacity_bytes,
    )


def _keeps(layer: Layer) -> tuple[bool, bool, int]:
    """What stays from forward to backward: (its inputs, its output, mask bits per output element)."""
    match layer:
        case Convolution() | Linear() | Matmul():
            return True, False, 0
        case Embedding():
            return False, False, 0
        case VectorOp():
            return _kept_by(layer.kind) if layer.needs_input_grad or layer.parameters else (False, False, 0)
        case _:
            assert_never(layer)


def _kept_by(kind: VectorKind) -> tuple[bool, bool, int]:
    match kind:
        case VectorKind.BATCH_NORM | VectorKind.ROW_NORM | VectorKind.MULTIPLY | VectorKind.LOSS:
            return True, False, 0
        case VectorKind.ACTIVATION | VectorKind.SOFTMAX:
            return False, True, 0
        case VectorKind.MAX_POOL:
            return False, False, 8
        case VectorKind.DROPOUT:
            return False, False, 1
        case VectorKind.REDUCE | VectorKind.ADD | VectorKind.CONCATENATE | VectorKind.FORK:
            return False, False, 0
        case _:
            assert_never(kind)


def _in_elements(layer: Layer) -> int:
    match layer:
        case Embedding():  # indices
            return 0
        case Convolution() | Linear() | Matmul() | VectorOp():
            return layer.in_elements
        case _:
            assert_never(layer)


def _out_elements(layer: Layer) -> int:
    match layer:
        case VectorOp():
            return 0 if layer.kind is VectorKind.FORK else layer.out_elements
        case Convolution() | Linear() | Matmul() | Embedding():
            return layer.out_elements
        case _:
            assert_never(layer)
