"""`codesign quantize` as a user types it: the report, the packed file, the figure, the mistakes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from codesign.cli import main
from codesign.quantize import allocate, allocate_mean
from codesign.quantize.checkpoint import load_packed


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "features.0.weight": torch.randn(8, 3, 3, 3, generator=generator),
        "features.0.bias": torch.randn(8, generator=generator),
        "head.weight": torch.randn(5, 70, generator=generator).bfloat16(),
        "zeros.weight": torch.zeros(3, 4),
        "steps": torch.tensor([7]),
    }


@pytest.fixture
def checkpoint(tensors, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("bits", "method"),
    [(4, "empirical"), (3, "integer-clip"), (8, "microscaling"), (5, "e4-absmax"), (11, "empirical")],
)
def test_a_packed_file_loads_back_to_the_same_values(checkpoint, tensors, tmp_path, capsys, bits, method):
    out = tmp_path / "small.safetensors"
    words = ["quantize", str(checkpoint), "--bits", str(bits), "--method", method, "--out", str(out), "--allow-zeros"]
    assert main(words) == 0
    assert f"{out.stat().st_size:,} bytes" in capsys.readouterr().out
    loaded = load_packed(out)
    assert set(loaded) == set(tensors)
    for name in ("features.0.bias", "steps"):
        assert torch.equal(loaded[name], tensors[name])
    for name in ("features.0.weight", "head.weight", "zeros.weight"):
        values = tensors[name].float()
        assert torch.equal(loaded[name], allocate(values, bits, method=method, allow_zeros=True).round(values)), name


def test_a_mean_width(checkpoint, tensors, tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    assert main(["quantize", str(checkpoint), "--mean-bits", "4.5", "--out", str(out), "--allow-zeros"]) == 0
    assert "water-filling" in capsys.readouterr().out
    loaded = load_packed(out)
    for name in ("features.0.weight", "head.weight", "zeros.weight"):
        values = tensors[name].float()
        chosen = allocate_mean(values, 4.5, allow_zeros=True)[0]
        assert torch.equal(loaded[name], chosen.round(values)), name
    assert len({fmt.bits for fmt in allocate_mean(tensors["features.0.weight"], 4.5)[0].formats}) > 1


def test_the_report_says_what_was_chosen_and_how_well_it_does(checkpoint, tensors, capsys):
    assert main(["quantize", str(checkpoint), "--bits", "4", "--allow-zeros", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    by_name = {each["name"]: each for each in record["tensors"]}
    assert set(by_name) == {"features.0.weight", "head.weight", "zeros.weight"}
    first = by_name["features.0.weight"]
    expected = allocate(tensors["features.0.weight"], 4)
    assert first["formats"] == [str(fmt) for fmt in expected.formats]
    assert first["sqnr_db"] == pytest.approx(expected.total_sqnr_db)
    assert first["sqnr_db"] >= max(v for k, v in first["sqnr_db_by_method"].items() if k != "microscaling") - 1e-4
    assert by_name["zeros.weight"]["sqnr_db"] is None  # zeros are exact
    assert main(["quantize", str(checkpoint), "--bits", "4", "--allow-zeros"]) == 0
    out = capsys.readouterr().out
    assert "splits chosen" in out and "features.0.weight" in out and "integer-absmax" in out


def test_torch_files_with_a_state_dictionary_inside(tensors, tmp_path, capsys):
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "net.pt")
    assert (
        main(
            ["quantize", str(tmp_path / "net.pt"), "--bits", "6", "--scale", "power-of-two", "--allow-zeros", "--json"]
        )
        == 0
    )
    clips = np.array(json.loads(capsys.readouterr().out)["tensors"][0]["clip"])
    assert (clips > 0).all()


def test_the_figure_is_a_picture(checkpoint, tmp_path, capsys):
    out = tmp_path / "allocation.png"
    assert (
        main(
            [
                "quantize",
                str(checkpoint),
                "--bits",
                "4",
                "--figure",
                str(out),
                "--tensor",
                "head.weight",
                "--allow-zeros",
            ]
        )
        == 0
    )
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "1"], "tensor 'features.0.weight': allocation covers 2 to 16 bits, got 1"),
        (["--bits", "4", "--method", "e4-clip"], "do not fit into 4 bits"),
        (["--bits", "4", "--method", "emprical"], "did you mean 'empirical'"),
        (["--bits", "4"], "tensor 'zeros.weight': channel 0 of x holds only zeros (3 of 3 channels do)"),
        (["--bits", "4", "--tensor", "haed.weight"], "did you mean 'head.weight'"),
        (["--mean-bits", "1.5", "--allow-zeros"], "2 to 16 bits, got 1"),
        (["--mean-bits", "9"], "tensor 'features.0.weight': mean bits must be within the widths 2 to 8, got 9"),
        (["--mean-bits", "4", "--method", "octav"], "--mean-bits goes with --method empirical, got 'octav'"),
        (["--bits", "4", "--out", "x.bin"], "--out must end in .safetensors"),
        (["--bits", "4", "--allow-zeros", "--figure", "x.gif"], "must be a .png, .svg or .pdf"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(checkpoint, capsys, words, message):
    assert main(["quantize", str(checkpoint), *words]) == 2
    out, err = capsys.readouterr()
    assert message in err and err.count("\n") == 1 and out == ""


def test_files_that_are_no_checkpoints(tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save({"a": torch.zeros(3)}, tmp_path / "vector.pt")
    (tmp_path / "text.safetensors").write_text("hello")
    nan = torch.full((2, 2), torch.nan)
    torch.save({"w": nan}, tmp_path / "nan.pt")
    for name, message in (
        ("module.pt", "without running code from it"),
        ("vector.pt", "no floating-point tensor with two or more dimensions"),
        ("text.safetensors", "cannot be read"),
        ("missing.pt", "is not there"),
        ("nan.pt", "tensor 'w': channel 0 of x holds NaN"),
    ):
        assert main(["quantize", str(tmp_path / name), "--bits", "4"]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
