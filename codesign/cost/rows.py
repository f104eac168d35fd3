"""The work of some layers as rows: matrix products for the C core, vector work beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codesign.cost.columns import PRODUCT_COLUMNS, Columns, RowError, cost_columns
from codesign.cost.lower import Product, products
from codesign.cost.machine import OUT_OF_RANGE, UnitCosts, format_of, machine_of
from codesign.cost.report import COST_FIELDS
from codesign.cost.scales import Scales
from codesign.cost.vector import VectorWork, embedding_work, update_work, vector_work
from codesign.design import LayerFormats, Role
from codesign.errors import CostError
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.workload import Embedding, Layer, Phase, VectorOp

_IMAGE = ("out_rows", "out_cols", "in_rows", "in_cols", "row_step", "row_span", "taps")
_PHASE_NUMBER = {phase: i for i, phase in enumerate(Phase)}
_INTEGERS = tuple(name for name in PRODUCT_COLUMNS if name not in ("machine", "mac_pj", "scale_block", "scale_bits"))


class Rows:
    """Collects the work of layers in given formats; `solve` prices all of it in one call."""

    def __init__(self, accelerator: Accelerator, optimizer: Optimizer, scales: Scales) -> None:
        self.accelerator = accelerator
        self.optimizer = optimizer
        self.scales = scales
        self._units = UnitCosts(accelerator)
        self._known: dict[tuple[int, tuple[Role, Role, Role]], tuple[LayerFormats, tuple[int, ...], float]] = {}
        self._product_labels: list[tuple[int, int]] = []
        self._products: list[tuple[int, ...]] = []
        self._mac_pj: list[float] = []
        self._vector_labels: list[tuple[int, int]] = []
        self._vectors: list[tuple[int, int]] = []
        self.layers: list[Layer] = []

    def add(self, layer: Layer, formats: LayerFormats, batch: int) -> int:
        """Add the work of a layer; returns the number by which `solve` calls it."""
        number = len(self.layers)
        self.layers.append(layer)
        match layer:
            case VectorOp():
                self._add_vectors(number, vector_work(layer, formats, batch, self.scales))
            case Embedding():
                self._add_vectors(number, embedding_work(layer, formats, batch, self.scales))
            case _:
                for product in products(layer, batch):
                    self._add_product(number, product, formats)
        if layer.parameters:
            self._add_vectors(number, [update_work(layer.parameters, formats, self.optimizer, self.scales)])
        return number

    def _add_vectors(self, number: int, work: Iterable[VectorWork]) -> None:
        for part in work:
            self._vector_labels.append((number, _PHASE_NUMBER[part.phase]))
            self._vectors.append((part.operations, part.traffic_bits))

    def _add_product(self, number: int, product: Product, formats: LayerFormats) -> None:
        key = (id(formats), product.roles)  # hashing the formats themselves takes longer than all the rest
        if key not in self._known:
            first, second, result = (format_of(formats, role) for role in product.roles)
            try:
                rate, energy = self._units.of(first, second, formats.accumulator)
            except CostError as error:
                raise CostError(f"layer '{self.layers[number].name}' ({product.phase}): {error}") from error
            self._known[key] = (formats, (first.bits, second.bits, result.bits, formats.accumulator.bits, rate), energy)
        _, widths, energy = self._known[key]
        image, gemm = product.image, product.gemm
        place = (0,) * 8 if image is None else (2 if image.transposed else 1, *(getattr(image, x) for x in _IMAGE))
        self._product_labels.append((number, _PHASE_NUMBER[product.phase]))
        self._products.append(
            (
                gemm.m, gemm.n, gemm.k, product.repeats, *widths, *place,
            )
        )  # fmt: skip
        self._mac_pj.append(energy)

    def _columns(self) -> Columns:
        table = np.array(self._products, np.int64).reshape(len(self._products), len(_INTEGERS))
        columns: Columns = {name: table[:, i] for i, name in enumerate(_INTEGERS)}
        columns["machine"] = np.zeros(1, np.int64)
        columns["mac_pj"] = np.array(self._mac_pj)
        columns["scale_block"] = np.array([self.scales.block if self.scales.bits else 0])
        columns["scale_bits"] = np.array([self.scales.bits])
        return columns

    def solve(self, *, threads: int = 1) -> Solved:
        """The cost of every row."""
        columns = self._columns()
        try:
            mappings, costs = cost_columns([machine_of(self.accelerator)], columns, threads=threads)
        except RowError as error:
            raise self._explained(error, columns) from error
        machine, clock = self.accelerator, self.accelerator.array.clock_hz
        macs = columns["m"] * columns["n"] * columns["k"] * columns["repeats"]
        traffic = costs["a_bits"] + costs["b_bits"] + costs["c_bits"]
        found = {
            "latency_s": costs["cycles"] / clock,
            "compute_s": costs["compute_cycles"] / clock,
            "vector_s": np.zeros(len(macs)),
            "memory_s": costs["transfer_cycles"] / clock,
            "ideal_s": macs * (256 / (machine.array.elements * clock)) / columns["rate"],
            "macs": macs,
            "traffic_bits": traffic,
            "first_bits": costs["a_bits"],
            "second_bits": costs["b_bits"],
            "result_bits": costs["c_bits"],
            "sram_bits": costs["sram_bits"],
            "mac_j": macs * columns["mac_pj"] * 1e-12,
            "sram_j": costs["sram_bits"] * (machine.sram.energy_pj_per_bit * 1e-12),
            "dram_j": traffic * (machine.dram.energy_pj_per_bit * 1e-12),
        }
        vectors = self._vector_costs()
        labels = np.array(self._product_labels + self._vector_labels, np.int64).reshape(-1, 2)
        no_mapping = np.full(len(self._vectors), -1)
        return Solved(
            layer_numbers=labels[:, 0],
            phase_numbers=labels[:, 1],
            columns={name: np.concatenate((found[name], vectors[name])) for name in COST_FIELDS},
            mappings={name: np.concatenate((column, no_mapping)) for name, column in mappings.items()},
        )

    def _vector_costs(self) -> Columns:
        """An access latency, then the lanes and the channel side by side; every bit is in SRAM once in and once out."""
        machine, clock = self.accelerator, self.accelerator.array.clock_hz
        table = np.array(self._vectors, np.float64).reshape(len(self._vectors), 2)
        operations, bits = table[:, 0], table[:, 1]
        fields = machine_of(machine)
        busy = np.ceil(operations / machine.vector.lanes)
        moving = np.where(bits > 0, fields["dram_latency_cycles"] + np.ceil(bits / fields["dram_bits_per_cycle"]), 0)
        zero = np.zeros(len(bits))
        return {
            "latency_s": np.maximum(busy, moving) / clock,
            "compute_s": zero,
            "vector_s": busy / clock,
            "memory_s": moving / clock,
            "ideal_s": zero,
            "macs": zero,
            "traffic_bits": bits,
            "first_bits": zero,
            "second_bits": zero,
            "result_bits": zero,
            "sram_bits": 2 * bits,
            "mac_j": zero,
            "sram_j": 2 * bits * (machine.sram.energy_pj_per_bit * 1e-12),
            "dram_j": bits * (machine.dram.energy_pj_per_bit * 1e-12),
        }

    def _explained(self, error: RowError, columns: Columns) -> CostError:
        if error.reason == "machine":
            return CostError(f"accelerator '{self.accelerator.name}' {OUT_OF_RANGE}")
        number, phase = self._product_labels[error.row]
        m, n, k = (int(columns[name][error.row]) for name in "mnk")
        where = f"layer '{self.layers[number].name}' ({list(Phase)[phase]}): product {m} x {n} x {k}"
        machine = self.accelerator
        if error.reason == "capacity":
            return CostError(
                f"{where}: not even the smallest tile fits into the {machine.sram.capacity_bytes} bytes of on-chip "
                f"memory of '{machine.name}'; enlarge sram.capacity_bytes or use a smaller array than "
                f"{machine.array.rows} x {machine.array.cols}"
            )
        if error.reason == "overflow":
            return CostError(
                f"{where}: more than 2^55 multiply-accumulates, or 2^61 bits or cycles; use a smaller batch"
            )
        return CostError(f"{where}: out of the core's range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """Costs of all rows: products first, then vector work.

    layer_numbers, phase_numbers : index into the layers that were added, and into `Phase`
    columns : field of `Cost` -> array
    mappings : columns of `cs_mappings`; -1 for vector work
    """

    layer_numbers: np.ndarray
    phase_numbers: np.ndarray
    columns: Columns
    mappings: Columns
