"""SCALE-Sim's own results as the oracle, and the formulas by hand on one small case each."""

import csv
import subprocess
import sys

import pytest

from codesign.cost.scalesim import ScaleSimCase, ScaleSimConvolution, counts_of
from codesign.cost.verify import REFERENCE, case_of, match_mac, match_scalesim, read_rows
from codesign.errors import CostError, DataError
from codesign.hardware import Dataflow
from codesign.workload import GemmShape

ROWS = read_rows(REFERENCE / "scalesim_cycles.csv")


def test_every_modelled_cell_of_every_row_matches():
    found = {match.column: match for match in match_scalesim(ROWS)}
    assert len(ROWS) == 165
    for match in found.values():
        assert match.differing == ()
        assert match.matching + match.not_modelled == len(ROWS)
    # all but this, of the 22 rows with a bandwidth limit: operands that outgrow their buffer, total time with stalls
    missing = {name: match.not_modelled for name, match in found.items() if match.not_modelled}
    assert missing == {
        "total_cycles": 6,
        "overall_util_pct": 6,
        "dram_ifmap_reads": 5,
        "dram_filter_reads": 4,
    }


@pytest.mark.parametrize("column", ["compute_cycles", "dram_ifmap_reads", "overall_util_pct", "sram_ofmap_writes"])
def test_the_comparison_can_fail(column):
    changed = dict(ROWS[0])
    changed[column] = str(float(changed[column]) + 0.001) if "pct" in column else str(int(changed[column]) + 1)
    assert {match.column for match in match_scalesim([changed]) if match.differing} == {column}


def counts(dataflow, rows=2, cols=2, m=3, n=3, k=4, kb=64):
    layer = GemmShape(m=m, n=n, k=k)
    return counts_of(
        [ScaleSimCase(layer=layer, dataflow=dataflow, rows=rows, cols=cols, ifmap_kb=kb, filter_kb=kb, ofmap_kb=kb)]
    )[0]


def test_the_formulas_by_hand():
    # 3 x 3 outputs on 2 x 2: four folds of 4 + 2 + 2 - 2 cycles, less one
    os = counts(Dataflow.OS)
    assert (os.folds, os.compute_cycles, os.mapping_efficiency_pct) == (4, 23, pytest.approx(900 / 16))
    assert (os.sram_ifmap_reads, os.sram_filter_reads, os.sram_ofmap_writes) == (2 * 12, 2 * 12, 9 + 4 * 4)
    # k = 4 in two, n = 3 in two folds of 3 + 4 + 2 - 2 cycles; partial sums written twice
    ws = counts(Dataflow.WS)
    assert (ws.folds, ws.compute_cycles, ws.sram_ofmap_writes) == (4, 4 * 7 - 1, 18)
    assert (ws.sram_ifmap_reads, ws.sram_filter_reads) == (24, 12)
    assert (ws.dram_ifmap_reads, ws.dram_filter_reads, ws.dram_ofmap_writes) == (12, 12, 18)


def test_a_buffer_that_overflows_fetches_every_pass_again():
    # 1 kB: half of its words, in steps of 50: 500. 2 passes over 3 x 200 words fetch twice; over 499 once.
    assert counts(Dataflow.WS, m=3, k=200, kb=1).dram_ifmap_reads == 2 * 600
    assert counts(Dataflow.WS, m=1, k=499, kb=1).dram_ifmap_reads == 499
    # 512 output words fit
    assert counts(Dataflow.OS, m=256, n=2, k=1, kb=1).dram_ofmap_writes == 512
    assert counts(Dataflow.OS, m=257, n=2, k=1, kb=1).dram_ofmap_writes == 514 + 1


