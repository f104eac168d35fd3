"""The four phases of a training step, and the matrix products in them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from codesign.errors import CostError


class Phase(StrEnum):
    """What a training step does with one layer."""

    FORWARD = "forward"
    INPUT_GRAD = "input-grad"  # gradient of the loss by the layer's input
    WEIGHT_GRAD = "weight-grad"  # gradient of the loss by the layer's weights
    UPDATE = "update"  # the optimizer's step


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmShape:
    """C[m,n] += A[m,k] B[k,n]."""

    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            value = getattr(self, name)
            if value <= 0:
                raise CostError(f"GEMM dimension {name} must be positive, got {value}")

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations."""
        return self.m * self.n * self.k


def gemm_of(phase: Phase, forward: GemmShape) -> GemmShape:
    """The product that `phase` computes for a layer whose forward product is Y[m,n] = X[m,k] W[k,n].

    UPDATE has no product: `CostError`.
    """
    m, n, k = forward.m, forward.n, forward.k
    match phase:
        case Phase.FORWARD:
            return forward
        case Phase.INPUT_GRAD:
            return GemmShape(m=m, n=k, k=n)  # dX[m,k] = dY[m,n] W'[n,k]
        case Phase.WEIGHT_GRAD:
            return GemmShape(m=k, n=n, k=m)  # dW[k,n] = X'[k,m] dY[m,n]
        case Phase.UPDATE:
            raise CostError("the update phase has no matrix product")
