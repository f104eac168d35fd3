"""Every refusal names what is wrong and what to do, and leaves the network as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign.errors import ConfigError, DataError, ModelError
from codesign.prune import (
    StructureConfig,
    channel_groups,
    elementwise,
    l1_importance,
    pca_channel_counts,
    plan_from_counts,
    plan_from_indices,
    prune,
    rebuild,
    structure_of,
)
from tests.prune import networks

IMAGE = torch.randn(1, 3, 8, 8)


@pytest.fixture
def vgg():
    return networks.vgg((8, "M", 12, "M", 16, "M"), classes=4)


@pytest.fixture
def residual():
    return networks.ResNet(networks.Basic, (2,), width=8, classes=4)


def test_a_cut_that_changes_nothing(vgg):
    groups = channel_groups(vgg, IMAGE)
    with pytest.raises(ModelError, match="the plan removes nothing"):
        plan_from_counts(vgg, groups, {"0": 8, "4": 12})
    with pytest.raises(ModelError, match="the plan removes nothing"):
        plan_from_indices(groups, {"0": range(8)})


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"0": 0}, "layer '0': cannot keep 0 of 8 channels; keep 1 to 8"),
        ({"0": 9}, "layer '0': cannot keep 9 of 8 channels"),
        ({"conv": 4}, "the network has no layer 'conv'; known: 0, 13, 4, 8"),
        ({"13": 3}, "layer '13' cannot lose channels: they are an output of the network"),
    ],
)
def test_counts_that_cannot_be(vgg, counts, message):
    with pytest.raises(ModelError, match=message):
        plan_from_counts(vgg, channel_groups(vgg, IMAGE), counts)


def test_indices_that_cannot_be(vgg, residual):
    groups = channel_groups(vgg, IMAGE)
    with pytest.raises(ModelError, match="layer '0' has channels 0 to 7, got 8"):
        plan_from_indices(groups, {"0": [1, 8]})
    with pytest.raises(ModelError, match="layer '0': a layer cannot lose all its channels"):
        plan_from_indices(groups, {"0": []})
    with pytest.raises(ModelError, match="layer '13' cannot lose these channels: they are an output of the network"):
        plan_from_indices(groups, {"13": [0, 1]})
    tied = channel_groups(residual, torch.randn(1, 3, 32, 32))
    with pytest.raises(ModelError, match=r"'stem\.0' loses channel 3, which is tied to channel 3 of layer 'blocks"):
        plan_from_indices(tied, {"stem.0": [0, 1, 2], "blocks.0.two.0": [0, 1, 2, 3]})


def test_tied_counts_must_agree(residual):
    groups = channel_groups(residual, torch.randn(1, 3, 32, 32))
    counts = {"stem.0": 5, "blocks.1.two.0": 6}
    with pytest.raises(
        ModelError, match=r"layer 'blocks.1.two.0' is tied to others: it keeps 5 channels, not 6, where"
    ):
        plan_from_counts(residual, groups, counts)
    with pytest.raises(ModelError, match="importance must be 8 finite scores"):
        plan_from_counts(residual, groups, {"stem.0": 5}, {"stem.0": torch.ones(7)})
    with pytest.raises(ModelError, match=r"layer 'stem\.0': importance has no score"):
        plan_from_counts(residual, groups, {"stem.0": 5}, {"head": torch.ones(4)})


def test_channels_that_leave_several_at_a_time():
    model = networks.resnext(width=16, classes=4)
    groups = channel_groups(model, torch.randn(1, 3, 32, 32))
    with pytest.raises(ModelError, match="channels leave 4 at a time, so it cannot keep 10; keep 8"):
        plan_from_counts(model, groups, {"blocks.0.two.0": 10})


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(1).values


class Fixed(nn.Module):
    """Writes a size into its code, which no attribute holds."""

    def forward(self, x):
        return x.reshape(-1, 12 * 4)


def around(module, features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, 4, 1), module, nn.Linear(features, 2)
    )


def test_an_operation_that_is_not_understood_is_named_and_can_be_kept():
    model = nn.Sequential(around(Sorts(), 48)[:4], nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(ModelError, match=r"module '0\.3' \(sort\).*opaque=\['0\.3'\]"):
        channel_groups(model, IMAGE)
    groups = channel_groups(model, IMAGE, opaque=["0.3"])
    assert groups.channels == {"0.0": 8}
    assert "said to be opaque" in groups.group_of("0.2").why_fixed
    with pytest.raises(ModelError, match=r"opaque: the network has no module '0\.9'"):
        channel_groups(model, IMAGE, opaque=["0.9"])


def test_a_size_in_the_code_is_found_by_the_pass_and_the_network_is_as_before():
    model = around(Fixed(), 48)
    before = copy.deepcopy(model.state_dict())
    plan = plan_from_counts(model, channel_groups(model, IMAGE), {"2": 8})
    with pytest.raises(
        ModelError, match=r"module '3' does not work with fewer channels, probably because its code states"
    ):
        prune(model, plan, inplace=True)
    torch.testing.assert_close(model.state_dict(), before)
    assert model[2].out_channels == 12
    assert prune(model, plan_from_counts(model, plan.groups, {"0": 4}))[2].in_channels == 4


class HalfAndHalf(nn.Module):
    """Takes a fixed number of channels from the front: fewer channels would be other channels."""

    def forward(self, x):
        return x[:, :6].flatten(1)


def test_channels_indexed_by_number_stay():
    model = around(HalfAndHalf(), 24)
    group = channel_groups(model, IMAGE).group_of("2")
    assert group.units == 0
    assert group.why_fixed == "the code indexes them by number, in '3' (slice)"


class TrainingHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        x = F.relu(self.body(x)).mean((2, 3))
        return (self.head(x), self.auxiliary(x)) if self.training else self.head(x)


def test_a_head_that_only_training_uses_is_cut_with_the_rest():
    groups = channel_groups(TrainingHead(), IMAGE)
    assert groups.channels == {"body": 8}
    model = TrainingHead()
    smaller = prune(model, plan_from_counts(model, groups, {"body": 5})).train()
    assert smaller.auxiliary.in_features == smaller.head.in_features == 5
    sum(y.sum() for y in smaller(IMAGE)).backward()


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(F.relu(self.body(x)).mean((2, 3)))


def test_a_parameter_that_the_pass_does_not_reach():
    with pytest.raises(ModelError, match=r"parameter 'auxiliary\.weight' took no part .* opaque=\['auxiliary'\]"):
        channel_groups(Unused(), IMAGE)
    assert channel_groups(Unused(), IMAGE, opaque=["auxiliary"]).channels == {"body": 8}


def test_a_plan_is_for_the_network_it_was_made_for(vgg, residual):
    plan = plan_from_counts(vgg, channel_groups(vgg, IMAGE), {"0": 4})
    with pytest.raises(
        ModelError, match=r"tensor '0\.weight' has shape \[4, 3, 3, 3\], the plan expects \[8, 3, 3, 3\]"
    ):
        prune(prune(vgg, plan), plan)
    with pytest.raises(ModelError, match=r"the plan is for another network: it knows a tensor '0\.weight'"):
        prune(residual, plan)


def test_a_network_that_fails_on_the_example(vgg):
    with pytest.raises(ModelError, match="module '0' fails on the example input"):
        channel_groups(vgg, torch.randn(1, 4, 8, 8))
    with pytest.raises(ModelError, match="the network is compiled"):
        channel_groups(torch.compile(vgg), IMAGE)


def test_code_outside_torch_is_fixed_unless_it_is_marked():
    class Outside(nn.Module):
        def __init__(self, function) -> None:
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x).flatten(1)

    def halve(x):
        return torch.from_numpy(x.detach().numpy() * 0.5)

    assert "they leave torch" in channel_groups(around(Outside(halve), 48), IMAGE).group_of("2").why_fixed
    marked = around(Outside(elementwise(halve)), 48)
    groups = channel_groups(marked, IMAGE)
    assert groups.group_of("2").units == 12
    assert prune(marked, plan_from_counts(marked, groups, {"2": 5}))(IMAGE).shape == (1, 2)


def test_a_structure_of_another_network(vgg):
    with pytest.raises(ModelError, match=r"schema must be 'codesign\.structure/1', got None"):
        rebuild(vgg, {})
    wide = structure_of(networks.vgg((16, "M", 12, "M", 16, "M"), classes=4))
    with pytest.raises(ModelError, match=r"tensor '0\.weight' of the dense network is \[8, 3, 3, 3\], cannot become"):
        rebuild(vgg, wide)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha must be above 0 and at most 1, got 0"),
        ({"alpha": 1.5}, "alpha must be above 0"),
        ({"floor": 0}, "floor must be at least 1, got 0; a layer cannot lose all its channels"),
        ({"observations_per_channel": -1}, "must not be negative"),
        ({"align_worth": 0.5}, "align_worth must be at least 1"),
    ],
)
def test_structure_settings_that_cannot_be(change, message):
    with pytest.raises(ConfigError, match=message):
        StructureConfig(**change)


def test_too_few_observations_say_how_many_more(vgg):
    with pytest.raises(
        DataError, match=r"layer '8': 8 observations .* too few for 16 channels, 320 are needed .* 40 times"
    ):
        pca_channel_counts(vgg, [torch.randn(2, 3, 8, 8)], StructureConfig())
    with pytest.raises(DataError, match="batches is empty"):
        pca_channel_counts(vgg, [], StructureConfig())


@pytest.mark.exact_products("weights of zero: every output is the bias")
def test_a_layer_that_alpha_would_empty_names_the_floor(vgg):
    with torch.no_grad():
        vgg[4].weight.zero_()
    with pytest.raises(ModelError, match=r"layer '4': its feature map does not vary .* \(the floor is 3\)"):
        pca_channel_counts(vgg, [torch.randn(100, 3, 8, 8)], StructureConfig(floor=3))


def test_counts_that_half_of_the_images_do_not_confirm(vgg):
    images = torch.randn(200, 3, 8, 8)
    images[::2] *= 0.01 * torch.rand(100, 1, 1, 1)
    images[::2, :, :, :] = images[::2, :1, :1, :1]
    with pytest.raises(DataError, match="half of the images asks for"):
        pca_channel_counts(vgg, [images], StructureConfig(halves_tolerance=0.0, floor=1, observations_per_channel=1))


def test_values_that_are_not_finite(vgg):
    with pytest.raises(DataError, match="infinite or undefined"):
        pca_channel_counts(vgg, [torch.full((100, 3, 8, 8), float("nan"))], StructureConfig())


def test_l1_of_a_parametrized_weight_is_that_of_the_weight_in_use():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    torch.nn.utils.parametrizations.weight_norm(model[0])
    groups = channel_groups(model, torch.randn(1, 4))
    smaller = prune(model, plan_from_counts(model, groups, {"0": 3}, l1_importance(model)))
    kept = dict(plan_from_counts(model, groups, {"0": 3}).keep)["0"]
    torch.testing.assert_close(smaller[0].weight, model[0].weight[list(kept)])
