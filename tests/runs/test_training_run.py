"""The schedule of a training, and counts that follow the accelerator."""

import pytest
import torch

from codesign import DesignPoint, uniform
from codesign.errors import ConfigError
from codesign.hardware import load_accelerator
from codesign.nn.networks import build
from codesign.nn.recipe import Recipe
from codesign.optimizers import Optimizer
from codesign.prune import StructureConfig, channel_groups, random_masks
from codesign.runs.pruning import chance, cost_of_counts, find_structure, removal
from codesign.runs.search_settings import DataSettings, NetworkSettings
from codesign.runs.trainer import Stage
from codesign.runs.training_run import prepare_training
from codesign.runs.training_settings import CutSettings, Ranking, Sample, StageSettings, TrainingSettings
from codesign.workload import Workload


def prepared(*stages: StageSettings):
    settings = TrainingSettings(
        title="",
        accelerator="edge",
        data=DataSettings(name="digits", train_images=100, test_images=10),
        network=NetworkSettings(name="vgg:8 M"),
        training=Recipe(batch=10, learning_rate=0.1),
        stages=stages,
    )
    return prepare_training(settings, "here")


def test_one_learning_rate_schedule_goes_on_across_cuts_until_a_stage_restarts_it():
    cut = CutSettings(sample=Sample.DATA)
    stages = [
        StageSettings(epochs=2),
        StageSettings(epochs=3, cut=cut),
        StageSettings(epochs=4, cut=cut, restart=True),
        StageSettings(epochs=0.5),
    ]
    run = prepared(*stages)
    assert run.steps == [20, 30, 40, 5]
    assert [run.schedule(stage) for stage in range(4)] == [(0, 50), (20, 50), (0, 45), (40, 45)]


def test_a_schedule_may_begin_with_a_learning_rate_of_its_own():
    run = prepared(
        StageSettings(epochs=2),
        StageSettings(epochs=1, restart=True, learning_rate=0.02),
        StageSettings(epochs=1),
        StageSettings(epochs=1, restart=True),
    )
    assert [run.learning_rate(stage) for stage in range(4)] == [None, 0.02, 0.02, None]
    with pytest.raises(ConfigError, match="add restart = true"):
        StageSettings(epochs=1, learning_rate=0.02)


def test_channels_are_ranked_by_reconstruction_on_training_images_and_by_norm_on_random_ones():
    assert CutSettings(sample=Sample.DATA).ranked_by is Ranking.RECONSTRUCTION
    assert CutSettings(sample=Sample.NOISE).ranked_by is Ranking.L1
    assert CutSettings(sample=Sample.DATA, ranking=Ranking.L2).ranked_by is Ranking.L2


def test_every_ranking_keeps_the_counts_and_only_reconstruction_rebuilds():
    torch.manual_seed(0)
    network = build("vgg:8 12", (1, 8, 8), 10)
    images = torch.randn(64, 1, 8, 8).split(32)
    groups = channel_groups(network, images[0][:1])
    for ranking in Ranking:
        found = removal(network, groups, {"features.0": 5}, ranking, images, seed=0)
        assert found.plan.counts["features.0"] == 5
        assert (found.rebuild_from is not None) == (ranking is Ranking.RECONSTRUCTION)


def test_the_learning_rate_of_a_stage_is_the_one_it_trains_with():
    trainer = prepared(StageSettings(epochs=1)).trainer
    run = trainer.begin(build("vgg:8 M", (1, 8, 8), 10), seed=0)
    rates = []
    stages = [Stage(steps=10, first=0, total=10, learning_rate=0.003), Stage(steps=10, first=0, total=10)]
    for _ in trainer.train(run, stages, lambda _: rates.append(run.state.optimizer.param_groups[0]["lr"])):
        pass
    assert max(rates[:10]) == pytest.approx(0.003, rel=0.2)
    assert max(rates[10:]) == pytest.approx(0.1, rel=0.2)


def test_counts_move_to_where_the_array_is_full():
    """The array of 'edge' has 16 columns: time is a staircase with a step after every 16 channels."""
    torch.manual_seed(0)
    network = build("vgg:64 64", (1, 8, 8), 10)
    workload = Workload.from_torch(network, torch.zeros(1, 1, 8, 8), batch=64)
    point = DesignPoint.of(default=uniform("fp32"))
    cost = cost_of_counts(workload, point, load_accelerator("edge"), Optimizer.MOMENTUM)
    steps = {count: cost("features.3", count + 1) - cost("features.3", count) for count in range(1, 64)}
    assert sorted(sorted(steps, key=lambda count: -steps[count])[:3]) == [16, 32, 48]

    groups = channel_groups(network, torch.zeros(1, 1, 8, 8))
    settings = CutSettings(sample=Sample.NOISE, images=400, structure=StructureConfig(alpha=0.97, align_worth=2))
    images = torch.zeros(1, 1, 8, 8)
    plain, aligned = (find_structure(network, groups, images, settings, 0, given) for given in (None, cost))
    assert aligned.alignment == "by cost"
    assert plain.counts["features.3"] % 16
    assert aligned.counts["features.3"] % 16 == 0


def test_masks_by_chance_do_not_follow_the_signs_of_the_weights():
    def positive(generator: torch.Generator) -> list[float]:
        masks = random_masks(network, 0.4, generator)
        weights = dict(network.named_parameters())
        return [float((weights[name][mask] > 0).float().mean()) for name, mask in masks.items() if mask.numel() > 1000]

    torch.manual_seed(3)
    network = build("vgg:16 16 16", (1, 8, 8), 10)
    assert max(positive(torch.Generator().manual_seed(3))) > 0.9  # what it guards against
    assert all(0.45 < share < 0.55 for share in positive(chance(3)))
