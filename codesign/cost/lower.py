"""Which matrix products each layer needs in each phase, and how they read images through convolution windows."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import assert_never

from codesign.design import Role
from codesign.workload import GemmShape, Layer, Phase, gemm_of, layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """How a matrix of (output pixels) x (channels x taps) lies in an image. See `cs_products` in csrc/codesign.h.

    Rows are the first spatial dimension; all the others together are columns.
    transposed : the matrix is (channels x taps) x (output pixels)
    """

    transposed: bool
    out_rows: int
    out_cols: int
    in_rows: int
    in_cols: int
    row_step: int
    row_span: int
    taps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`repeats` equal matrix products C[m,n] += A[m,k] B[k,n]; `roles` are those of A, B and C."""

    phase: Phase
    gemm: GemmShape
    repeats: int = 1
    roles: tuple[Role, Role, Role]
    image: Image | None = None


_FORWARD = (Role.ACTIVATION, Role.WEIGHT, Role.ACTIVATION)
_INPUT_GRAD = (Role.ERROR, Role.WEIGHT, Role.ERROR)
_WEIGHT_GRAD = (Role.ACTIVATION, Role.ERROR, Role.GRADIENT)


def products(layer: Layer, batch: int) -> tuple[Product, ...]:
    """The matrix products of one training step: forward, input gradient (where something needs it), weight gradient.

    None for layers whose work are passes of the vector unit.
    """
    match layer:
        case layers.Convolution():
            return _convolution(layer, batch)
        case layers.Linear():
            return _linear(layer, batch)
        case layers.Matmul():
            return _matmul(layer, batch)
        case layers.Embedding() | layers.VectorOp():
            return ()
        case _:
            assert_never(layer)


def _linear(layer: layers.Linear, batch: int) -> tuple[Product, ...]:
    forward = GemmShape(m=layer.rows * batch, n=layer.out_features, k=layer.in_features)
    found = [Product(phase=Phase.FORWARD, gemm=forward, roles=_FORWARD)]
    if layer.needs_input_grad:
        found.append(Product(phase=Phase.INPUT_GRAD, gemm=gemm_of(Phase.INPUT_GRAD, forward), roles=_INPUT_GRAD))
    found.append(Product(phase=Phase.WEIGHT_GRAD, gemm=gemm_of(Phase.WEIGHT_GRAD, forward), roles=_WEIGHT_GRAD))
    return tuple(found)


