"""DRAM that a training step occupies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codesign.cost.scales import Scales
from codesign.cost.vector import keeps
from codesign.design import LayerFormats
from codesign.optimizers import Optimizer
from codesign.workload import Layer, VectorKind, VectorOp, Workload


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
    sizes = {layer.name: _made(layer) for layer in network.layers}
    for layer in network.layers:
        formats = formats_of(layer)
        weights += scales.stored(layer.parameters, formats.weight.bits)
        states += layer.parameters * formats.optimizer_state.bits * optimizer.states
        gradients += scales.stored(layer.parameters, formats.gradient.bits)
        inputs, output, mask = keeps(layer)
        names = {name: sizes.get(name, layer.in_elements) for name in (layer.sources if inputs else ())}
        if output:
            names[layer.name] = sizes[layer.name]
        for name, elements in names.items():
            kept[name] = max(kept.get(name, 0), scales.stored(elements * network.batch, formats.activation.bits))
        masks += mask * _made(layer) * network.batch
        flying = (layer.in_elements + _made(layer)) * network.batch
        workspace = max(workspace, flying * (formats.activation.bits + formats.error.bits))
    return MemoryUse(
        weights_bytes=-(-weights // 8),
        optimizer_bytes=-(-states // 8),
        gradients_bytes=-(-gradients // 8),
        stash_bytes=-(-(sum(kept.values()) + masks) // 8),
        workspace_bytes=-(-workspace // 8),
        capacity_bytes=capacity_bytes,
    )


def _made(layer: Layer) -> int:
    """Numbers of one example that a layer writes; a fork writes none, it only adds the errors of its readers."""
    return 0 if isinstance(layer, VectorOp) and layer.kind is VectorKind.FORK else layer.out_elements
