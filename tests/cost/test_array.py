"""The functional array: its cycles are those of the model, its bits those of the accumulator emulation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import DesignPoint, load_accelerator, simulate, uniform
from codesign.cost.array import run_array
from codesign.cost.columns import PRODUCT_COLUMNS, cost_columns
from codesign.cost.folds import folds_of
from codesign.cost.lower import products
from codesign.cost.machine import DATAFLOWS
from codesign.cost.scalesim import ScaleSimCase, counts_of
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.hardware import Dataflow
from codesign.quantize import matmul, round_to_format
from codesign.workload import GemmShape, single_linear
from tests.cost.machines import machine_table

SIZES = st.integers(1, 9)
FORMATS = st.sampled_from(["float32", "bfloat16", "e4m3fn", "e5m2", "e3m2", "e2m1", "e6m9", "float16", "e0m7"])


def model_cycles(m, n, k, dataflow, rows, cols):
    """Compute cycles of the C core, all in one tile."""
    machine = {
        "rows": rows, "cols": cols, "arrays": 1, "dataflows": 1 << DATAFLOWS.index(dataflow), "sram_bits": 2**40,
        "dram_bits_per_cycle": 1.0, "dram_latency_cycles": 0,
    }  # fmt: skip
    columns = {name: np.zeros(1) for name in PRODUCT_COLUMNS} | {
        "m": np.array([m]), "n": np.array([n]), "k": np.array([k]), "repeats": np.ones(1), "rate": np.array([256]),
        **{name: np.array([8]) for name in ("a_bits", "b_bits", "c_bits", "accumulator_bits")},
    }  # fmt: skip
    mapping = {
        "dataflow": np.array([DATAFLOWS.index(dataflow)]), "order": np.zeros(1), "tile_repeats": np.ones(1),
        "tile_m": np.array([m]), "tile_n": np.array([n]), "tile_k": np.array([k]),
    }  # fmt: skip
    return cost_columns(machine_table([machine]), columns, mappings=mapping)[1]["compute_cycles"][0]


@settings(max_examples=120)
@given(
    SIZES, SIZES, SIZES, st.sampled_from(Dataflow), st.integers(1, 4), st.integers(1, 4), FORMATS, FORMATS, st.data()
)
def test_cycles_products_and_bits_of_the_array(m, n, k, dataflow, rows, cols, operand, accumulator, data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    spread = data.draw(st.sampled_from([0.0, 1.0, 4.0]))
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.normal(0, spread, (m, k)))
    a = (rng.normal(size=(m, k)) * scale).astype(np.float32)
    b = rng.normal(size=(k, n)).astype(np.float32)
    narrow, wide = FloatFormat.parse(operand), FloatFormat.parse(accumulator)
    run = run_array(a, b, dataflow=dataflow, rows=rows, cols=cols, first=narrow, second=narrow, accumulator=wide)

    assert run.macs == m * n * k
    assert run.cycles == model_cycles(m, n, k, dataflow, rows, cols)
    case = ScaleSimCase(
        layer=GemmShape(m=m, n=n, k=k), dataflow=dataflow, rows=rows, cols=cols, ifmap_kb=64, filter_kb=64, ofmap_kb=64
    )
    counts = counts_of([case])[0]
    assert run.folds == counts.folds
    # that simulator counts from zero, and an output-stationary array of its kind is read without being shifted out
    drained = run.folds * rows if dataflow is Dataflow.OS else 0
    assert run.cycles == counts.compute_cycles + 1 + drained
    assert counts.mapping_efficiency_pct == pytest.approx(100 * _mapped(m, n, k, dataflow) / (run.folds * rows * cols))

    # into float32 the emulation is a chain of fused multiply-adds, into less it rounds every sum
    chunk = k + 1 if wide.mantissa_bits == 23 else 1
    expected = matmul(round_to_format(a, narrow), round_to_format(b, narrow), wide, chunk=chunk)
    assert np.array_equal(run.result, expected, equal_nan=True)


@pytest.mark.parametrize("dataflow", Dataflow)
def test_folds_of_a_mapping_are_those_of_the_untiled_product_for_each_streamed_tile(dataflow):
    edge = load_accelerator("edge")
    machine = replace(edge, array=replace(edge.array, rows=8, cols=4, dataflows=(dataflow,)))
    for m, n, k in ((30, 70, 50), (1, 5, 9), (333, 12, 1000)):
        workload = single_linear(rows=m, in_features=k, out_features=n, batch=1)
        report = simulate(workload, DesignPoint.of(default=uniform("bf16")), machine)
        folds, share = folds_of(report, products(workload.layers[0], 1)[0], 0)
        case = ScaleSimCase(
            layer=GemmShape(m=m, n=n, k=k), dataflow=dataflow, rows=8, cols=4, ifmap_kb=64, filter_kb=64, ofmap_kb=64
        )
        counts = counts_of([case])[0]
        streamed, size = {Dataflow.OS: ("k", k), Dataflow.WS: ("m", m), Dataflow.IS: ("n", n)}[dataflow]
        assert folds == counts.folds * -(-size // report.mappings[f"tile_{streamed}"][0])
        assert 100 * share == pytest.approx(counts.mapping_efficiency_pct)


def _mapped(m, n, k, dataflow):
    return {Dataflow.OS: m * n, Dataflow.WS: k * n, Dataflow.IS: k * m}[dataflow]


def test_rounding_happens_at_every_sum():
    # 1 + 2^-5 + 2^-5 in e4m3, whose step at 1 is 1/8: every sum falls back to 1; summed first it would not matter
    # either, but 16 of them would: 16 x 2^-5 = 1/2.
    a = np.array([[1.0] + [2.0**-5] * 16], np.float32)
    b = np.ones((17, 1), np.float32)
    e4m3 = FloatFormat.parse("e4m3")
    for dataflow in Dataflow:
        run = run_array(a, b, dataflow=dataflow, rows=4, cols=4, first=e4m3, second=e4m3, accumulator=e4m3)
        assert run.result.tolist() == [[1.0]]
        # OS: one fold of 17 + 4 + 4 - 2 cycles and 4 to leave. WS, IS: 5 folds of 4 to load and 1 + 4 + 4 - 2.
        assert run.cycles == (27 if dataflow is Dataflow.OS else 5 * 11)


@pytest.mark.parametrize("shapes", [((2, 3), (4, 2)), ((2, 0), (0, 2)), ((3,), (3, 2))])
def test_shapes_that_do_not_multiply_are_refused(shapes):
    fmt = FloatFormat.parse("bf16")
    with pytest.raises(CostError, match=r"shapes \(m, k\) and \(k, n\) without zeros are needed"):
        run_array(np.zeros(shapes[0]), np.zeros(shapes[1]), dataflow=Dataflow.OS, rows=2, cols=2, first=fmt, second=fmt,
                  accumulator=fmt)  # fmt: skip