def _matmul(layer: layers.Matmul, batch: int) -> tuple[Product, ...]:
    """Both operands are activations, and both get a gradient."""
    m, n, k, repeats = layer.m, layer.n, layer.k, layer.count * batch
    a, e = Role.ACTIVATION, Role.ERROR
    plan = (
        (Phase.FORWARD, GemmShape(m=m, n=n, k=k), (a, a, a)),
        (Phase.INPUT_GRAD, GemmShape(m=m, n=k, k=n), (e, a, e)),  # dA = dC B'
        (Phase.INPUT_GRAD, GemmShape(m=k, n=n, k=m), (a, e, e)),  # dB = A' dC
    )
    return tuple(Product(phase=phase, gemm=gemm, repeats=repeats, roles=roles) for phase, gemm, roles in plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The windows of a plain convolution from x to y. A transposed one is such a convolution read backwards."""

    x_size: tuple[int, ...]
    y_size: tuple[int, ...]
    x_channels: int  # per group
    y_channels: int
    groups: int


def _convolution(layer: layers.Convolution, batch: int) -> tuple[Product, ...]:
    outer, inner = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    if not layer.transposed:
        windows = _Windows(
            x_size=layer.in_size, y_size=layer.out_size, x_channels=outer, y_channels=inner, groups=layer.groups
        )
        found = [_gather(layer, windows, batch, Phase.FORWARD, _FORWARD)]
        if layer.needs_input_grad:
            found += _scatter(layer, windows, batch, Phase.INPUT_GRAD, _INPUT_GRAD)
        return (*found, _correlate(layer, windows, batch, _WEIGHT_GRAD))
    windows = _Windows(
        x_size=layer.out_size, y_size=layer.in_size, x_channels=inner, y_channels=outer, groups=layer.groups
    )
    found = _scatter(layer, windows, batch, Phase.FORWARD, _FORWARD)
    if layer.needs_input_grad:
        found.append(_gather(layer, windows, batch, Phase.INPUT_GRAD, _INPUT_GRAD))
    return (*found, _correlate(layer, windows, batch, (Role.ERROR, Role.ACTIVATION, Role.GRADIENT)))


def _gather(
    layer: layers.Convolution, windows: _Windows, batch: int, phase: Phase, roles: tuple[Role, Role, Role]
) -> Product:
    """y from x: each output pixel reads all taps of its window."""
    taps = math.prod(layer.kernel)
    gemm = GemmShape(m=batch * math.prod(windows.y_size), n=windows.y_channels, k=windows.x_channels * taps)
    image = _image(layer, windows, transposed=False)
    return Product(phase=phase, gemm=gemm, repeats=windows.groups, roles=roles, image=image)


def _correlate(layer: layers.Convolution, windows: _Windows, batch: int, roles: tuple[Role, Role, Role]) -> Product:
    """dW from x and dy: contracts over all output pixels of the batch."""
    taps = math.prod(layer.kernel)
    gemm = GemmShape(m=windows.x_channels * taps, n=windows.y_channels, k=batch * math.prod(windows.y_size))
    image = _image(layer, windows, transposed=True)
    return Product(phase=Phase.WEIGHT_GRAD, gemm=gemm, repeats=windows.groups, roles=roles, image=image)


def _image(layer: layers.Convolution, windows: _Windows, *, transposed: bool) -> Image:
    return Image(
        transposed=transposed,
        out_rows=windows.y_size[0],
        out_cols=math.prod(windows.y_size[1:]),
        in_rows=windows.x_size[0],
        in_cols=math.prod(windows.x_size[1:]),
        row_step=layer.stride[0],
        row_span=layer.dilation[0] * (layer.kernel[0] - 1) + 1,
        taps=math.prod(layer.kernel),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Residue:
    """Pixels of one dimension that have the same remainder by the stride, and the taps that reach them."""

    pixels: int
    taps: int
    span: int  # distance in y from the first to the last tap, both included


def _residues(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[_Residue]:
    """Tap t of pixel i reads y[(i + padding - t dilation) / stride] where that divides evenly."""
    found = []
    for remainder in range(min(stride, size)):
        taps = [t for t in range(kernel) if (remainder + padding - t * dilation) % stride == 0]
        if taps:
            span = (taps[-1] - taps[0]) * dilation // stride + 1
            found.append(_Residue(pixels=-(-(size - remainder) // stride), taps=len(taps), span=span))
    return found


def _scatter(
    layer: layers.Convolution, windows: _Windows, batch: int, phase: Phase, roles: tuple[Role, Role, Role]
) -> list[Product]:
    """x from y: the transposed convolution, as one dense convolution for each remainder of a pixel by the stride.

    So the zeros between the pixels of y are never multiplied; pixels that no tap reaches have no product.
    """
    dimensions = [
        _residues(size, kernel, stride, padding, dilation)
        for size, kernel, stride, padding, dilation in zip(
            windows.x_size, layer.kernel, layer.stride, layer.padding, layer.dilation, strict=True
        )
    ]
    found = []
    for parts in itertools.product(*dimensions):
        taps = math.prod(part.taps for part in parts)
        gemm = GemmShape(
            m=batch * math.prod(part.pixels for part in parts), n=windows.x_channels, k=windows.y_channels * taps
        )
        image = Image(
            transposed=False,
            out_rows=parts[0].pixels,
            out_cols=math.prod(part.pixels for part in parts[1:]),
            in_rows=windows.y_size[0],
            in_cols=math.prod(windows.y_size[1:]),
            row_step=1,
            row_span=parts[0].span,
            taps=taps,
        )
        found.append(Product(phase=phase, gemm=gemm, repeats=windows.groups, roles=roles, image=image))
    return found
