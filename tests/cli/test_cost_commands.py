"""`simulate`, `explain`, `ls`, `verify scalesim|mac` as a user types them."""

import io
import json

import pytest
import torch
from torch import nn

from codesign import DesignPoint, load_accelerator, simulate, uniform
from codesign.cli import main
from codesign.cost import Scales
from codesign.optimizers import Optimizer
from codesign.workload import Phase, builtin_workload


def run(capsys, *words):
    status = main(list(words))
    out, err = capsys.readouterr()
    return status, out, err


def ok(capsys, *words):
    status, out, err = run(capsys, *words)
    assert status == 0, err
    return out


def test_simulate_in_json_is_the_report(capsys):
    words = ("simulate", "vgg16-cifar", "-a", "edge", "--batch", "16", "--format", "fp8-hybrid", "--optimizer", "adam")
    record = json.loads(ok(capsys, *words, "--scales", "8/32", "--json"))
    report = simulate(
        builtin_workload("vgg16-cifar", batch=16), DesignPoint.of(default=uniform("fp8-hybrid")),
        load_accelerator("edge"), optimizer=Optimizer.ADAM, scales=Scales(bits=8, block=32),
    )  # fmt: skip
    assert record["schema"] == "codesign.simulate/2"
    assert record["latency_s"] == report.latency_s
    assert record["phases"]["weight-grad"]["latency_s"] == report.by_phase()[Phase.WEIGHT_GRAD].latency_s
    assert record["memory"]["fits"] is True
    assert len(record["layers"]) == len(report.rows)


@pytest.mark.parametrize("words", [("vgg16-cifar", "-a", "edge"), ("resnet50-imagenet", "-a", "h100", "--batch", "32")])
def test_the_table_has_every_weight_layer_the_phases_and_the_memory(capsys, words):
    out = ok(capsys, "simulate", *words)
    for name in builtin_workload(words[0]).weight_layers:
        assert name in out
    for word in (*Phase, "total", "examples a second", "stashed activations", "mm2", "bound"):
        assert word in out
    assert "DOES NOT FIT" not in out
    assert "…" not in out  # nothing is cut off where no terminal is


def test_what_does_not_fit_is_said(capsys):
    assert "DOES NOT FIT" in ok(capsys, "simulate", "gpt-small", "-a", "edge", "--batch", "32")


def test_detail_shows_mappings(capsys):
    out = ok(capsys, "simulate", "lenet", "-a", "tpuv1", "--batch", "8", "--detail")
    assert "ws mnk" in out
    assert "classifier.4" in out


def test_keep_cuts_every_group(capsys):
    words = ("simulate", "vgg-digits", "-a", "edge", "--json")
    half = json.loads(ok(capsys, *words, "--keep", "0.5"))
    point = DesignPoint.of(
        default=uniform("bf16"), channels={"features.0": 8, "features.3": 8, "features.7": 16, "features.10": 16,
                                           "features.14": 32},
    )  # fmt: skip
    assert half["latency_s"] == simulate(builtin_workload("vgg-digits"), point, load_accelerator("edge")).latency_s


def test_formats_come_from_a_file(capsys, tmp_path):
    path = tmp_path / "formats.toml"
    path.write_text('default = "bf16"\n[layers]\n"features.3" = "e4m3fn"\n')
    found = json.loads(ok(capsys, "simulate", "vgg-digits", "-a", "edge", "--formats", str(path), "--json"))
    point = DesignPoint.of(default=uniform("bf16"), formats={"features.3": uniform("e4m3fn")})
    assert found["latency_s"] == simulate(builtin_workload("vgg-digits"), point, load_accelerator("edge")).latency_s


def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)), torch.zeros(2, 3, 8, 8)


def test_a_network_of_ones_own(capsys):
    out = ok(capsys, "simulate", "tests.cli.test_cost_commands:tiny", "-a", "edge", "--batch", "8")
    assert "batch 8" in out
    assert "3" in out


