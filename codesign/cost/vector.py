"""Passes of the vector unit: how often each kind of work reads and writes its tensors, how many operations it takes, and
what stays in memory for the backward pass.

A tensor that does not fit on the chip passes through DRAM once for each pass; statistics over a batch take a pass of
their own, statistics over a row do not. What a pass moves is counted in numbers of each role: formats come later.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, assert_never

from codesign.optimizers import Optimizer
from codesign.workload import Layer, Phase, VectorKind, layers


class Pass(NamedTuple):  # made by the thousand: a tuple takes a third of the time of a dataclass
    """One pass of the vector unit.

    operations : of its lanes
    weight, activation, error, gradient, optimizer_state : numbers of that role between DRAM and chip, both directions
    mask_bits : bits that are kept for the backward pass instead of a tensor
    """

    phase: Phase
    operations: int
    weight: int = 0
    activation: int = 0
    error: int = 0
    gradient: int = 0
    optimizer_state: int = 0
    mask_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Accesses:
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


@cache
def _accesses(kind: VectorKind) -> _Accesses:
    """Operations are multiply-adds, comparisons, exponentials and divisions of the textbook formulas, one each."""
    match kind:
        case VectorKind.BATCH_NORM:
            # two statistics, then scale and shift; backward: two sums over x and dy, then dx from both
            return _Accesses(forward=(2, 1), backward=(2, 0, 2, 1), operations=(4, 7))
        case VectorKind.ROW_NORM:
            return _Accesses(forward=(1, 1), backward=(1, 0, 1, 1), operations=(4, 7))
        case VectorKind.ACTIVATION:
            return _Accesses(forward=(1, 1), backward=(0, 1, 1, 1), operations=(1, 1))
        case VectorKind.MAX_POOL:
            return _Accesses(forward=(1, 1), backward=(0, 0, 1, 1), mask_bits=8, operations=(1, 1))
        case VectorKind.REDUCE | VectorKind.CONCATENATE:
            return _Accesses(forward=(1, 1), backward=(0, 0, 1, 1), operations=(1, 1))
        case VectorKind.ADD:  # both errors are the sum's
            return _Accesses(forward=(1, 1), backward=(0, 0, 0, 0), operations=(1, 0))
        case VectorKind.MULTIPLY:
            return _Accesses(forward=(1, 1), backward=(1, 0, 1, 1), operations=(1, 2))
        case VectorKind.SOFTMAX:  # maximum, exponential, sum, division; backward: y (dy - sum y dy)
            return _Accesses(forward=(1, 1), backward=(0, 1, 1, 1), operations=(4, 4))
        case VectorKind.DROPOUT:
            return _Accesses(forward=(1, 1), backward=(0, 0, 1, 1), mask_bits=1, operations=(2, 1))
        case VectorKind.FORK:
            return _Accesses(forward=(0, 0), backward=(0, 0, 0, 0), operations=(0, 0))
        case VectorKind.LOSS:  # softmax and cross-entropy in one pass; its gradient is softmax minus target
            return _Accesses(forward=(1, 0), backward=(1, 0, 0, 1), operations=(5, 2))
        case _:
            assert_never(kind)


def passes(layer: Layer, batch: int, optimizer: Optimizer) -> list[Pass]:
    """The passes of one training step, the update of its parameters last. Weight layers have no other."""
    match layer:
        case layers.Convolution() | layers.Linear() | layers.Matmul():
            found = []
        case layers.Embedding():
            found = _embedding(layer, batch)
        case layers.VectorOp():
            found = _vector_op(layer, batch)
        case _:
            assert_never(layer)
    return [*found, _update(layer.parameters, optimizer)] if layer.parameters else found


def keeps(layer: Layer) -> tuple[bool, bool, int]:
    """What stays in memory from forward to backward: (its inputs, its output, mask bits per output element)."""
    match layer:
        case layers.Convolution() | layers.Linear() | layers.Matmul():
            return True, False, 0
        case layers.Embedding():
            return False, False, 0
        case layers.VectorOp():
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


def is_fusable(layer: Layer) -> bool:
    """Work that reads one tensor and writes one of the same size can be done on the way from array to memory."""
    match layer:
        case layers.VectorOp():
            return _is_elementwise(layer.kind)
        case layers.Convolution() | layers.Linear() | layers.Matmul() | layers.Embedding():
            return False
        case _:
            assert_never(layer)


def _is_elementwise(kind: VectorKind) -> bool:
    match kind:
        case VectorKind.ACTIVATION | VectorKind.ADD | VectorKind.DROPOUT:
            return True
        case (
            VectorKind.BATCH_NORM
            | VectorKind.ROW_NORM
            | VectorKind.MAX_POOL
            | VectorKind.REDUCE
            | VectorKind.MULTIPLY
            | VectorKind.CONCATENATE
            | VectorKind.SOFTMAX
            | VectorKind.FORK
            | VectorKind.LOSS
        ):
            return False
        case _:
            assert_never(kind)


def _vector_op(layer: layers.VectorOp, batch: int) -> list[Pass]:
    x, y = layer.in_elements * batch, layer.out_elements * batch
    if layer.kind is VectorKind.FORK:
        return _fork(layer, x)
    accesses = _accesses(layer.kind)
    larger, mask_bits = max(x, y), accesses.mask_bits * y
    found = [
        Pass(
            phase=Phase.FORWARD,
            operations=accesses.operations[0] * larger,
            activation=accesses.forward[0] * x + accesses.forward[1] * y,
            mask_bits=mask_bits,
        )
    ]
    read_x, read_y, read_dy, write_dx = accesses.backward
    errors = read_dy * y + write_dx * x
    if layer.needs_input_grad and errors:
        found.append(
            Pass(
                phase=Phase.INPUT_GRAD,
                operations=accesses.operations[1] * larger,
                activation=read_x * x + read_y * y,
                error=errors,
                mask_bits=mask_bits,
            )
        )
    return found


def _fork(layer: layers.VectorOp, x: int) -> list[Pass]:
    """The sum of the readers' errors, two at a time."""
    if not layer.needs_input_grad:
        return []
    sums = layer.readers - 1
    return [Pass(phase=Phase.INPUT_GRAD, operations=sums * x, error=3 * sums * x)]


def _embedding(layer: layers.Embedding, batch: int) -> list[Pass]:
    """Look-ups, and the gradient added into the rows that were looked up."""
    elements = layer.out_elements * (1 if layer.shared else batch)
    return [
        Pass(phase=Phase.FORWARD, operations=elements, weight=elements, activation=elements),
        Pass(phase=Phase.WEIGHT_GRAD, operations=elements, error=elements, gradient=2 * elements),
    ]


def _update(parameters: int, optimizer: Optimizer) -> Pass:
    """Reads and writes states, reads the gradient, writes the weight copy: 2s+g+w, 4s+g+w, 6s+g+w per parameter."""
    return Pass(
        phase=Phase.UPDATE,
        operations=parameters * optimizer.operations,
        optimizer_state=parameters * 2 * optimizer.states,
        gradient=parameters,
        weight=parameters,
    )
