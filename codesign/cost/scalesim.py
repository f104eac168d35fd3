"""The `scalesim` mode: what SCALE-Sim 3.0.0 reports for one layer, to the cycle, its known faults included.

It exists to show that the model is right, and to compare with results of that simulator. Stalls are not reproduced: there
they are added twice and depend on the output bandwidth alone, so `total_cycles` is that of its stall-free mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from codesign.cost.columns import fill_struct, struct_columns
from codesign.cost.lower import products
from codesign.cost.machine import DATAFLOWS
from codesign.errors import CostError
from codesign.hardware import Accelerator, Dataflow
from codesign.native import ffi, lib
from codesign.workload import GemmShape, Phase, Workload

_LAYER_COLUMNS = struct_columns("cs_scalesim_layers")
_COUNT_COLUMNS = struct_columns("cs_scalesim_counts")


WITHOUT_STALLS = ("total_cycles", "overall_utilisation_pct")  # under a bandwidth limit, where stalls may lengthen them


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSimConvolution:
    """A convolution as that simulator has it: on the padded image, one stride, output rows rounded up."""

    in_rows: int
    in_cols: int
    channels: int
    kernel_rows: int
    kernel_cols: int
    stride: int
    filters: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise CostError(f"convolution: {name} must be positive, got {getattr(self, name)}")
        for kernel, size in (("kernel_rows", "in_rows"), ("kernel_cols", "in_cols")):
            if getattr(self, kernel) > getattr(self, size):
                raise CostError(
                    f"convolution: {kernel} {getattr(self, kernel)} exceeds the padded {size} {getattr(self, size)}"
                )

    @property
    def gemm(self) -> GemmShape:
        """The product that it is unrolled into: output pixels x filters x window."""
        rows = -(-(self.in_rows - self.kernel_rows + self.stride) // self.stride)
        cols = -(-(self.in_cols - self.kernel_cols + self.stride) // self.stride)
        return GemmShape(m=rows * cols, n=self.filters, k=self.kernel_rows * self.kernel_cols * self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSimCase:
    """One layer on one array. Memory in kB of one-byte words, as that simulator's configuration has it.

    bandwidth : DRAM words a cycle, that simulator's USER mode; None is its CALC mode, without limit
    """

    layer: GemmShape | ScaleSimConvolution
    dataflow: Dataflow
    rows: int
    cols: int
    ifmap_kb: int
    filter_kb: int
    ofmap_kb: int
    bandwidth: int | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "cols", "ifmap_kb", "filter_kb", "ofmap_kb", "bandwidth"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CostError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def gemm(self) -> GemmShape:
        """The product that the array computes."""
        match self.layer:
            case GemmShape():
                return self.layer
            case ScaleSimConvolution():
                return self.layer.gemm
            case _:
                assert_never(self.layer)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSimCounts:
    """What SCALE-Sim reports. Percentages as in its reports; words for SRAM and DRAM.

    dram_ifmap_reads, dram_filter_reads : None under a bandwidth limit where the operand is larger than half of its buffer,
        and for the ifmap of a convolution: not modelled
    """

    folds: int
    compute_cycles: int
    total_cycles: int
    mapping_efficiency_pct: float
    compute_utilisation_pct: float
    overall_utilisation_pct: float
    sram_ifmap_reads: int
    sram_filter_reads: int
    sram_ofmap_writes: int
    dram_ifmap_reads: int | None
    dram_filter_reads: int | None
    dram_ofmap_writes: int


def counts_of(cases: Sequence[ScaleSimCase]) -> list[ScaleSimCounts]:
    """The counts of every case; closed forms, but for the ifmap of a convolution, whose stream is simulated."""
    columns = {
        "dataflow": [DATAFLOWS.index(case.dataflow) for case in cases],
        "rows": [case.rows for case in cases],
        "cols": [case.cols for case in cases],
        **{name: [getattr(case.gemm, name) for case in cases] for name in "mnk"},
        "ifmap_buffer": [_operand_words(case.ifmap_kb) for case in cases],
        "filter_buffer": [_operand_words(case.filter_kb) for case in cases],
        "ofmap_buffer": [512 * case.ofmap_kb for case in cases],
    }
    layers = {name: np.array(columns[name], dtype) for name, dtype in _LAYER_COLUMNS.items()}
    counts = {name: np.empty(len(cases), dtype) for name, dtype in _COUNT_COLUMNS.items()}
    keep: list[object] = []
    bad = ffi.new("size_t *")
    c_layers = fill_struct("cs_scalesim_layers", layers, slice(None), keep)
    c_layers.count = len(cases)
    status = lib.cs_scalesim(c_layers, fill_struct("cs_scalesim_counts", counts, slice(None), keep), bad)
    if status != lib.CS_OK:
        why = "more than 2^55 counts" if status == lib.CS_ERR_OVERFLOW else "a size out of range (arrays end at 65536)"
        raise CostError(f"case {bad[0]}: {cases[bad[0]]}: {why}")
    return [_result(case, {name: int(column[i]) for name, column in counts.items()}) for i, case in enumerate(cases)]


def _operand_words(kilobytes: int) -> int:
    return 50 * (1024 * kilobytes // 100)


def _result(case: ScaleSimCase, counts: dict[str, int]) -> ScaleSimCounts:
    m, n, k = case.gemm.m, case.gemm.n, case.gemm.k
    rows, cols, folds = case.rows, case.cols, counts["folds"]
    match case.dataflow:
        case Dataflow.OS:
            mapped, busy = m * n, k / (k + rows + cols - 2)
        case Dataflow.WS:
            mapped, busy = k * n, m / (m + 2 * rows + 2 * cols - 3)
        case Dataflow.IS:
            mapped, busy = k * m, n / (n + 2 * rows + 2 * cols - 3)
        case _:
            assert_never(case.dataflow)
    efficiency = 100 * mapped / (folds * rows * cols)
    ifmap: int | None = counts["dram_ifmap_reads"]
    weights: int | None = counts["dram_filter_reads"]
    outputs = counts["dram_ofmap_writes"]
    if case.bandwidth is not None:
        ifmap, weights, outputs = _limited_dram(case, case.bandwidth)
    elif isinstance(case.layer, ScaleSimConvolution):
        ifmap = _ifmap_reads(case, case.layer)
    return ScaleSimCounts(
        folds=folds,
        compute_cycles=counts["compute_cycles"],
        total_cycles=counts["compute_cycles"],
        mapping_efficiency_pct=efficiency,
        compute_utilisation_pct=efficiency * busy,
        overall_utilisation_pct=100 * m * n * k / (max(1, counts["compute_cycles"]) * rows * cols),
        sram_ifmap_reads=counts["sram_ifmap_reads"],
        sram_filter_reads=counts["sram_filter_reads"],
        sram_ofmap_writes=counts["sram_ofmap_writes"],
        dram_ifmap_reads=ifmap,
        dram_filter_reads=weights,
        dram_ofmap_writes=outputs,
    )


def _limited_dram(case: ScaleSimCase, bandwidth: int) -> tuple[int | None, int | None, int]:
    """DRAM words of ifmap, filter and ofmap under a bandwidth limit.

    Operands are prefetched in lines of `bandwidth` words, with the empty places of folds at the edge. Where all lines fit
    into the half of the buffer that is in use, each is fetched once.
    """
    m, n, k = case.gemm.m, case.gemm.n, case.gemm.k

    def padded(size: int, side: int) -> int:
        return -(-size // side) * side

    match case.dataflow:
        case Dataflow.OS:
            ifmap, weights, passes = padded(m, case.rows) * k, k * padded(n, case.cols), 1
        case Dataflow.WS:
            ifmap, weights, passes = m * padded(k, case.rows), k * padded(n, case.cols), -(-k // case.rows)
        case Dataflow.IS:
            ifmap, weights, passes = k * padded(m, case.cols), n * padded(k, case.rows), -(-k // case.rows)
        case _:
            assert_never(case.dataflow)

    def fetched(words: int, kilobytes: int) -> int | None:
        lines = -(-words // bandwidth)
        return lines * bandwidth if lines <= -(-512 * kilobytes // bandwidth) else None

    first = fetched(ifmap, case.ifmap_kb) if isinstance(case.layer, GemmShape) else None
    return first, fetched(weights, case.filter_kb), passes * m * n


def _ifmap_reads(case: ScaleSimCase, layer: ScaleSimConvolution) -> int:
    scratch = np.empty(layer.in_rows * layer.in_cols * layer.channels, np.int32)
    reads = ffi.new("int64_t *")
    c_layer = ffi.new("cs_scalesim_convolution *", {name: getattr(layer, name) for name in layer.__slots__})
    status = lib.cs_scalesim_ifmap(
        c_layer, DATAFLOWS.index(case.dataflow), case.rows, case.cols, _operand_words(case.ifmap_kb),
        ffi.from_buffer("int32_t[]", scratch), len(scratch), reads,
    )  # fmt: skip
    if status != lib.CS_OK:
        raise CostError(f"{layer}: its ifmap stream is longer than 2^40 words, too long to simulate")
    return int(reads[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSimProduct:
    """One matrix product of a training step, done `repeats` times, and the counts of one of them."""

    layer: str
    phase: Phase
    repeats: int
    gemm: GemmShape
    counts: ScaleSimCounts


def simulate_scalesim(network: Workload, accelerator: Accelerator) -> list[ScaleSimProduct]:
    """The counts of every matrix product of a training step.

    Convolutions are unrolled into products, so that pixels under several windows count several times. On-chip memory is
    divided into equal thirds for ifmap, filter and ofmap; the first dataflow of the accelerator and one of its arrays are
    taken, since that simulator knows one of each. Work without products does not exist there.
    """
    array = accelerator.array
    third = max(1, accelerator.sram.capacity_bytes // 3 // 1024)
    found = [(layer.name, product) for layer in network.layers for product in products(layer, network.batch)]
    cases = [
        ScaleSimCase(
            layer=product.gemm,
            dataflow=array.dataflows[0],
            rows=array.rows,
            cols=array.cols,
            ifmap_kb=third,
            filter_kb=third,
            ofmap_kb=third,
        )
        for _, product in found
    ]
    return [
        ScaleSimProduct(layer=layer, phase=product.phase, repeats=product.repeats, gemm=product.gemm, counts=counts)
        for (layer, product), counts in zip(found, counts_of(cases), strict=True)
    ]


def counts_record(counts: ScaleSimCounts, *, limited: bool = False) -> dict[str, int | float | None]:
    """The counts by name; percentages also as shares of 1 without their suffix. None: not modelled.

    limited : under a bandwidth limit, so that stalls are possible
    """
    record = {name: getattr(counts, name) for name in counts.__slots__}
    if limited:
        record |= dict.fromkeys(WITHOUT_STALLS)
    return record | {
        name.removesuffix("_pct"): None if value is None else value / 100
        for name, value in record.items()
        if name.endswith("_pct")
    }
