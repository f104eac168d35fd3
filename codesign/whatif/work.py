"""The work of a training step as plain numbers, before any machine is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from codesign.cost.lower import Product, products
from codesign.cost.scales import NO_SCALES
from codesign.cost.vector import VectorWork, embedding_work, update_work, vector_work
from codesign.design import LayerFormats, Role
from codesign.optimizers import Optimizer
from codesign.workload import Embedding, Layer, Phase, VectorOp, Workload

IMAGE_COLUMNS = ("image", "out_rows", "out_cols", "in_rows", "in_cols", "row_step", "row_span", "taps")
PHASE_NUMBER = {phase: i for i, phase in enumerate(Phase)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One product or one pass of the vector unit. `layer` and `phase` are indices."""

    layer: int
    phase: int
    work: Product | VectorWork


def rows_of(network: Workload, formats: LayerFormats, optimizer: Optimizer) -> list[Row]:
    """All of a step with one set of formats, in the order of `simulate`: by layer, phase, products before passes."""
    rows = [
        Row(layer=number, phase=PHASE_NUMBER[work.phase], work=work)
        for number, layer in enumerate(network.layers)
        for work in _work(layer, formats, network.batch, optimizer)
    ]
    return sorted(rows, key=lambda row: (row.layer, row.phase, isinstance(row.work, VectorWork)))


def _work(layer: Layer, formats: LayerFormats, batch: int, optimizer: Optimizer) -> Iterator[Product | VectorWork]:
    match layer:
        case VectorOp():
            yield from vector_work(layer, formats, batch, NO_SCALES)
        case Embedding():
            yield from embedding_work(layer, formats, batch, NO_SCALES)
        case _:
            yield from products(layer, batch)
    if layer.parameters:
        yield update_work(layer.parameters, formats, optimizer, NO_SCALES)


def sizes_of(product: Product) -> tuple[int, ...]:
    """m, n, k, repeats and the image columns of `cs_products`."""
    gemm, image = product.gemm, product.image
    if image is None:
        place: tuple[int, ...] = (0,) * len(IMAGE_COLUMNS)
    else:
        place = (2 if image.transposed else 1, *(getattr(image, name) for name in IMAGE_COLUMNS[1:]))
    return (gemm.m, gemm.n, gemm.k, product.repeats, *place)


def bits_of(formats: LayerFormats, role: Role) -> int:
    """Width of the format of one role."""
    bits: int = getattr(formats, role.value).bits
    return bits
