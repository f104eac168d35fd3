"""Tracing: what is tied, what follows, what is refused. Expected counts are worked out by hand."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from codesign import Workload
from codesign.errors import ModelError
from codesign.network import ReadingMode, read
from codesign.prune import channel_groups
from codesign.workload import Convolution, Matmul, VectorKind, VectorOp


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x):
        return torch.relu(x + self.depthwise(self.conv(x)))


def tied_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), Tied(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 5))


def tied() -> Workload:
    return Workload.from_torch(tied_network(), torch.zeros(1, 3, 8, 8))


def test_a_residual_sum_and_a_depthwise_convolution_tie_their_channels():
    workload = tied()
    group = workload.channel_groups["0"]
    assert group.layers == ("0", "1.conv", "1.depthwise")
    readers = [layer.name for layer in workload.weight_layers.values() if "0" in layer.reads]
    assert readers == ["1.conv", "1.depthwise", "4"]
    assert (group.channels, group.units, group.unit_channels) == (8, 8, (1, 1, 1))


def test_consumers_norms_and_the_classifier_follow_a_cut():
    smaller = tied().with_channels({"0": 3})
    layers = smaller.weight_layers
    assert (layers["1.conv"].in_channels, layers["1.conv"].out_channels) == (3, 3)
    assert layers["1.depthwise"].groups == 3
    assert layers["4"].in_features == 3 * 16  # 4 x 4 maps after the pool
    # 3 x 3 + 3, 3 x 3 x 9 + 3, 3 x 9 + 3, 48 x 5 + 5
    assert smaller.parameters == 12 + 84 + 30 + 245


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"0": 3, "1.conv": 4}, "layers '0' and '1.conv' share their output channels; 3 and 4 kept contradict"),
        ({"0": 0}, "layer '0': 0 output channels; a layer cannot lose all its channels"),
        ({"0": 9}, "layer '0': 9 output channels asked for, it has 8"),
        ({"4": 3}, "layer '4': its 5 output channels are fixed: they are an output of the network"),
        ({"1.con": 3}, "no weight layer '1.con'; did you mean '1.conv'"),
    ],
)
def test_an_impossible_cut_is_refused(channels, message):
    with pytest.raises(ModelError, match=message):
        tied().with_channels(channels)


def test_the_readers_of_a_forked_tensor_are_counted():
    forks = [x for x in tied().layers if isinstance(x, VectorOp) and x.kind is VectorKind.FORK]
    assert [(fork.name, fork.readers, fork.owner) for fork in forks] == [("0.fork", 2, "0")]


class Odd(nn.Module):
    """Grouped, dilated, strided, transposed; concatenated; a norm per group; a gate; a product of activations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=2, dilation=2)
        self.norm = nn.GroupNorm(2, 8)
        self.grouped = nn.Conv2d(8, 12, 3, padding="same", groups=4)
        self.up = nn.ConvTranspose2d(20, 6, 4, stride=2, padding=1)
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        x = nn.functional.silu(self.norm(self.stem(x)))
        x = self.up(torch.cat([x, self.grouped(x)], dim=1)) * self.scale
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return self.out(x.mean(dim=1))


def test_odd_layers_have_the_parameters_and_products_that_torch_counts():
    model, example = Odd(), torch.zeros(2, 3, 16, 16)
    workload = Workload.from_torch(model, example)
    assert workload.batch == 2
    assert workload.parameters == sum(parameter.numel() for parameter in model.parameters())
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # of fused attention the counter sees nothing
        model(example)
    assert 4 * workload.macs == counter.get_total_flops()
    up = workload.weight_layers["up"]
    assert isinstance(up, Convolution)
    assert up.transposed and up.out_size == (16, 16)
    assert [group for group, _ in up.inputs.terms] == ["stem", "grouped"]
    assert sum(isinstance(layer, Matmul) for layer in workload.layers) == 2


def test_heads_leave_as_a_whole_and_the_group_beside_them_channel_by_channel():
    layer = nn.Sequential(nn.Linear(9, 16), nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Linear(16, 2))
    workload = Workload.from_torch(layer, torch.zeros(2, 5, 9))
    hidden = workload.weight_layers["1.linear1"]
    assert not workload.channel_groups[hidden.out_group].why_fixed
    assert workload.with_channels({"1.linear1": 7}).weight_layers["1.linear2"].in_channels == 7
    heads = workload.channel_groups["1.self_attn.in_proj"]
    assert (heads.units, heads.unit_channels, heads.channels) == (4, (12,), 48)
    smaller = workload.with_channels({"1.self_attn.in_proj": 36})
    assert smaller.weight_layers["1.self_attn.out_proj"].in_channels == 12
    scores = next(x for x in smaller.layers if isinstance(x, Matmul))
    assert (scores.count, scores.m, scores.n, scores.k) == (3, 5, 5, 4)
    with pytest.raises(ModelError, match=r"'1.self_attn.in_proj': channels leave 12 at a time, so it cannot keep 40"):
        workload.with_channels({"1.self_attn.in_proj": 40})


