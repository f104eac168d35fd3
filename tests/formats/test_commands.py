"""`codesign formats` and `codesign verify`, run as a user runs them."""

import json
import subprocess
import sys

import pytest

from codesign.cli import main


def _run(capsys, *arguments):
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_format_is_described(capsys):
    status, out, err = _run(capsys, "formats", "float8_e4m3fn")
    assert (status, err) == (0, "")
    assert out.startswith("e4m3fn: 8 bits = 1 sign + 4 exponent + 3 mantissa, bias 7\n")
    for line in (
        "also named           float8_e4m3fn",
        "largest              448",
        "smallest normal      0.015625 = 2^-6",
        "smallest subnormal   0.001953125 = 2^-9",
        "finite values        253",
        "precision            epsilon 0.125 = 2^-3; rounding a normal number errs by at most 6.25 %",
        "reserved codes       all ones: NaN",
    ):
        assert line in out
    # the last binade: 256 to 448 in steps of 2^5
    assert out.splitlines()[-1].split() == ["256", "448", "2^5", "256", "288", "320", "352", "384", "416", "448"]


@pytest.mark.parametrize("name", ["e0m0", "e0m7", "e1m6", "e8m0", "e5m2-flush", "float32", "e2m1b-3", "e3m2-nanzero"])
def test_any_format_can_be_shown(name, capsys):
    status, out, _ = _run(capsys, "formats", name)
    assert status == 0
    assert "largest" in out


def test_an_integer_has_steps_and_no_epsilon(capsys):
    _, out, _ = _run(capsys, "formats", "e0m7")
    assert "precision            steps of 1; rounding errs by at most 0.5\n" in out
    _, out, _ = _run(capsys, "formats", "e0m7", "--json")
    assert json.loads(out)["formats"][0]["epsilon"] is None


def test_the_table_and_json_hold_the_same_formats(capsys):
    _, table, _ = _run(capsys, "formats")
    status, out, _ = _run(capsys, "formats", "--json")
    record = json.loads(out)
    assert (status, record["schema"]) == (0, "codesign.formats/1")
    assert [line.split()[0] for line in table.splitlines()[1:]] == [each["name"] for each in record["formats"]]
    e2m1 = next(each for each in record["formats"] if each["name"] == "e2m1")
    assert e2m1["values"] == [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert (e2m1["finite_values"], e2m1["bits"], e2m1["dtype"]) == (15, 4, "float4_e2m1fn")


def test_a_format_that_is_none_is_one_line_and_status_2(capsys):
    status, out, err = _run(capsys, "formats", "fp9")
    assert (status, out) == (2, "")
    assert (
        err
        == "codesign formats: 'fp9' is not a float format; write e<exponent bits>m<mantissa bits>, for example e4m3\n"
    )


def test_verify_proves_a_format_in_a_process_of_its_own():
    command = [sys.executable, "-m", "codesign", "verify", "e2m1", "--rounding", "toward-zero", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    record = json.loads(result.stdout)
    assert (record["holds"], record["wrong"], record["inputs"]) == (True, 0, 1 << 32)
    # toward zero from 8 values: 0, 0.5, 1, 1.5, 2, 3, 4, 6; beyond 6 (7); infinity; NaN -> 11 decisions
    assert record["decisions"] == 11


def test_verify_reports_a_refutation_with_status_1(capsys, monkeypatch):
    from codesign import FloatFormat, Rounding
    from codesign.quantize import proof

    refuted = proof.Proof(
        fmt=FloatFormat.parse("e2m1"),
        rounding=Rounding.NEAREST_EVEN,
        inputs=1 << 32,
        decisions=11,
        wrong=2,
        first_wrong=0x3F800000,
    )
    monkeypatch.setattr(proof, "prove", lambda fmt, rounding, progress: refuted)
    status, out, _ = _run(capsys, "verify", "e2m1")
    assert status == 1
    assert "REFUTED. 2 of 4,294,967,296 float32 inputs are rounded wrong, first 1.0 (bits 0x3f800000)" in out


def test_verify_refuses_what_it_cannot_prove(capsys):
    status, _, err = _run(capsys, "verify", "float32")
    assert status == 2
    assert err == "codesign verify: 'e8m23' has 32 bits; up to 20 can be proven\n"
