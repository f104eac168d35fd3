"""Training runs on a few digits: reproducible, cut where asked, honest about divergence."""

import math
from collections.abc import Callable

import pytest
import torch

from codesign import DesignPoint, uniform
from codesign.design import LayerFormats
from codesign.errors import ConfigError, ModelError
from codesign.nn.data import load
from codesign.nn.networks import build
from codesign.nn.recipe import Training
from codesign.nn.run import Rungs, run_point
from codesign.nn.train import Accuracy, TrainingData, batches, make_optimizer, train
from codesign.optimizers import Optimizer
from codesign.preprocess import GaussianBlur

DIGITS = load("digits")
DATA = TrainingData.of(DIGITS, train_count=256, test_count=100)
CUT = {"features.0": 5, "features.4": 7}


def run(
    point: DesignPoint,
    *,
    seed: int = 0,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    rate: float = 0.05,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    rungs: Rungs | None = None,
):
    return run_point(
        point,
        build=lambda: build("vgg:8 M 16 M", DIGITS.image_shape, DIGITS.classes),
        data=DATA,
        training=Training(batch=32, learning_rate=rate, optimizer=optimizer),
        dense_steps=8,
        steps=24,
        seed=seed,
        transform=transform,
        rungs=rungs,
    )


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
    assert outcome.cost.steps == 24
    assert not outcome.diverged


def test_training_learns_and_a_point_with_all_channels_is_not_cut():
    outcome = run(DesignPoint.of(default=uniform("fp32")))
    assert outcome.accuracy.top1 > 0.5  # chance is 0.1
    assert outcome.network.features[0].out_channels == 8


def test_a_run_that_blows_up_says_so_and_stops():
    outcome = run(DesignPoint.of(default=uniform("e4m3")), rate=1e30)
    assert outcome.diverged
    assert outcome.cost.steps < 24


def test_a_transform_sees_batches_of_pixels_from_0_to_1_in_the_order_of_the_run():
    seen = []

    def look(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return images

    run(DesignPoint.of(default=uniform("fp32"), channels=CUT), transform=look)
    order = torch.cat(list(batches(DATA, 32, 8, torch.Generator().manual_seed(0))))  # the 8 steps before the cut
    assert len(seen) == 24
    torch.testing.assert_close(torch.cat(seen[:8]), torch.from_numpy(DIGITS.train_images)[order], rtol=0, atol=1e-6)


def test_a_random_transform_is_a_function_of_the_seed_and_leaves_other_draws_alone():
    point, blur = DesignPoint.of(default=uniform("bf16"), channels=CUT), GaussianBlur()
    torch.manual_seed(5)
    first = run(point, transform=blur)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after
    torch.manual_seed(6)
    again, other, without = run(point, transform=blur), run(point, transform=blur, seed=1), run(point)
    for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len({outcome.accuracy.loss for outcome in (first, other, without)}) == 3


def test_a_random_transform_goes_on_where_a_stopped_training_was():
    """Steps 0 to 7 and 8 to 15 in two calls are steps 0 to 15 in one (256 images are 8 batches of 32)."""
    results = []
    for stops in ([16], [8, 16]):
        torch.manual_seed(0)
        network = build("vgg:8 M", DIGITS.image_shape, DIGITS.classes)
        training = Training(batch=32, learning_rate=0.05)
        generator, optimizer = torch.Generator().manual_seed(3), make_optimizer(network, training)
        for first, last in zip([0, *stops], stops, strict=False):
            train(
                network,
                DATA,
                training,
                steps=last - first,
                generator=generator,
                optimizer=optimizer,
                first_step=first,
                total_steps=16,
                transform=GaussianBlur(),
            )
        results.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(*results)


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ModelError, match="features"):
        run(DesignPoint.of(default=uniform("fp32"), channels={"features.9": 3}))


def test_a_cut_outside_the_run_is_refused():
    with pytest.raises(ConfigError, match="a cut after 8 of 8 steps"):
        run_point(
            DesignPoint.of(default=uniform("fp32")),
            build=lambda: build("vgg:8 M", DIGITS.image_shape, DIGITS.classes),
            data=DATA,
            training=Training(batch=32, learning_rate=0.1),
            dense_steps=8,
            steps=8,
            seed=0,
        )


def test_batches_are_permutations_and_leave_the_incomplete_one_out():
    got = list(batches(DATA, 100, 4, torch.Generator().manual_seed(0)))
    assert [len(index) for index in got] == [100] * 4
    assert len(set(torch.cat(got[:2]).tolist())) == 200  # one pass repeats no image
    with pytest.raises(ConfigError, match="batch 257 is larger than the 256 training images"):
        next(batches(DATA, 257, 1, torch.Generator()))


@pytest.mark.parametrize("count", [-5, 0, 1439])
def test_more_images_than_there_are_or_none_are_refused(count):
    with pytest.raises(ConfigError, match=f"train_images must be 1 to 1438, the images of 'digits', got {count}"):
        TrainingData.of(DIGITS, train_count=count)


def test_learning_rate_rises_then_falls_to_zero():
    training = Training(batch=1, learning_rate=2.0, warmup_share=0.1)
    rates = [training.learning_rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)  # 2.0 * 1 / 10
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[99] < 0.01
    assert max(rates) == 2.0


def test_standard_error_of_an_accuracy_is_binomial_and_never_zero():
    got = Accuracy(top1=0.5, top5=1.0, loss=0.0, count=10_000).standard_error
    assert got == pytest.approx(math.sqrt(0.25 / 10_000), rel=1e-3)
    assert Accuracy(top1=1.0, top5=1.0, loss=0.0, count=100).standard_error > 0


@pytest.mark.parametrize("optimizer", [Optimizer.MOMENTUM, Optimizer.ADAM])
def test_a_run_that_paused_before_and_after_the_cut_goes_on_to_the_same_bits(optimizer, tmp_path):
    point = DesignPoint.of(default=uniform("e4m3"), channels=CUT)
    blur = GaussianBlur(sigma=(0.1, 2.0))
    file = tmp_path / "paused"

    def until(stop, snapshot):
        rungs = Rungs(steps=(5, 16), stop=stop, snapshot=snapshot)
        return run(point, optimizer=optimizer, rate=0.003, transform=blur, rungs=rungs)

    whole = until(24, None)
    steps = [until(5, file).cost.steps]
    assert file.is_file()
    steps.append(until(16, file).cost.steps)
    steps.append(until(16, file).cost.steps)  # killed between the file and the record: nothing is left to train
    last = until(24, file)
    assert [*steps, last.cost.steps] == [5, 11, 0, 8]
    assert last.accuracy == whole.accuracy
    assert all(map(torch.equal, last.network.parameters(), whole.network.parameters()))
    assert not file.exists()
    with pytest.raises(ConfigError, match=r"does not pause after 9; it may after \[5, 8, 16, 24\]"):
        until(9, file)


@pytest.mark.parametrize("role", ["accumulator", "optimizer_state"])
def test_a_run_computes_in_the_accumulator_and_optimizer_formats_of_its_point(role):
    def trained(fmt):
        roles = {"weight": "float32", "activation": "float32", "error": "float32", "gradient": "float32", role: fmt}
        return run(DesignPoint.of(default=LayerFormats.parse(roles)))

    exact, narrow, finest = trained("float32"), trained("e5m2"), trained("e8m22")
    distance = [abs(o.accuracy.loss - exact.accuracy.loss) for o in (narrow, finest)]
    assert distance[0] > 10 * distance[1]