class Halves(nn.Module):
    """A split into halves, which are concatenated again; then a convolution in groups."""

    def __init__(self):
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1)
        self.grouped, self.head = nn.Conv2d(12, 8, 1, groups=2), nn.Linear(8, 2)

    def forward(self, x):
        left, right = self.stem(x).chunk(2, 1)
        x = torch.cat([self.left(left), self.right(right)], 1)
        return self.head(self.grouped(x).mean((2, 3)))


def test_a_workload_and_a_plan_know_the_same_groups():
    model, example = Halves(), torch.zeros(1, 3, 4, 4)
    workload, groups = Workload.from_torch(model, example), channel_groups(model, example)
    assert groups.groups == tuple(group for group in workload.groups if group.layers)
    units = {group.layers: (group.units, group.unit_channels) for group in groups.groups}
    assert units == {
        ("stem",): (4, (2,)),
        ("left", "right"): (6, (1, 1)),
        ("grouped",): (4, (2,)),
        ("head",): (0, (1,)),
    }


class TrainingHead(nn.Module):
    """A head and a dropout that only training uses, and a draw that may skip a layer."""

    def __init__(self):
        super().__init__()
        self.body, self.skipped, self.drop = nn.Linear(4, 8), nn.Linear(8, 8), nn.Dropout()
        self.head, self.auxiliary, self.norm = nn.Linear(8, 2), nn.Linear(8, 2), nn.BatchNorm1d(8)

    def forward(self, x):
        x = self.drop(self.norm(self.body(x)))
        if torch.rand(()) > 0.9:
            x = x + self.skipped(x)
        return (self.head(x), self.auxiliary(x)) if self.training else self.head(x)


def test_a_network_is_read_as_in_training_and_stays_what_it_is():
    model = TrainingHead().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chance = torch.get_rng_state()
    reading = read(model, torch.zeros(1, 4))
    assert (reading.mode, reading.why, reading.unreached) == (ReadingMode.TRAINING, "", ())
    assert {"skipped", "auxiliary"} <= Workload.from_torch(model, torch.zeros(1, 4)).weight_layers.keys()
    assert torch.equal(torch.get_rng_state(), chance)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class FailsInTraining(nn.Linear):
    def forward(self, x):
        if self.training:
            raise ValueError("no labels")
        return super().forward(x)


def test_a_network_that_fails_in_training_is_read_in_evaluation_and_the_reading_says_so():
    reading = read(FailsInTraining(4, 2), torch.zeros(1, 4))
    assert reading.mode is ReadingMode.EVALUATION
    assert "no labels" in reading.why


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cumsum(self.inner(x), dim=1)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.used(x)


class Language(nn.Module):
    """A table that is also the output matrix, and a layer that is applied twice."""

    def __init__(self):
        super().__init__()
        self.table, self.twice = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 20)
        self.head.weight = self.table.weight

    def forward(self, index):
        x = self.table(index)
        return self.head(self.twice(torch.relu(self.twice(x))))


def test_shared_weights_are_counted_once_and_tie_the_channels_that_they_connect():
    model = Language()
    workload = Workload.from_torch(model, torch.zeros(2, 5, dtype=torch.long))
    assert workload.parameters == sum(p.numel() for p in model.parameters()) == 20 * 8 + 8 * 8 + 8 + 20
    layers = workload.weight_layers
    assert [layer.shares for layer in layers.values()] == ["", "twice", "table"]
    assert workload.channel_groups["table"].producers == ("table", "twice", "twice_2")
    smaller = workload.with_channels({"twice": 6})
    assert smaller.parameters == 20 * 6 + 6 * 6 + 6 + 20


def test_an_operation_that_is_not_understood_names_its_module():
    with pytest.raises(
        ModelError, match=r"operation 'cumsum' of module 'the network itself': what it costs is not understood; write"
    ):
        Workload.from_torch(Unknown(), torch.zeros(2, 4))


def test_parameters_that_are_not_accounted_for_are_refused():
    with pytest.raises(ModelError, match=r"parameter 'unused.weight' took no part when the network ran on the example"):
        Workload.from_torch(Unused(), torch.zeros(2, 4))


def test_a_network_that_fails_on_its_example_says_where():
    with pytest.raises(ModelError, match=r"module 'the network itself' fails on the example input"):
        Workload.from_torch(nn.Linear(4, 4), torch.zeros(2, 5))


def test_tracing_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    model[1].eval()
    before = [module.training for module in model.modules()]
    Workload.from_torch(model, torch.zeros(1, 3, 1, 1))
    assert [module.training for module in model.modules()] == before
    assert int(model[1].num_batches_tracked) == 0
