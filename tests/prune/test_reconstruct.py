"""Reconstruction: what the layers behind a cut read is rebuilt from what stays.

The independent oracle is the dense network itself: where the channels that leave are linear combinations of those that
stay, nothing may change.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from codesign.errors import DataError, ModelError
from codesign.prune import ChannelGroups, channel_groups, choose_channels, plan_from_counts, prune, reconstruct
from codesign.testing import cuts, prunable_networks
from codesign.testing.prune import Block
from tests.prune import networks
from tests.prune.cutting import scramble, share
from tests.prune.pieces import ConvTransposeUNet, Generator, Tokens, TorchTransformer, Windows

SETTINGS = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def far(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the spread of what was expected."""
    return float((found - expected).abs().max() / expected.std())


def combined(network, groups, plan, seed):
    """The same network with every cut channel of a block a linear combination of channels that stay; None where it
    cannot be, since no kept unit runs through the same blocks.

    Units are alike when they have as many channels in every block; the i-th channels of alike units are combined.
    """
    network = copy.deepcopy(network)
    blocks = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Block) and f"{name}.convolution" in groups.layers
    }
    classes = {name: groups.classes_of(f"{name}.convolution") for name in blocks}
    kind = {
        unit: tuple(int((own == unit).sum()) for own in classes.values())
        for unit in np.unique(np.concatenate(list(classes.values()))).tolist()
    }
    generator = torch.Generator().manual_seed(seed)
    coefficients = {}
    for unit in plan.removed:
        alike = [other for other in kind if kind[other] == kind[unit] and other not in plan.removed]
        alike = [other for other in alike if other != groups.classes.fixed]
        if not alike:
            return None
        coefficients[unit] = {other: float(torch.randn(1, generator=generator)) for other in alike}

    def combine(own, _module, _inputs, y):
        y = y.clone()
        for unit, parts in coefficients.items():
            if (own == unit).any():
                y[:, own == unit] = sum(c * y[:, own == other] for other, c in parts.items())
        return y

    for name, module in blocks.items():
        module.register_forward_hook(partial(combine, classes[name]))
    return network


@SETTINGS
@given(st.data())
def test_linear_combinations_of_what_stays_are_rebuilt(data):
    network = data.draw(prunable_networks())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 3, 4, 4, generator=generator).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    groups = channel_groups(network, x[:1])
    plan = data.draw(cuts(groups))
    dense = combined(network, groups, plan, data.draw(st.integers(0, 9)))
    assume(plan.removed and dense is not None)
    smaller = prune(network, plan)
    found = reconstruct(dense, smaller, plan, [x])
    assume(not found.dropped)
    with torch.no_grad():
        assert far(smaller(x), dense(x)) < 1e-5


def twins(model: nn.Module, groups: ChannelGroups) -> dict[str, int]:
    """Give every second unit of a group the parameters of the one before it, as inputs and as outputs. Returns the counts
    without the copies; groups of which a norm takes a mean are left as they are."""
    counts = {}
    with torch.no_grad():
        for group in groups.groups:
            if not group.units or group.approximate:
                continue
            units = np.unique(np.concatenate([groups.classes_of(layer) for layer in group.layers]))
            units = units[units != groups.classes.fixed].tolist()
            for one, other in zip(units[::2], units[1::2], strict=False):
                for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                    for d, atoms in enumerate(groups.stored[name].atoms):
                        classes = groups.classes.of[atoms]
                        here, there = (torch.from_numpy(np.flatnonzero(classes == unit)) for unit in (one, other))
                        if len(here) == len(there) > 0:
                            tensor.index_copy_(d, there, tensor.index_select(d, here))
            for layer, size in zip(group.layers, group.unit_channels, strict=True):
                counts[layer] = groups.width(layer) - len(units) // 2 * size
    return counts


def depthwise() -> nn.Module:
    blocks = (networks.Inverted(8, 12, 2, 4), networks.Inverted(12, 12, 1, 4))
    return nn.Sequential(networks.conv_norm(3, 8, 3), nn.ReLU6(), *blocks, nn.Flatten(), nn.Linear(12 * 64, 5))


