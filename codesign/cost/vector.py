"""Work of the vector unit: how often each kind reads and writes its tensors, and how many operations an element takes.

A tensor that does not fit on the chip passes through DRAM once for each pass; statistics over a batch take a pass of
their own, statistics over a row do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.cost.scales import Scales
from codesign.design import LayerFormats
from codesign.optimizers import Optimizer
from codesign.workload import Embedding, Phase, VectorKind, VectorOp


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorWork:
    """One pass of the vector unit: lane operations, and bits between DRAM and chip."""

    phase: Phase
    operations: int
    traffic_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """Reads and writes per element of a tensor.

    forward : (reads of the inputs, writes of the output), in activation width
    backward : (reads of inputs and of outputs in activation width; reads of the output's error and writes of the
        inputs' errors in error width)
    mask_bits : bits kept per output element for the backward pass instead of a tensor
    operations : per element of the larger side: forward, backward
    """

    forward: tuple[int, int]
    backward: tuple[int, int, int, int]
    mask_bits: int = 0
    operations: tuple[int, int]


# Operations are multiply-adds, comparisons, exponentials and divisions of the textbook formulas, one each.
_PASSES = {
    # two statistics, then scale and shift; backward: two sums over x and dy, then dx from both
    VectorKind.BATCH_NORM: _Passes(forward=(2, 1), backward=(2, 0, 2, 1), operations=(4, 7)),
    VectorKind.ROW_NORM: _Passes(forward=(1, 1), backward=(1, 0, 1, 1), operations=(4, 7)),
    VectorKind.ACTIVATION: _Passes(forward=(1, 1), backward=(0, 1, 1, 1), operations=(1, 1)),
    VectorKind.MAX_POOL: _Passes(forward=(1, 1), backward=(0, 0, 1, 1), mask_bits=8, operations=(1, 1)),
    VectorKind.REDUCE: _Passes(forward=(1, 1), backward=(0, 0, 1, 1), operations=(1, 1)),
    VectorKind.ADD: _Passes(forward=(1, 1), backward=(0, 0, 0, 0), operations=(1, 0)),  # both errors are the sum's
    VectorKind.MULTIPLY: _Passes(forward=(1, 1), backward=(1, 0, 1, 1), operations=(1, 2)),
    VectorKind.CONCATENATE: _Passes(forward=(1, 1), backward=(0, 0, 1, 1), operations=(1, 1)),
    # maximum, exponential, sum, division; backward: y (dy - sum y dy)
    VectorKind.SOFTMAX: _Passes(forward=(1, 1), backward=(0, 1, 1, 1), operations=(4, 4)),
    VectorKind.DROPOUT: _Passes(forward=(1, 1), backward=(0, 0, 1, 1), mask_bits=1, operations=(2, 1)),
    VectorKind.FORK: _Passes(forward=(0, 0), backward=(0, 0, 0, 0), operations=(0, 0)),
    # softmax and cross-entropy in one pass; its gradient is softmax minus target
    VectorKind.LOSS: _Passes(forward=(1, 0), backward=(1, 0, 0, 1), operations=(5, 2)),
}  # fmt: skip


def vector_work(layer: VectorOp, formats: LayerFormats, batch: int, scales: Scales) -> list[VectorWork]:
    """Forward and backward work of one training step; the update of its parameters is `update_work`."""
    x, y = layer.in_elements * batch, layer.out_elements * batch
    a, e = formats.activation.bits, formats.error.bits
    if layer.kind is VectorKind.FORK:  # the sum of the readers' errors, two at a time
        if not layer.needs_input_grad:
            return []
        sums = layer.readers - 1
        return [VectorWork(phase=Phase.INPUT_GRAD, operations=sums * x, traffic_bits=scales.stored(3 * sums * x, e))]
    passes = _PASSES[layer.kind]
    larger = max(x, y)
    mask = passes.mask_bits * y
    found = [
        VectorWork(
            phase=Phase.FORWARD,
            operations=passes.operations[0] * larger,
            traffic_bits=scales.stored(passes.forward[0] * x + passes.forward[1] * y, a) + mask,
        )
    ]
    read_x, read_y, read_dy, write_dx = passes.backward
    kept, errors = read_x * x + read_y * y, read_dy * y + write_dx * x
    backward = scales.stored(kept, a) + scales.stored(errors, e) + mask
    if layer.needs_input_grad and errors:
        operations = passes.operations[1] * larger
        found.append(VectorWork(phase=Phase.INPUT_GRAD, operations=operations, traffic_bits=backward))
    return found


def embedding_work(layer: Embedding, formats: LayerFormats, batch: int, scales: Scales) -> list[VectorWork]:
    """Look-ups, and the gradient added into the rows that were looked up."""
    elements = layer.out_elements * (1 if layer.shared else batch)
    weight, activation = formats.weight.bits, formats.activation.bits
    error, gradient = formats.error.bits, formats.gradient.bits
    return [
        VectorWork(
            phase=Phase.FORWARD,
            operations=elements,
            traffic_bits=scales.stored(elements, weight) + scales.stored(elements, activation),
        ),
        VectorWork(
            phase=Phase.WEIGHT_GRAD,
            operations=elements,
            traffic_bits=scales.stored(elements, error) + scales.stored(2 * elements, gradient),
        ),
    ]


def update_work(parameters: int, formats: LayerFormats, optimizer: Optimizer, scales: Scales) -> VectorWork:
    """Reads and writes states, reads the gradient, writes the weight copy: 2s+g+w, 4s+g+w, 6s+g+w per parameter."""
    state = parameters * 2 * optimizer.states * formats.optimizer_state.bits
    bits = state + scales.stored(parameters, formats.gradient.bits) + scales.stored(parameters, formats.weight.bits)
    return VectorWork(phase=Phase.UPDATE, operations=parameters * optimizer.operations, traffic_bits=bits)
