"""Machines beside the accelerator of a search: what each is good for, by brute force over what was measured."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from codesign.cli import main
from codesign.runs.machines import HardwareLoop, machines_of
from codesign.runs.search_run import prepare
from codesign.runs.search_settings import HardwareSettings, Limits, load_settings
from codesign.runs.space import baseline_points
from codesign.search import Measurement, Origin, Proposal, Trial, read_trials, summarise
from codesign.whatif import with_values

CONFIG = """
title = "a few digits on four machines"
accelerator = "edge"
data = { name = "digits", train_images = 300, test_images = 100 }
network = { name = "vgg:8 M 8 M" }
training = { batch = 50, learning_rate = 0.05 }
schedule = { dense_epochs = 1, pruned_epochs = 3 }
space = { alphas = [0.9, 0.7], formats = ["fp32", "fp8-hybrid", "e2m1"], baselines = ["fp32", "fp8-hybrid"] }
search = { trainings = 10 }
limits = { accuracy = 0.5 }
hardware = { trainings = 3, vary = { "array.rows" = [4, 16], "dram.bandwidth_bytes_per_s" = [1e9, 25.6e9] } }
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hardware") / "few.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def run(config) -> Path:
    out = config.parent / "run"
    assert main(["search", str(config), "--out", str(out)]) == 0
    return out


def test_every_machine_gets_its_fastest_accurate_design(config, run):
    prepared = prepare(load_settings(config), str(config))
    trials = read_trials(run)
    good = [m for m in summarise(trials) if m.accuracy >= 0.5]
    rows = list(csv.DictReader((run / "hardware.csv").open()))
    assert len(rows) == 4
    for row in rows:
        values = {key: float(row[key]) for key in ("array.rows", "dram.bandwidth_bytes_per_s")}
        values["array.rows"] = int(values["array.rows"])
        run_cost = replace(prepared.run_cost, accelerator=with_values(prepared.run_cost.accelerator, values))
        fastest = min(good, key=lambda m: run_cost.latency_s(m.point))
        assert float(row["latency_s"]) == pytest.approx(run_cost.latency_s(fastest.point))
        assert float(row["area_um2"]) == pytest.approx(run_cost.area_um2)
        smaller = [r for r in rows if float(r["area_um2"]) <= float(row["area_um2"])]
        assert (row["leading"] == "True") == (float(row["latency_s"]) == min(float(r["latency_s"]) for r in smaller))
    assert json.loads((run / "run.json").read_text())["hardware"][0]["trial"] == int(rows[0]["trial"])


def test_other_machines_need_no_other_trainings(config, run, tmp_path, capsys):
    run = shutil.copytree(run, tmp_path / "run")  # a later command writes the files of the run anew
    assert sum(t.proposal.origin is not Origin.FURTHER for t in read_trials(run)) == 10
    assert sum(t.proposal.origin is Origin.FURTHER for t in read_trials(run)) <= 3
    record = (run / "trials.jsonl").read_bytes()
    assert main(["search", str(config), "--out", str(run)]) == 0
    assert (run / "trials.jsonl").read_bytes() == record
    more = config.parent / "more.toml"
    more.write_text(
        CONFIG.replace("[4, 16]", "[4, 8, 16]").replace("hardware = { trainings = 3", "hardware = { trainings = 0")
    )
    assert main(["search", str(more), "--out", str(run)]) == 0
    assert "Of 6 machines" in capsys.readouterr().out
    assert (run / "trials.jsonl").read_bytes() == record


def test_what_is_trained_further_should_be_faster_on_a_machine_than_anything_measured(config):
    settings = load_settings(config)
    prepared = prepare(settings, str(config))
    space = prepared.space
    losses = [(0.0, 0.01, 0.03)] * 2 + [(0.0, 0.005, 0.02)] * 3  # two channel groups, three layers

    def trial(index: int, choice: tuple[int, ...], origin: Origin = Origin.UNIFORM) -> Trial:
        accuracy = 0.9 - sum(loss[entry] for loss, entry in zip(losses, choice, strict=True))
        return Trial(
            index=index,
            batch=0,
            batch_size=1,
            proposal=Proposal(point=space.point(choice), origin=origin, seed=index),
            latency_s=prepared.run_cost.latency_s(space.point(choice)),
            metrics=(),
            measurement=Measurement(accuracy=accuracy, standard_error=0.001),
            failure="",
        )

    single = [
        tuple(entry if i == place else 0 for i in range(5))
        for place in range(5)
        for entry in range(1, space.sizes[place])
    ]
    trials = [trial(i, choice) for i, choice in enumerate([(0,) * 5, *single])]
    loop = HardwareLoop(
        machines=prepared.machines,
        space=space,
        limits=Limits(accuracy=0.86),
        baselines=baseline_points(prepared.run_cost.workload, settings.space),
        trainings=3,
    )
    ideas = loop.ideas(trials)
    assert 1 <= len(ideas) <= 3
    bests = [(v.machine.run_cost, v.latency_s) for v in loop.verdicts(trials)]
    for idea in ideas:
        assert idea.point not in {t.point for t in trials}
        assert idea.predicted_accuracy >= 0.86
        assert any(run_cost.latency_s(idea.point) < best_s for run_cost, best_s in bests)
    spent = [trial(100 + i, space.choice(idea.point), Origin.FURTHER) for i, idea in enumerate(ideas)]
    assert len(loop.ideas([*trials, *spent])) <= 3 - len(spent)


@pytest.mark.parametrize(
    ("vary", "limits", "message"),
    [
        ({"array.row": (4,)}, {}, "no such key; did you mean 'array.rows'"),
        ({"batch": (4,)}, {}, "vary 'batch': is no key of an accelerator"),
        ({"array.rows": (0,)}, {}, "rows must be positive"),
        ({"array.rows": (8, 16)}, {"area_um2": 1e3}, "none of the 2 machines has area_um2 <= 1000, the smallest has"),
        ({"sram.capacity_bytes": (16,)}, {}, "sram.capacity_bytes=16"),
    ],
)
def test_a_machine_that_cannot_be_is_named_before_anything_is_trained(vary, limits, message, config):
    settings = load_settings(config)
    run_cost = prepare(settings, str(config)).run_cost
    points = baseline_points(run_cost.workload, settings.space)
    with pytest.raises(Exception, match=message.replace("(", r"\(")):
        machines_of(run_cost, HardwareSettings(vary=vary), Limits(**limits), points)
