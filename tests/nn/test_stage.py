"""Images, learning rates and accuracies of a training run, and one that goes on where it stopped."""

import math

import pytest
import torch

from codesign.errors import ConfigError
from codesign.nn.data import load_dataset
from codesign.nn.networks import build
from codesign.nn.recipe import Recipe
from codesign.nn.stage import Accuracy, Span, TrainingData, TrainingState, batches, train
from codesign.preprocess import GaussianBlur

DIGITS = load_dataset("digits")
DATA = TrainingData.of(DIGITS, train_count=256, test_count=100)


def test_a_random_transform_goes_on_where_a_stopped_training_was():
    """Steps 0 to 7 and 8 to 15 in two calls are steps 0 to 15 in one (256 images are 8 batches of 32)."""
    results = []
    for stops in ([16], [8, 16]):
        torch.manual_seed(0)
        network = build("vgg:8 M", DIGITS.image_shape, DIGITS.classes)
        recipe = Recipe(batch=32, learning_rate=0.05)
        state = TrainingState.begin(network, recipe, seed=3)
        for first, last in zip([0, *stops], stops, strict=False):
            train(state, DATA, recipe, Span(first=first, last=last, total=16), transform=GaussianBlur())
        results.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(*results)


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
    training = Recipe(batch=1, learning_rate=2.0, warmup_share=0.1)
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