def test_convolutions_may_round_their_outputs_up_and_skip_what_is_outside():
    # 4 x 4 image, 1 x 1 windows in steps of 3: two positions a side, at 0 and 3
    layer = ScaleSimConvolution(in_rows=4, in_cols=4, channels=1, kernel_rows=1, kernel_cols=1, stride=3, filters=1)
    assert layer.gemm == GemmShape(m=4, n=1, k=1)
    # 5 x 5 in steps of 3: ceil((5 - 1 + 3) / 3) = 3 positions a side, the last one at 6, outside
    outside = ScaleSimConvolution(in_rows=5, in_cols=5, channels=2, kernel_rows=1, kernel_cols=1, stride=3, filters=1)
    case = ScaleSimCase(layer=outside, dataflow=Dataflow.OS, rows=2, cols=2, ifmap_kb=1, filter_kb=1, ofmap_kb=1)
    found = counts_of([case])[0]
    assert found.sram_ifmap_reads == 9 * 2
    assert found.dram_ifmap_reads == 4 * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 0}, "convolution: channels must be positive, got 0"),
        ({"kernel_rows": 9}, "convolution: kernel_rows 9 exceeds the padded in_rows 8"),
    ],
)
def test_an_impossible_convolution_is_refused(values, message):
    good = {"in_rows": 8, "in_cols": 8, "channels": 2, "kernel_rows": 3, "kernel_cols": 3, "stride": 1, "filters": 4}
    with pytest.raises(CostError, match=message):
        ScaleSimConvolution(**good | values)


def test_a_row_without_its_columns_is_named():
    with pytest.raises(DataError, match=r"row 3: .*columns as in the reference file"):
        case_of({"case_id": "3", "layer_kind": "gemm", "M": "4"})


def test_the_error_bars_of_the_fits_are_those_found_on_the_points():
    from codesign.cost import FITS

    found = {(fit.fit, fit.quantity): fit for fit in match_mac(read_rows(REFERENCE / "mac_cost_points.csv"))}
    for fit, (name, points) in {
        "published-28nm": ("published-28nm, float", 8),
        "synthesised-45nm": ("synthesised-45nm, float", 119),
    }.items():
        measured = found[name, "area_um2"]
        claimed = next(x for model, x in FITS.items() if model == fit)
        assert measured.points == points
        assert measured.mean_error == pytest.approx(claimed.mean_error, abs=5e-4)
        assert measured.max_error == pytest.approx(claimed.max_error, abs=5e-4)
    block = found["block-dot", "relative area"]
    assert block.mean_error == pytest.approx(0.033, abs=1e-3)
    assert block.max_error == pytest.approx(0.061, abs=5e-4)


def test_many_layers_as_csv_on_the_command_line():
    with (REFERENCE / "scalesim_cycles.csv").open() as file:
        head = "".join(line for _, line in zip(range(20), file, strict=False))
    done = subprocess.run(
        [sys.executable, "-m", "codesign", "simulate", "-", "--mode", "scalesim"],
        input=head, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = list(csv.DictReader(done.stdout.splitlines()))
    assert [answer["case_id"] for answer in answers] == [row["case_id"] for row in ROWS[:19]]
    assert [answer["compute_cycles"] for answer in answers] == [row["compute_cycles"] for row in ROWS[:19]]
    assert [answer["dram_filter_reads"] for answer in answers] == [row["dram_filter_reads"] for row in ROWS[:19]]


def test_operands_under_a_bandwidth_limit_come_in_lines_with_the_empty_places_of_edge_folds():
    layer = GemmShape(m=11, n=32, k=13)  # on 4 x 4, output stationary: 12 rows of 13 words, 16 lines of 10; 416 words
    case = {
        "layer": layer,
        "dataflow": Dataflow.OS,
        "rows": 4,
        "cols": 4,
        "ifmap_kb": 16,
        "filter_kb": 16,
        "ofmap_kb": 16,
    }
    found = counts_of([ScaleSimCase(**case, bandwidth=10)])[0]
    assert (found.dram_ifmap_reads, found.dram_filter_reads, found.dram_ofmap_writes) == (160, 420, 352)


def test_what_is_not_modelled_under_a_bandwidth_limit_is_left_empty():
    limited = next(
        row for row in ROWS if row["case_id"] == "278"
    )  # stalls, and an ifmap larger than half of its buffer
    text = ",".join(limited) + "\n" + ",".join(limited.values()) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "codesign", "simulate", "-", "--mode", "scalesim"],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = next(csv.DictReader(done.stdout.splitlines()))
    assert (answer["dram_ifmap_reads"], answer["total_cycles"], answer["overall_utilisation"]) == ("", "", "")
    assert answer["dram_ofmap_writes"] == limited["dram_ofmap_writes"]
    assert "1 layers have a bandwidth limit" in done.stderr