VGG = (8, 8, "M", 16, 16, "M", 32, 32, "M")
CASES = {
    "vgg": (partial(networks.vgg, VGG), 8),
    "residual": (partial(networks.ResNet, networks.Basic, (2, 2), width=8, classes=10), 32),
    "bottleneck": (partial(networks.ResNet, networks.Bottleneck, (2, 2), width=4, classes=10), 32),
    "grouped": (partial(networks.ResNet, networks.ResNeXtBlock, (2, 2), width=8, classes=10), 32),
    "depthwise": (depthwise, 16),
    "concatenation": (partial(networks.densenet, depths=(3, 3), growth=8, classes=10), 32),
    "vit": (partial(networks.ViT, image=32, patch=8, width=48, depth=2, heads=4, classes=10), 32),
    "torch transformer": (TorchTransformer, 32),
    "u-net": (ConvTransposeUNet, 16),
    "windows": (Windows, 32),
    "generator": (Generator, 32),
}


@pytest.mark.parametrize("name", CASES)
def test_copies_are_found_and_rebuilt_in_every_structure(name):
    """Residual sums, concatenation, grouped, depthwise and transposed convolutions, attention heads, MLPs, norms."""
    make, size = CASES[name]
    model = scramble(make()).double()
    x = torch.randn(96, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    groups = channel_groups(model, x[:1])
    counts = twins(model, groups)
    choice = choose_channels(model, groups, x.split(48))
    plan = choice.plan(counts)
    smaller = prune(model, plan)
    found = reconstruct(model, smaller, plan, x.split(48))
    assert not found.dropped
    with torch.no_grad():
        assert far(smaller(x[:8]), model(x[:8])) < 1e-5, str(found)


def test_copies_in_a_language_model_with_grouped_queries():
    model, words = scramble(Tokens()).double(), torch.randint(0, 50, (64, 16))
    groups = channel_groups(model, words[:1])
    counts = twins(model, groups)
    plan = choose_channels(model, groups, [words]).plan(counts)
    smaller = prune(model, plan)
    assert not reconstruct(model, smaller, plan, [words]).dropped
    with torch.no_grad():
        assert far(smaller(words[:8]), model(words[:8])) < 1e-5


class Unpadded(nn.Module):
    """Channels that fire a constant and nothing else, before a convolution without padding and a linear layer."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, bias=bias), nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 16, 4)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.two(F.relu(self.one(x))))).flatten(1))


@pytest.mark.parametrize("bias", [True, False], ids=["into the bias", "into the batch norm"])
def test_constants_are_made_up_for_where_nothing_is_padded(bias):
    model = scramble(Unpadded(bias)).double()
    with torch.no_grad():
        model.one.weight[[2, 5]] = 0
        model.one.bias[[2, 5]] = torch.tensor([1.5, 0.7]).double()
        model.norm.weight[3], model.norm.bias[3] = 0, 0.9
    x = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    plan = choose_channels(model, channel_groups(model, x[:1]), [x]).plan({"one": 6, "two": 5})
    assert dict(plan.keep) == {"one": (0, 1, 3, 4, 6, 7), "two": (0, 1, 2, 4, 5)}
    with torch.no_grad():
        assert far(prune(model, plan, reconstruct=[x])(x), model(x)) < 1e-5


def test_zeros_of_a_padded_border_stay_zero():
    """A constant that a padded convolution reads is no constant at the border, so the bias does not take it."""
    model = scramble(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)))
    x = torch.randn(40, 3, 8, 8)
    plan = plan_from_counts(model, channel_groups(model, x[:1]), {"0": 5})
    assert torch.equal(prune(model, plan, reconstruct=[x])[2].bias, model[2].bias)


def test_the_choice_is_the_one_by_definition():
    """Against the definition, step by step: the largest trace of (R G R) / R, summed over readers."""
    model = scramble(networks.resnet18(width=4, classes=5)).double()
    x = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    groups = channel_groups(model, x[:1])
    read: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _m, inputs, name=name: read.__setitem__(name, inputs[0]))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    choice = choose_channels(model, groups, x.split(8))
    group = next(g for g in choice.ranked if "stem.0" in g.layers)
    assert group.readers == ("blocks.0.one.0", "blocks.1.one.0", "blocks.2.one.0", "blocks.2.shortcut.0")
    parts = []
    for name in group.readers:
        rows = read[name].movedim(1, -1).flatten(0, -2)
        if name == "blocks.2.shortcut.0":  # 1x1 without padding, so a mean can be made up for
            rows = rows - rows.mean(0)
        columns = model.get_submodule(name).weight.detach().movedim(1, -1).flatten(0, -2)
        c, g = (rows.T @ rows / len(rows)).numpy(), (columns.T @ columns).numpy()
        parts.append((c, g / np.trace(g @ c)))
    left = [c for c, _ in parts]
    for step in range(4):
        assert group.errors[step] == pytest.approx(
            sum(np.trace(g @ r) for (_, g), r in zip(parts, left, strict=True)), abs=1e-5
        )
        gains = sum(np.diag(r @ g @ r) / np.maximum(np.diag(r), 1e-9) for (_, g), r in zip(parts, left, strict=True))
        chosen = int(np.argmax(gains))
        assert group.order[step] == groups.classes_of("stem.0")[chosen]
        left = [r - np.outer(r[:, chosen], r[chosen]) / r[chosen, chosen] for r in left]
    assert group.errors[0] == pytest.approx(4, rel=1e-4)


def test_what_cannot_be_rebuilt_is_named():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.again, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

        def forward(self, x):
            x = F.relu(self.again(F.relu(self.again(F.relu(self.one(x))))))
            return self.head(x.mean((2, 3)))

    model, x = scramble(Twice()), torch.randn(16, 3, 6, 6)
    groups = channel_groups(model, x[:1])
    choice = choose_channels(model, groups, [x])
    assert "also read by 'again' (convolution) runs more than once" in choice.notes[0]
    plan = choice.plan({"one": 5})
    found = reconstruct(model, prune(model, plan), plan, [x])
    assert [layer.layer for layer in found.layers] == ["head"]
    assert "'again' (convolution) runs more than once" in found.dropped[0]
    with pytest.warns(UserWarning, match="'again'"):
        prune(model, plan, reconstruct=[x])


def test_channels_that_no_weight_reads_are_chosen_by_norm_and_it_says_so():
    class Dot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(6, 8), nn.Linear(6, 8)

        def forward(self, x):
            return self.query(x) @ self.key(x).mT

    model, x = scramble(Dot()), torch.randn(16, 5, 6)
    choice = choose_channels(model, channel_groups(model, x[:1]), [x])
    assert "no layer with a weight of its own reads them; chosen by L1 norm" in choice.notes[0]
    assert np.isnan(choice.ranked[0].errors).all()
    assert prune(model, choice.plan({"query": 5})).key.out_features == 5


def test_batches_and_modes_do_not_matter():
    model = scramble(networks.vgg(width=0.0625)).train()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(48, 3, 32, 32)
    groups = channel_groups(model, x[:1])
    plans = [choose_channels(model, groups, batches).plan(share(groups, 0.6)) for batches in ([x], x.split(7))]
    assert plans[0].keep == plans[1].keep
    cut = [prune(model, plans[0], reconstruct=batches) for batches in ([x], x.split(6))]
    torch.testing.assert_close(cut[0].state_dict(), cut[1].state_dict(), rtol=1e-3, atol=1e-4)
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_in_place_the_optimizer_goes_on_and_a_failure_changes_nothing():
    model = scramble(networks.vgg(width=0.0625))
    x = torch.randn(16, 3, 32, 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    model(x).mean().backward()
    optimizer.step()
    groups = channel_groups(model, x[:1])
    plan = plan_from_counts(model, groups, share(groups, 0.6))
    apart = prune(model, plan, reconstruct=[x])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DataError, match="inf or nan"):
        prune(model, plan, optimizer, inplace=True, reconstruct=[torch.full_like(x, float("nan"))])
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    prune(model, plan, optimizer, inplace=True, reconstruct=[x])
    torch.testing.assert_close(model.state_dict(), apart.state_dict(), rtol=0, atol=0)
    model(x).sum().backward()
    optimizer.step()


def test_too_little_is_an_error():
    model = scramble(networks.vgg(width=0.0625))
    x = torch.randn(2, 3, 32, 32)
    groups = channel_groups(model, x[:1])
    plan = plan_from_counts(model, groups, share(groups, 0.6))
    with pytest.raises(DataError, match="batches is empty"):
        prune(model, plan, reconstruct=[])
    with pytest.raises(DataError, match="batches is empty"):
        choose_channels(model, groups, [])
    with pytest.raises(DataError, match="one image is too few"):
        prune(model, plan, reconstruct=[x[:1]])
    with pytest.raises(ModelError, match="leave fold_constants out"):
        prune(model, plan, reconstruct=[x], fold_constants=True)
