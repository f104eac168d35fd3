"""`codesign train` as a user types it, on a few digits: stages, resume after kill -9, going on from what was trained."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codesign import DesignPoint, uniform
from codesign.cli import main
from codesign.hardware import load_accelerator
from codesign.nn.networks import build
from codesign.optimizers import Optimizer
from codesign.runs.export import load_applied
from codesign.runs.run_cost import PricedStage, latency_s_of
from codesign.workload import Workload

TRANSFORMS = 'transforms = [{ name = "gaussian_blur", sigma = [0.1, 0.8], p = 0.5 }]'
CONFIG = """
title = "a few digits"
accelerator = "edge"
data = { name = "digits", train_images = 400, test_images = 60 }
network = { name = "vgg:8 M 16 M" }
training = { batch = 50, learning_rate = 0.05, crop_and_flip = 1 }
TRANSFORMS
formats = { default = "bf16", layers = { classifier = "fp32" } }

[[stages]]
epochs = 1
cut = { sample = "noise", images = 500, structure = { alpha = 0.9, floor = 2 } }

[[stages]]
epochs = 2.5
cut = { sample = "data", images = 300, structure = { alpha = 0.9, floor = 2 } }
""".replace("TRANSFORMS", TRANSFORMS)
TIMES = ("cpu_s", "wall_s")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "few.toml"
    path.write_text(CONFIG)
    return path


def train(config: Path, out: Path, capsys) -> dict:
    assert main(["train", str(config), "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def without_times(result: dict) -> dict:
    records = [{key: value for key, value in record.items() if key not in TIMES} for record in result["records"]]
    return result | {"records": records}


def test_every_stage_is_measured_and_priced(config, tmp_path, capsys):
    out = tmp_path / "run"
    result = train(config, out, capsys)
    records = result["records"]
    assert [(record["stage"], record["action"]) for record in records] == [
        (stage, action) for stage in (1, 2) for action in ("find structure", "prune", "train")
    ]
    assert [record["steps"] for record in records] == [0, 0, 8, 0, 0, 20]
    sizes = [record["parameters"] for record in records]
    assert sizes[0] > sizes[1] == sizes[2] == sizes[3] > sizes[4] == sizes[5]

    network, point = load_applied(out / "model")
    assert sum(parameter.numel() for parameter in network.parameters()) == sizes[-1]
    assert dict(point.channels) == result["channels"]
    assert point.formats_of("features.0") == uniform("bf16")
    assert point.formats_of("classifier") == uniform("fp32")

    workload = Workload.from_torch(build("vgg:8 M 16 M", (1, 8, 8), 10), torch.zeros(1, 1, 8, 8), batch=50)
    plain = DesignPoint.of(default=uniform("fp32"), formats=dict(point.formats))
    found = {layer["layer"]: layer["count"] for layer in result["structures"][0]["layers"]}
    cut, end = (replace(plain, channels=tuple(counts.items())) for counts in (found, result["channels"]))
    parts = [
        PricedStage(point=plain, steps=10, sampling=True),  # 500 random images in batches of 50
        PricedStage(point=cut, steps=8),
        PricedStage(point=cut, steps=6, sampling=True),  # 300 training images
        PricedStage(point=cut, steps=12, sampling=True),  # the same to choose, and beside the smaller network
        PricedStage(point=end, steps=6, sampling=True),
        PricedStage(point=end, steps=20),
    ]
    assert "rebuilt" not in result["structures"][0]
    assert [layer["kept"] for layer in result["structures"][1]["rebuilt"]["layers"]]
    expected = latency_s_of(parts, workload, load_accelerator("edge"), Optimizer.MOMENTUM)
    assert sum(record["simulated_s"] for record in records) == pytest.approx(expected)

    assert main(["train", str(config), "--out", str(out)]) == 0  # nothing is left to do; the same result again
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8  # heads, six records, total
    assert json.loads((out / "training.json").read_text()) == result


def test_a_killed_training_gives_what_an_uninterrupted_one_gives(config, tmp_path, capsys):
    config.write_text(CONFIG.replace("epochs = 2.5", "epochs = 40"))
    out, whole = tmp_path / "run", tmp_path / "whole"
    command = [sys.executable, "-m", "codesign", "train", str(config), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    checkpoint = out / "checkpoint.safetensors"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the training was over before it was killed"
    resumed = train(config, out, capsys)
    expected = train(config, whole, capsys)
    assert without_times(resumed) == without_times(expected)
    one, other = (load_file(folder / "model" / "weights.safetensors") for folder in (out, whole))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_training_starts_from_what_was_trained(config, tmp_path, capsys):
    first = train(config, tmp_path / "first", capsys)
    start = tmp_path / "first" / "model"
    config.write_text(
        CONFIG.split("formats =")[0]
        .replace('network = { name = "vgg:8 M 16 M" }', f'start = "{start}"')
        .replace("0.05", "1e-9")
        + "[[stages]]\nepochs = 1\nrestart = true\n"
    )
    second = train(config, tmp_path / "second", capsys)
    assert [record["action"] for record in second["records"]] == ["train"]
    assert second["records"][0]["parameters"] == first["records"][-1]["parameters"]
    before, _ = load_applied(start)
    after, point = load_applied(tmp_path / "second" / "model")
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)  # the learning rate moves them by next to nothing
    assert point.formats_of("features.0") == uniform("bf16")  # the start brought its formats


def test_another_configuration_does_not_overwrite_a_run(config, tmp_path, capsys):
    out = tmp_path / "run"
    train(config, out, capsys)
    config.write_text(CONFIG.replace("learning_rate = 0.05", "learning_rate = 0.01"))
    assert main(["train", str(config), "--out", str(out)]) == 5
    assert "another configuration" in capsys.readouterr().err
    assert main(["train", str(config), "--out", str(out), "--fresh"]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 2.5", "epochs = 0"), "few.toml: stages[1]: epochs must be positive, got 0"),
        (('sample = "data"', 'sample = "dta"'), "stages[1]: cut: sample: must be one of data, noise, got 'dta'"),
        (("network = {", 'start = "nowhere"\nnetwork = {'), "give one of network (a fresh one) and start"),
        (("classifier =", "clasifier ="), "no convolution or linear layer 'clasifier'; did you mean 'classifier'?"),
        (('"bf16", l', '"bf61", l'), "'bf61'"),
        (("images = 300", "images = 2"), "stages[1]: cut: layer"),
        (("alpha = 0.9, floor = 2 } }\n\n", "alpha = 1, floor = 99 } }\n\n"), "the plan removes nothing"),
        ((TRANSFORMS, 'device = "cdua"'), "few.toml: device: 'cdua' cannot be used here"),
        (('title = "a', 'device = "cuda"\ntitle = "a'), "transforms filter on the CPU, so device must be cpu"),
        (('name = "gaussian', 'name = "gausian'), "few.toml: transforms[0]: unknown transform 'gausian_blur'"),
        (("learning_rate = 0.05", "learning_rate = 1e30"), "the loss is not finite after"),
        (('network = { name = "vgg:8 M 16 M" }', 'start = "nowhere"'), "nowhere holds no config.toml"),
    ],
)
def test_a_mistake_is_one_line(config, tmp_path, capsys, change, message):
    config.write_text(CONFIG.replace(*change))
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) in (2, 5)
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert sum(line.startswith("codesign train:") for line in lines) == 1


def test_a_network_without_channels_to_cut_is_refused_before_it_is_trained(config, tmp_path, capsys):
    text = CONFIG.replace("vgg:8 M 16 M", "tests.workload.networks:nothing_to_cut")
    config.write_text(text.replace(', layers = { classifier = "fp32" }', ""))
    assert main(["train", str(config), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "no layer can lose channels: 'conv': the code indexes them by number, in 'number' (slice)" in said
    assert not (tmp_path / "run").exists()
