"""The work of layers before any machine is known: matrix products and passes of the vector unit, as columns.

Every price begins here: one step, tables of options, sweeps, the what-if page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np
import numpy.typing as npt

from codesign.cost.lower import Product, products
from codesign.cost.scales import Scales
from codesign.cost.vector import Pass, passes
from codesign.design import LayerFormats, Role
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.optimizers import Optimizer
from codesign.workload import Layer, Phase

Ints = npt.NDArray[np.int64]
Columns = dict[str, np.ndarray]

PHASES = tuple(Phase)
ROLES = tuple(Role)
SIZE_COLUMNS = ("m", "n", "k", "repeats")
IMAGE_COLUMNS = ("image", "out_rows", "out_cols", "in_rows", "in_cols", "row_step", "row_span", "taps")
_PHASE_NUMBER = {phase: i for i, phase in enumerate(PHASES)}
_ROLE_NUMBER = {role: i for i, role in enumerate(ROLES)}
_NO_IMAGE = (0,) * len(IMAGE_COLUMNS)
_STATE = _ROLE_NUMBER[Role.OPTIMIZER_STATE]
_PRODUCT_WORDS = 1 + 3 + len(SIZE_COLUMNS) + len(IMAGE_COLUMNS)  # phase, roles, sizes, image
_PASS_WORDS = 1 + 2 + len(ROLES)  # phase, operations, mask bits, numbers of each role


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lowering:
    """Products and passes of some layers, each kind in the order of layers, and within a layer of phases.

    layers, formats : what the numbers below index
    product_layers, product_phases, product_formats : one number for each product; phases in the order of `Phase`
    product_roles : shape (products, 3), the roles of A, B and C in the order of `Role`
    sizes : columns `SIZE_COLUMNS` and `IMAGE_COLUMNS` of `cs_products`
    pass_layers, pass_phases, pass_formats : one number for each pass
    pass_operations, pass_mask_bits : whole numbers, one for each pass; see `Pass`
    pass_numbers : shape (passes, roles), numbers moved of each role in the order of `Role`
    """

    layers: tuple[Layer, ...]
    formats: tuple[LayerFormats, ...]
    product_layers: Ints
    product_phases: Ints
    product_formats: Ints
    product_roles: Ints
    sizes: Columns
    pass_layers: Ints
    pass_phases: Ints
    pass_formats: Ints
    pass_operations: Ints
    pass_mask_bits: Ints
    pass_numbers: Ints

    def operands(self, product: int) -> tuple[FloatFormat, FloatFormat, FloatFormat]:
        """Formats of A, of B and of the partial sums of one product."""
        formats = self.formats[self.product_formats[product]]
        first, second = (ROLES[role] for role in self.product_roles[product, :2])
        return format_of(formats, first), format_of(formats, second), formats.accumulator

    def width_columns(self) -> Columns:
        """The columns `a_bits`, `b_bits`, `c_bits`, `accumulator_bits` of `cs_products`."""
        found = _widths(self.formats)[self.product_formats[:, None], self.product_roles]
        accumulator = _widths(self.formats)[self.product_formats, _ROLE_NUMBER[Role.ACCUMULATOR]]
        return {"a_bits": found[:, 0], "b_bits": found[:, 1], "c_bits": found[:, 2], "accumulator_bits": accumulator}

    def pass_traffic_bits(self, scales: Scales) -> npt.NDArray[np.float64]:
        """Bits that each pass moves, with the shared scales of all but the optimizer's state; exact below 2^53."""
        bits = self.pass_numbers * _widths(self.formats)[self.pass_formats].astype(np.float64)
        if scales.bits:
            blocks = -(-self.pass_numbers // scales.block)
            blocks[:, _STATE] = 0
            bits = bits + blocks * float(scales.bits)
        total: npt.NDArray[np.float64] = bits.sum(axis=1) + self.pass_mask_bits
        return total


def format_of(formats: LayerFormats, role: Role) -> FloatFormat:
    """The format of one role."""
    match role:
        case Role.WEIGHT:
            return formats.weight
        case Role.ACTIVATION:
            return formats.activation
        case Role.ERROR:
            return formats.error
        case Role.GRADIENT:
            return formats.gradient
        case Role.ACCUMULATOR:
            return formats.accumulator
        case Role.OPTIMIZER_STATE:
            return formats.optimizer_state
        case _:
            assert_never(role)


def lower(layers: Iterable[tuple[Layer, LayerFormats]], batch: int, optimizer: Optimizer) -> Lowering:
    """The work of these layers, each in its formats, in one training step of `batch` examples.

    Raises `CostError` where a size is too large to be counted.
    """
    parts: list[tuple[Layer, int, int, int]] = []  # layer, number of its formats, its products, its passes
    formats: list[LayerFormats] = []
    number_of: dict[int, int] = {}  # by identity: hashing the formats themselves takes longer than all the rest
    rows_of: dict[int, tuple[_Table, _Table]] = {}  # by identity too: a table of options has each layer in every format
    product_rows: list[tuple[int, ...]] = []
    pass_rows: list[tuple[int, ...]] = []
    for layer, chosen in layers:
        if id(chosen) not in number_of:
            number_of[id(chosen)] = len(formats)
            formats.append(chosen)
        if id(layer) not in rows_of:
            rows_of[id(layer)] = _rows_of(layer, batch, optimizer)
        of_products, of_passes = rows_of[id(layer)]
        parts.append((layer, number_of[id(chosen)], len(of_products), len(of_passes)))
        product_rows += of_products
        pass_rows += of_passes
    numbers = np.arange(len(parts))
    of_layer = np.array([part[1:] for part in parts], np.int64).reshape(-1, 3)
    product_layers, pass_layers = np.repeat(numbers, of_layer[:, 1]), np.repeat(numbers, of_layer[:, 2])
    product, other = _table(product_rows, _PRODUCT_WORDS), _table(pass_rows, _PASS_WORDS)
    return Lowering(
        layers=tuple(part[0] for part in parts),
        formats=tuple(formats),
        product_layers=product_layers,
        product_phases=product[:, 0],
        product_formats=of_layer[product_layers, 0],
        product_roles=product[:, 1:4],
        sizes={name: product[:, 4 + i] for i, name in enumerate((*SIZE_COLUMNS, *IMAGE_COLUMNS))},
        pass_layers=pass_layers,
        pass_phases=other[:, 0],
        pass_formats=of_layer[pass_layers, 0],
        pass_operations=other[:, 1],
        pass_mask_bits=other[:, 2],
        pass_numbers=other[:, 3:],
    )


def _table(rows: list[tuple[int, ...]], words: int) -> Ints:
    try:
        return np.array(rows, np.int64).reshape(len(rows), words)
    except OverflowError as error:
        raise CostError("a layer has sizes of 2^63 and more; use a smaller batch") from error


def _widths(formats: tuple[LayerFormats, ...]) -> Ints:
    """Bits of each role, shape (formats, roles)."""
    return np.array([[format_of(each, role).bits for role in ROLES] for each in formats], np.int64).reshape(
        -1, len(ROLES)
    )


_Table = list[tuple[int, ...]]


def _rows_of(layer: Layer, batch: int, optimizer: Optimizer) -> tuple[_Table, _Table]:
    """Products and passes of one layer as whole numbers: the rows of the two tables of `lower`."""
    of_passes = [_pass_row(each) for each in passes(layer, batch, optimizer)]
    if not layer.macs:  # no products; looking that up would take longer than the passes
        return [], of_passes
    return _product_rows(layer, batch), of_passes


@lru_cache(maxsize=4096)
def _product_rows(layer: Layer, batch: int) -> _Table:
    return [_product_row(product) for product in products(layer, batch)]


def _product_row(product: Product) -> tuple[int, ...]:
    gemm, image = product.gemm, product.image
    first, second, result = product.roles
    place: tuple[int, ...] = _NO_IMAGE
    if image is not None:
        place = (2 if image.transposed else 1, image.out_rows, image.out_cols, image.in_rows, image.in_cols,
                 image.row_step, image.row_span, image.taps)  # fmt: skip
    return (_PHASE_NUMBER[product.phase], _ROLE_NUMBER[first], _ROLE_NUMBER[second], _ROLE_NUMBER[result],
            gemm.m, gemm.n, gemm.k, product.repeats, *place)  # fmt: skip


def _pass_row(each: Pass) -> tuple[int, ...]:
    """The numbers in the order of `Role`; partial sums never leave the array."""
    return (_PHASE_NUMBER[each.phase], each.operations, each.mask_bits, each.weight, each.activation, each.error,
            each.gradient, 0, each.optimizer_state)  # fmt: skip