def test_single_layers(capsys):
    record = json.loads(
        ok(capsys, "simulate", "--gemm", "193,87,128", "--array", "8x8", "--dataflow", "os", "--mode", "scalesim",
           "--sram-kb", "16,16,16", "--json")
    )  # fmt: skip
    # the row g3 of the reference file
    assert (record["compute_cycles"], record["sram_ifmap_reads"], record["dram_filter_reads"]) == (39049, 271744, 12118)
    assert record["mapping_efficiency"] == pytest.approx(0.95403409)
    conv = "size=32,in=64,out=128,kernel=3,stride=1,pad=1"
    record = json.loads(ok(capsys, "simulate", "--conv", conv, "-a", "edge", "--json"))
    assert [row["phase"] for row in record["phases"]] == ["forward", "input-grad", "weight-grad", "update"]
    assert record["dram_filter_bits"] >= 64 * 128 * 9 * 16 and record["dram_ofmap_bits"] >= 128 * 32 * 32 * 16
    assert record["folds"] > 0 and 0 < record["mapping_efficiency"] <= 1
    assert "weight-grad" in ok(capsys, "simulate", "--conv", conv, "--array", "32x32")
    assert "compute_cycles" in ok(capsys, "simulate", "--conv", conv, "--mode", "scalesim")


@pytest.mark.parametrize("mode", ["physical", "scalesim"])
def test_many_layers_from_standard_input_are_those_layers_one_by_one(capsys, monkeypatch, mode):
    lines = "name,m,n,k,array,dataflow\na,128,64,32,16x16,os\nb,10,20,30,,\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    first, second = json.loads(ok(capsys, "simulate", "-", "--mode", mode, "--json"))["layers"]
    assert (first.pop("name"), second.pop("name")) == ("a", "b")
    layer = ("--mode", mode, "--json", "--gemm")
    alone = json.loads(ok(capsys, "simulate", *layer, "128,64,32", "--array", "16x16", "--dataflow", "os"))
    other = json.loads(ok(capsys, "simulate", *layer, "10,20,30"))
    if mode == "scalesim":
        assert alone.items() >= first.items() and other.items() >= second.items()
    else:
        assert first["latency_s"] == pytest.approx(sum(phase["latency_s"] for phase in alone["phases"]))
        assert second["forward_latency_s"] == other["phases"][0]["latency_s"]
    monkeypatch.setattr("sys.stdin", io.StringIO("size,in,out,kernel,pad\n32,64,128,3,1\n"))
    out = ok(capsys, "simulate", "-", "--mode", mode).splitlines()
    assert out[0].startswith("name,") and len(out) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("m,n\n1,2\n", "line 2: a layer has either m, n, k or size"),
        ("m,n,k\n1,2,3\n1,2,0\n", "line 3: GEMM dimension k must be positive, got 0"),
        ("size,in,out,krnel\n8,2,2,3\n", "did you mean 'kernel'"),
        ("m,n,k,dataflow\n1,2,3,xs\n", "line 2: dataflow must be os, ws or is, got 'xs'"),
    ],
)
def test_a_bad_line_of_standard_input_is_named(capsys, monkeypatch, lines, message):
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    status, _, err = run(capsys, "simulate", "-")
    assert status == 2 and message in err


def test_scalesim_mode_of_a_network(capsys):
    record = json.loads(
        ok(capsys, "simulate", "vgg16-cifar", "-a", "edge", "--batch", "1", "--mode", "scalesim", "--json")
    )
    first = record["layers"][0]
    # 1024 pixels, 64 filters, 27 window elements on 16 x 16, output stationary: 64 x 4 folds of 27 + 16 + 16 - 2
    assert (first["layer"], first["phase"], first["compute_cycles"]) == ("features.0", "forward", 256 * 57 - 1)
    assert "total compute cycles" in ok(capsys, "simulate", "lenet", "-a", "edge", "--mode", "scalesim")


