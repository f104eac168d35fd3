"""Which matrix products and vector work each layer needs in each phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

from codesign.workload import Convolution, GemmShape, Linear, Phase, WeightLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`repeats` equal matrix products, and the distinct numbers that they read and write.

    first, second, result : elements of operand A, operand B and C that move between DRAM and the chip at least once
    """

    phase: Phase
    gemm: GemmShape
    repeats: int
    first: int
    second: int
    result: int


def products(layer: WeightLayer, batch: int) -> list[Product]:
    """The matrix products of one training step of `layer`: forward, input gradient (where needed), weight gradient."""
    if isinstance(layer, Linear):
        m, n, k, repeats = layer.rows * batch, layer.out_features, layer.in_features, 1
        in_pixels, taps = m, 1
        stride = 1
    else:
        repeats, taps, stride = layer.groups, math.prod(layer.kernel), math.prod(layer.stride)
        m, n = math.prod(layer.out_size) * batch, layer.out_channels // layer.groups
        k = layer.in_channels // layer.groups * taps
        in_pixels = math.prod(layer.in_size) * batch
    x, w, y = layer.in_elements * batch, k * n * repeats, layer.out_elements * batch
    found = [Product(phase=Phase.FORWARD, gemm=GemmShape(m=m, n=n, k=k), repeats=repeats, first=x, second=w, result=y)]
    if layer.needs_input_grad:
        # stride s: each input pixel meets about 1/s of the taps in each dimension
        gemm = GemmShape(m=in_pixels, n=k // taps, k=max(1, n * taps // stride))
        found.append(Product(phase=Phase.INPUT_GRAD, gemm=gemm, repeats=repeats, first=y, second=w, result=x))
    gemm = GemmShape(m=k, n=n, k=m)
    found.append(Product(phase=Phase.WEIGHT_GRAD, gemm=gemm, repeats=repeats, first=x, second=y, result=w))
    return found


__all__ = ["Convolution", "Product", "products"]
