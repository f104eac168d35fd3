"""Designs of a search in training, on a few digits: reproducible, cut where asked, honest about divergence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from codesign import DesignPoint, uniform
from codesign.design import LayerFormats
from codesign.errors import ConfigError, ModelError
from codesign.nn.recipe import Recipe
from codesign.nn.stage import batches
from codesign.optimizers import Optimizer
from codesign.runs.designs import Designs
from codesign.runs.search_settings import (
    DataSettings,
    NetworkSettings,
    ScheduleSettings,
    SearchSettings,
    Settings,
    SpaceSettings,
)

CUT = {"features.0": 5, "features.4": 7}


def designs(
    *,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    rate: float = 0.05,
    transforms: tuple[dict[str, Any], ...] = (),
    ladder: Sequence[float] = (1.0,),
    paused: Path | None = None,
    pruned_epochs: float = 2,
) -> Designs:
    """256 images in batches of 32: 8 steps a pass, the cut after one, the end after three."""
    settings = Settings(
        title="",
        accelerator="edge",
        data=DataSettings(name="digits", train_images=256, test_images=100),
        network=NetworkSettings(name="vgg:8 M 16 M"),
        training=Recipe(batch=32, learning_rate=rate, optimizer=optimizer),
        schedule=ScheduleSettings(dense_epochs=1, pruned_epochs=pruned_epochs),
        space=SpaceSettings(formats=("fp32",), baselines=("fp32",), keep=(0.5,)),
        search=SearchSettings(trainings=1, ladder=tuple(ladder)),
        transforms=transforms,
    )
    return Designs(settings=settings, paused=paused)


def run(point: DesignPoint, *, seed: int = 0, **settings: Any):
    return designs(**settings).train(point, seed)


@pytest.mark.parametrize("optimizer", [Optimizer.MOMENTUM, Optimizer.ADAM])
def test_a_run_is_a_function_of_its_seed(optimizer):
    point = DesignPoint.of(default=uniform("e4m3"), channels=CUT)
    rate = 0.05 if optimizer is Optimizer.MOMENTUM else 0.003
    first, again, other = (run(point, seed=seed, optimizer=optimizer, rate=rate) for seed in (0, 0, 1))
    for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.accuracy == again.accuracy
    assert first.accuracy.loss != other.accuracy.loss


def test_the_trained_network_has_the_channels_that_were_asked_for():
    outcome = run(DesignPoint.of(default=uniform("bf16"), channels=CUT))
    sizes = {name: tuple(p.shape) for name, p in outcome.network.named_parameters()}
    assert sizes["features.0.weight"] == (5, 1, 3, 3)
    assert sizes["features.4.weight"] == (7, 5, 3, 3)
    assert sizes["classifier.weight"] == (10, 7 * 2 * 2)
    assert outcome.effort.steps == 24
    assert not outcome.diverged


def test_training_learns_and_a_point_with_all_channels_is_not_cut():
    outcome = run(DesignPoint.of(default=uniform("fp32")))
    assert outcome.accuracy.top1 > 0.5  # chance is 0.1
    assert outcome.network.features[0].out_channels == 8


def test_a_run_that_blows_up_says_so_and_stops():
    outcome = run(DesignPoint.of(default=uniform("e4m3")), rate=1e30)
    assert outcome.diverged
    assert outcome.effort.steps < 24


def test_a_transform_sees_batches_of_pixels_from_0_to_1_in_the_order_of_the_run():
    seen = []

    def look(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return images

    searched = designs()
    trainer = replace(searched.trainer, transform=look)
    point = DesignPoint.of(default=uniform("fp32"), channels=CUT)
    parts = list(trainer.train(trainer.begin(searched.fresh(0), seed=0, formats=point), searched.stages(point)))
    assert [(part.stage, part.plan is not None, part.ended) for part in parts] == [
        (0, False, True), (1, True, False), (1, False, False), (1, False, True)
    ]  # fmt: skip
    order = torch.cat(list(batches(trainer.images, 32, 8, torch.Generator().manual_seed(0))))  # before the cut
    assert len(seen) == 24
    pixels = torch.from_numpy(searched.dataset.train_images)[order]
    torch.testing.assert_close(torch.cat(seen[:8]), pixels, rtol=0, atol=1e-6)


def test_a_random_transform_is_a_function_of_the_seed_and_leaves_other_draws_alone():
    point, blur = DesignPoint.of(default=uniform("bf16"), channels=CUT), ({"name": "gaussian_blur"},)
    torch.manual_seed(5)
    first = run(point, transforms=blur)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after
    torch.manual_seed(6)
    again, other, without = run(point, transforms=blur), run(point, transforms=blur, seed=1), run(point)
    for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len({outcome.accuracy.loss for outcome in (first, other, without)}) == 3


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="features"):
        run(DesignPoint.of(default=uniform("fp32"), channels={"features.9": 3}))


def test_a_cut_outside_the_run_is_refused():
    with pytest.raises(ConfigError, match="a cut after 8 of 8 steps"):
        run(DesignPoint.of(default=uniform("fp32")), pruned_epochs=0.01)


@pytest.mark.parametrize("optimizer", [Optimizer.MOMENTUM, Optimizer.ADAM])
def test_a_run_that_paused_before_and_after_the_cut_goes_on_to_the_same_bits(optimizer, tmp_path):
    point = DesignPoint.of(default=uniform("e4m3"), channels=CUT)
    blur = ({"name": "gaussian_blur", "sigma": (0.1, 2.0)},)
    ladder = (5 / 24, 16 / 24, 1.0)

    def until(stop, paused):
        searched = designs(optimizer=optimizer, rate=0.003, transforms=blur, ladder=ladder, paused=paused)
        return searched.train(point, 0, stop / 24)

    whole = until(24, None)
    steps = [until(5, tmp_path).effort.steps]
    assert len(list(tmp_path.iterdir())) == 1
    steps.append(until(16, tmp_path).effort.steps)
    steps.append(until(16, tmp_path).effort.steps)  # killed between the file and the record: nothing is left to train
    last = until(24, tmp_path)
    assert [*steps, last.effort.steps] == [5, 11, 0, 8]
    assert last.accuracy == whole.accuracy
    assert all(map(torch.equal, last.network.parameters(), whole.network.parameters()))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"does not pause after 9; it may after \[5, 8, 16, 24\]"):
        until(9, tmp_path)


@pytest.mark.parametrize("role", ["accumulator", "optimizer_state"])
def test_a_run_computes_in_the_accumulator_and_optimizer_formats_of_its_point(role):
    def trained(fmt):
        roles = {"weight": "float32", "activation": "float32", "error": "float32", "gradient": "float32", role: fmt}
        return run(DesignPoint.of(default=LayerFormats.parse(roles)))

    exact, narrow, finest = trained("float32"), trained("e5m2"), trained("e8m22")
    distance = [abs(o.accuracy.loss - exact.accuracy.loss) for o in (narrow, finest)]
    assert distance[0] > 10 * distance[1]