def test_explain(capsys):
    words = ("explain", "resnet18-imagenet", "-a", "tpuv1", "--batch", "4", "--rows", "5")
    out = ok(capsys, *words)
    for word in ("bound by", "twice the DRAM bandwidth", "speed-up", "best lever", "conv1"):
        assert word in out
    record = json.loads(ok(capsys, *words, "--json"))
    assert len(record["rows"]) == 5
    assert all(lever["speedup"] > 0 for lever in record["levers"])


@pytest.mark.parametrize(
    ("what", "name"), [("accelerators", "tpuv4"), ("workloads", "gpt-small"), ("datasets", "digits")]
)
def test_ls(capsys, what, name):
    assert name in ok(capsys, "ls", what)
    assert name in {record["name"] for record in json.loads(ok(capsys, "ls", what, "--json"))[what]}


def test_verify(capsys, tmp_path):
    out = ok(capsys, "verify", "scalesim")
    assert "dram_filter_reads       161          0             4" in out
    assert json.loads(ok(capsys, "verify", "scalesim", "--json"))["holds"] is True
    out = ok(capsys, "verify", "mac")
    assert "119" in out
    assert "10.8%" in out
    from codesign.cost.verify import REFERENCE

    lines = (REFERENCE / "scalesim_cycles.csv").read_text().splitlines()[:2]
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("\n".join([lines[0], lines[1].replace("39049", "39050")]) + "\n")
    status, out, _ = run(capsys, "verify", "scalesim", "--data", str(wrong))
    assert status == 1
    assert "case_id 3" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simulate", "vgg16-cfar", "-a", "edge"), "no built-in workload 'vgg16-cfar'; did you mean"),
        (("simulate", "lenet"), "no accelerator; give --accelerator A"),
        (("simulate", "lenet", "-a", "edgy"), "no accelerator 'edgy'; did you mean 'edge'"),
        (("simulate",), "no workload; give one"),
        (("simulate", "lenet", "-a", "edge", "--batch", "0"), "batch must be positive, got 0"),
        (("simulate", "lenet", "-a", "edge", "--keep", "0"), "--keep must lie above 0 and at most at 1, got 0"),
        (("simulate", "lenet", "-a", "edge", "--format", "fp9"), "'fp9' is not a float format"),
        (("simulate", "lenet", "-a", "edge", "--scales", "8"), "scales must be BITS/BLOCK"),
        (("simulate", "lenet", "-a", "tpuv1", "--format", "fp32"), "layer 'features.0' (forward): operands of 32 bits"),
        (("simulate", "--gemm", "4,0,4"), "GEMM dimension n must be positive, got 0"),
        (("simulate", "--gemm", "4,-2,4", "--mode", "scalesim"), "GEMM dimension n must be positive, got -2"),
        (("simulate", "--gemm", "4,4"), "--gemm must be 3 whole numbers"),
        (("simulate", "--gemm", "4,4,4", "--array", "8"), "--array must be ROWSxCOLS"),
        (("simulate", "--conv", "size=8,inn=3"), "--conv: unknown key 'inn'; did you mean 'in'"),
        (("simulate", "--conv", "size=8,in=3,out=4"), "--conv: 'kernel' is missing"),
        (("simulate", "--conv", "size=8,in=0,out=4,kernel=3"), "convolution: in must be positive, got 0"),
        (("simulate", "--conv", "size=2,in=1,out=4,kernel=3"), "reaches beyond the padded image"),
        (("simulate", "lenet", "--gemm", "4,4,4"), "give either a workload or a single layer"),
        (("simulate", "nowhere:net", "-a", "edge"), "'nowhere:net' cannot be imported"),
    ],
)
def test_every_mistake_is_one_line_and_status_two(capsys, words, message):
    status, out, err = run(capsys, *words)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
