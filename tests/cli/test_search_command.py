"""`codesign search` as a user types it, on a few digits: results, resume after kill -9, and one line for each mistake."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from codesign.cli import main
from codesign.runs.export import load_applied
from codesign.search import read_trials

CONFIG = """
title = "a few digits"
accelerator = "edge"
data = { name = "digits", train_images = 200, test_images = 60 }
network = { name = "vgg:8 M 8 M" }
training = { batch = 50, learning_rate = 0.05 }
schedule = { dense_epochs = 1, pruned_epochs = 1 }
space = { alphas = [0.9, 0.7], formats = ["fp32", "fp8-hybrid"], baselines = ["fp32", "fp8-hybrid"] }
search = { trainings = 6 }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "few.toml"
    path.write_text(CONFIG)
    return path


def test_a_search_leaves_a_complete_run_directory_and_resumes_it(config, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["search", str(config), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "fp8-hybrid" in printed.out
    assert "training runs" in printed.err
    trials = read_trials(out)
    assert len(trials) == 6
    assert {t.proposal.label for t in trials if t.proposal.label in ("fp32", "fp8-hybrid")} == {"fp32", "fp8-hybrid"}
    for name in ("config.toml", "provenance.json", "front.json", "front.csv", "run.json", "report.html"):
        assert (out / name).stat().st_size > 0
    run = json.loads((out / "run.json").read_text())
    for point in run["points"]:
        assert sum(point["phases_s"].values()) == pytest.approx(point["latency_s"])
    before = (out / "trials.jsonl").read_bytes()
    assert main(["search", str(out / "config.toml"), "--out", str(out), "--json"]) == 0
    assert (out / "trials.jsonl").read_bytes() == before
    assert json.loads(capsys.readouterr().out)["points"]


def test_a_design_is_taken_out_with_the_accuracy_of_its_trial(config, tmp_path, capsys):
    run, model = tmp_path / "run", tmp_path / "model"
    assert main(["search", str(config), "--out", str(run)]) == 0
    trial = next(t for t in read_trials(run) if t.point.channels)
    capsys.readouterr()
    assert main(["apply", str(run), str(trial.index), "--out", str(model), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy"] == printed["trial_accuracy"] == trial.measurement.accuracy
    network, point = load_applied(model)
    assert point == trial.point
    modules = dict(network.named_modules())
    assert {name: modules[name].out_channels for name, _ in point.channels} == dict(point.channels)
    assert main(["apply", str(run), "99", "--out", str(model)]) == 5
    assert "has no trial 99" in capsys.readouterr().err


def test_the_onnx_file_of_a_design_computes_what_the_pruned_network_does(config, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    run, model = tmp_path / "run", tmp_path / "model"
    assert main(["search", str(config), "--out", str(run)]) == 0
    trial = next(t for t in read_trials(run) if t.point.channels)
    assert main(["apply", str(run), str(trial.index), "--out", str(model), "--onnx"]) == 0
    network, _ = load_applied(model)
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (logits,) = ReferenceEvaluator(str(model / "network.onnx")).run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), network.eval()(images).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("limit", ["energy_j", "peak_memory_bytes", "area_um2", "latency_s"])
def test_a_limit_that_no_design_meets_ends_the_search_before_it_trains(limit, config, tmp_path, capsys):
    config.write_text(CONFIG + f"limits = {{ {limit} = 1e-9 }}\n")
    assert main(["search", str(config), "--out", str(tmp_path / "run")]) == 3
    assert f"no design of the space has {limit.removesuffix('_s')} <= 1e-09" in capsys.readouterr().err
    assert read_trials(tmp_path / "run") == []


def test_training_images_pass_the_transforms_of_the_configuration(config, tmp_path, capsys):
    """They change what is measured, belong to the run's identity, and come back with a design that is taken out."""
    plain, blurred, model = tmp_path / "plain", tmp_path / "blurred", tmp_path / "model"
    config.write_text(CONFIG.replace("trainings = 6", "trainings = 2"))
    assert main(["search", str(config), "--out", str(plain)]) == 0
    table = '\n[[transforms]]\nname = "gaussian_blur"\nsigma = [0.5, 1.5]\np = 1.0\n'
    config.write_text(config.read_text() + table)
    assert main(["search", str(config), "--out", str(blurred)]) == 0
    without, trials = (read_trials(run) for run in (plain, blurred))
    assert [t.point for t in without] == [t.point for t in trials]
    assert [t.measurement.accuracy for t in without] != [t.measurement.accuracy for t in trials]
    assert 'name = "gaussian_blur"' in (blurred / "config.toml").read_text()
    assert main(["search", str(config), "--out", str(plain)]) == 5
    capsys.readouterr()
    assert main(["apply", str(blurred), "0", "--out", str(model), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["accuracy"] == printed["trial_accuracy"] == trials[0].measurement.accuracy


def test_another_configuration_does_not_overwrite_a_run(config, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["search", str(config), "--out", str(out)]) == 0
    kept = (out / "trials.jsonl").read_bytes()
    config.write_text(CONFIG.replace("learning_rate = 0.05", "learning_rate = 0.01"))
    assert main(["search", str(config), "--out", str(out)]) == 5
    assert "of another configuration" in capsys.readouterr().err
    assert (out / "trials.jsonl").read_bytes() == kept


def test_a_killed_search_goes_on_from_its_last_finished_trial(config, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "codesign", "search", str(config), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    trials = out / "trials.jsonl"
    while process.poll() is None and not (trials.exists() and trials.read_bytes().count(b"\n") >= 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = trials.read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    with trials.open("ab") as stream:
        stream.write(b'{"torn')
    assert main(["search", str(config), "--out", str(out)]) == 0
    assert trials.read_bytes().startswith(kept)
    resumed = read_trials(out)

    whole = tmp_path / "whole"
    assert main(["search", str(config), "--out", str(whole)]) == 0
    expected = read_trials(whole)
    assert [t.point for t in resumed] == [t.point for t in expected]
    assert [t.measurement.accuracy for t in resumed] == [t.measurement.accuracy for t in expected]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('title = "a', 'titel = "a'), "few.toml: unknown key 'titel'; did you mean 'title'?"),
        (("batch = 50", "btach = 50"), "few.toml: training: unknown key 'btach'; did you mean 'batch'?"),
        (('"edge"', '"egde"'), "few.toml: accelerator: no accelerator 'egde'; did you mean 'edge'?"),
        (('name = "digits"', 'name = "cifar10", folder = "nowhere"'), "neither cifar-10-python.tar.gz nor"),
        (('name = "digits"', 'name = "fashion-mnist", folder = "nowhere"'), "apt-get install dataset-fashion-mnist"),
        (('"fp8-hybrid"], base', '"e99m1"], base'), "'e99m1'"),
        (("vgg:8 M 8 M", "vgg:8 M M M M"), "an M pools a map of 1x1"),
        (("batch = 50", "batch = 500"), "batch 500 is larger than the 200 training images"),
        (
            ("search =", 'transforms = [{ name = "gausian_blur" }]\nsearch ='),
            "few.toml: transforms[0]: unknown transform 'gausian_blur'; did you mean 'gaussian_blur'?",
        ),
        (
            (
                "search =",
                'transforms = [{ name = "box_blur", radius = 1 }, { name = "box_blur", raduis = 1 }]\nsearch =',
            ),
            "few.toml: transforms[1]: transform 'box_blur': unknown parameter 'raduis'; did you mean 'radius'?",
        ),
        (
            ("search =", 'transforms = { name = "box_blur", radius = 1 }\nsearch ='),
            "few.toml: transforms[0]: must be a table, got 'name'; a list of tables is written [[...]]",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(config, tmp_path, capsys, change, message):
    config.write_text(CONFIG.replace(*change))
    assert main(["search", str(config), "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert message in lines[-1]
    assert sum(line.startswith("codesign search:") for line in lines) == 1
    assert not (tmp_path / "run").exists()


def test_workers_give_the_same_trials(config, tmp_path):
    pytest.importorskip("distributed")
    for name, workers in (("one", "1"), ("two", "2")):
        assert main(["search", str(config), "--out", str(tmp_path / name), "--workers", workers]) == 0
    one, two = (read_trials(tmp_path / name) for name in ("one", "two"))
    assert [t.point for t in one] == [t.point for t in two]
    assert [t.measurement.accuracy for t in one] == [t.measurement.accuracy for t in two]


def test_short_trainings_go_on_from_where_they_paused(config, tmp_path, capsys):
    config.write_text(CONFIG.replace("{ trainings = 6 }", "{ trainings = 6, ladder = [0.75, 1.0] }"))
    run, model = tmp_path / "run", tmp_path / "model"
    assert main(["search", str(config), "--out", str(run)]) == 0
    trials = read_trials(run)
    assert sum(t.trainings for t in trials) <= 6
    short = {(t.point, t.proposal.seed): t for t in trials if t.proposal.fidelity == 0.75}
    continued = [t for t in trials if t.proposal.continued_from == 0.75]
    assert continued
    assert all((t.point, t.proposal.seed) in short for t in continued)
    assert len(list((run / "paused").iterdir())) == len(short) - len(continued)
    capsys.readouterr()
    for trial in (continued[-1], short[continued[-1].point, continued[-1].proposal.seed]):
        assert main(["apply", str(run), str(trial.index), "--out", str(model), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["accuracy"] == printed["trial_accuracy"] == trial.measurement.accuracy


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ("[0.5]", "search: ladder must rise from above 0 to 1, got [0.5]"),
        ("[0.5, 1.0]", "search: ladder: its rungs are [4] of 8 steps; they must rise, and lie after the cut at step 4"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_named_before_anything_is_trained(ladder, message, config, tmp_path, capsys):
    config.write_text(CONFIG.replace("{ trainings = 6 }", f"{{ trainings = 6, ladder = {ladder} }}"))
    assert main(["search", str(config), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_says_which_channels_are_fixed_and_why(config, capsys):
    config.write_text(CONFIG.replace("alphas = [0.9, 0.7]", "keep = [1.0, 0.5]"))
    assert main(["search", str(config), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["features.0", "channels", "8,", "4"]
    assert any(line.startswith("classifier") and "channels 10, fixed: they are an output" in line for line in lines)
