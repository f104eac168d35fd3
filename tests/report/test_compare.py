"""Runs side by side: equal time, one reference, and no comparison of different problems."""

import json

import pytest

from codesign import DesignPoint, uniform
from codesign.cli import main
from codesign.errors import ConfigError
from codesign.report import SCHEMA
from codesign.report.compare import compare_runs, draw_comparison
from codesign.search import Measurement, Origin, Proposal, Trial


def trial(index, latency_s, accuracy, cpu_s=1.0):
    point = DesignPoint.of(default=uniform("fp32"), channels={"layer": index + 1})
    proposal = Proposal(point=point, origin=Origin.EXPLORE, seed=0)
    return Trial(
        index=index,
        batch=index,
        batch_size=1,
        proposal=proposal,
        latency_s=latency_s,
        measurement=Measurement(accuracy=accuracy, cpu_s=cpu_s),
    )


def run(*designs, **change):
    points = [
        {
            "label": "fp32" if i == 0 else "",
            "kind": "searched" if i else "baseline",
            "latency_s": latency_s,
            "accuracy": accuracy,
        }
        for i, (latency_s, accuracy) in enumerate(designs)
    ]
    return {
        "accelerator": "edge",
        "network": "n",
        "data": "d",
        "reference": "fp32",
        "method": "dp",
        "points": points,
    } | change


def trials(*designs, cpu_s=1.0):
    return [trial(i, latency_s, accuracy, cpu_s) for i, (latency_s, accuracy) in enumerate(designs)]


SLOW = ((1.0, 0.90), (0.5, 0.88), (0.25, 0.90))
QUICK = ((1.0, 0.90), (0.5, 0.899))


def test_runs_are_compared_when_each_has_spent_as_much():
    slow, quick = compare_runs(["a", "b"], [run(*SLOW), run(*QUICK)], [trials(*SLOW), trials(*QUICK)])
    assert slow.budget_cpu_s == quick.budget_cpu_s == 2.0
    # up to 1 s and 80 %: half a second times 8 and 9.9 points
    assert slow.hypervolume == pytest.approx(0.5 * 0.08)
    assert quick.hypervolume == quick.final_hypervolume == pytest.approx(0.5 * 0.099)
    assert slow.final_hypervolume == pytest.approx(0.75 * 0.10)
    assert slow.speed_up == {0.5: 4.0, 1.0: 4.0} and quick.speed_up == {0.5: 2.0, 1.0: 2.0}


def test_a_run_without_a_good_design_says_so():
    bad = ((1.0, 0.90), (0.5, 0.5))
    only, _ = compare_runs(["a", "b"], [run(*bad), run(*QUICK)], [trials(*bad), trials(*QUICK)])
    assert only.speed_up[0.5] == 1.0  # the reference itself


def test_different_problems_are_refused():
    with pytest.raises(ConfigError, match=r"accelerator is 'edge' in a, 'h100' in b"):
        compare_runs(["a", "b"], [run(*SLOW), run(*QUICK, accelerator="h100")], [trials(*SLOW), trials(*QUICK)])


def test_the_figure_and_its_endings(tmp_path):
    found = compare_runs(["a", "b"], [run(*SLOW), run(*QUICK)], [trials(*SLOW), trials(*QUICK)])
    draw_comparison(found, tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"must be \.png, \.svg or \.pdf"):
        draw_comparison(found, tmp_path / "found.gif")


def test_the_command_asks_for_finished_runs(tmp_path, capsys):
    assert main(["compare", str(tmp_path)]) == 2
    assert "at least two runs" in capsys.readouterr().err
    (tmp_path / "run.json").write_text(json.dumps(run(*SLOW) | {"schema": SCHEMA}))
    assert main(["compare", str(tmp_path), str(tmp_path / "none")]) == 5
    assert "holds no run.json" in capsys.readouterr().err
