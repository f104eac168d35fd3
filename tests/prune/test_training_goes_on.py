"""The cut in the middle of training: optimizer, gradients, shared and frozen tensors, state per channel."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign.errors import ModelError
from codesign.prune import channel_groups, plan_from_counts, plan_from_indices, prune
from tests.prune import networks
from tests.prune.cutting import dead, scramble

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def chain() -> nn.Sequential:
    return networks.vgg((8, "M", 12, "M", 16, "M"), classes=4).double()


def step(model, optimizer, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 3, 8, 8, generator=generator, dtype=torch.float64)
    loss = F.cross_entropy(model(x), torch.randint(0, 4, (8,), generator=generator))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_after_the_cut_is_training_of_the_network_with_dead_channels(make):
    """Independent oracle: the dense network whose cut channels are held at zero takes the very same steps."""
    torch.manual_seed(0)
    dense = chain().train()
    groups = channel_groups(dense, torch.randn(1, 3, 8, 8, dtype=torch.float64))
    plan = plan_from_counts(dense, groups, {"0": 5, "4": 7, "8": 9})
    optimizer = make(dense.parameters())
    for seed in range(3):
        step(dense, optimizer, seed)
    gone = groups.gone(plan.removed)
    masked = dead(dense, plan)
    its = make(masked.parameters())
    its.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    def hold() -> None:
        for name, parameter in masked.named_parameters():
            for d, atoms in enumerate(groups.stored[name].atoms):
                at = torch.from_numpy(np.flatnonzero(gone[atoms]))
                for tensor in [parameter.data, *(v for v in its.state[parameter].values() if v.ndim)]:
                    tensor.index_fill_(d, at, 0.0)

    hold()
    before = list(dense.parameters())
    prune(dense, plan, optimizer, inplace=True)
    assert all(one is other for one, other in zip(before, dense.parameters(), strict=True))
    for seed in range(3, 7):
        ours, theirs = step(dense, optimizer, seed), step(masked, its, seed)
        hold()
        torch.testing.assert_close(ours, theirs)
    for name, parameter in dense.named_parameters():
        kept = masked.get_parameter(name)
        for d, atoms in enumerate(groups.stored[name].atoms):
            kept = kept.index_select(d, torch.from_numpy(np.flatnonzero(~gone[atoms])))
        torch.testing.assert_close(parameter, kept)


def test_a_loss_that_is_still_held_does_not_disturb_the_next_backward_pass():
    model = chain()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    loss = step(model, optimizer, 0)
    plan = plan_from_counts(model, channel_groups(model, torch.randn(1, 3, 8, 8, dtype=torch.float64)), {"0": 5})
    prune(model, plan, optimizer, inplace=True)
    assert model[0].weight.grad.shape == model[0].weight.shape
    step(model, optimizer, 1)
    assert loss.isfinite()


def test_an_optimizer_goes_with_the_network_it_was_made_for():
    model = chain()
    plan = plan_from_counts(model, channel_groups(model, torch.randn(1, 3, 8, 8, dtype=torch.float64)), {"0": 5})
    with pytest.raises(ModelError, match="pass inplace=True"):
        prune(model, plan, OPTIMIZERS["adam"](model.parameters()))
    with pytest.raises(ModelError, match="the optimizer holds no parameter of this network"):
        prune(model, plan, OPTIMIZERS["adam"](chain().parameters()), inplace=True)


def test_state_that_has_not_the_shape_of_its_parameter_is_an_error_and_nothing_has_changed():
    model = chain()
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.01)
    step(model, optimizer, 0)
    plan = plan_from_counts(model, channel_groups(model, torch.randn(1, 3, 8, 8, dtype=torch.float64)), {"0": 5})
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    with pytest.raises(ModelError, match=r"optimizer state 'row_var' of parameter '0\.weight' is of shape"):
        prune(model, plan, optimizer, inplace=True)
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), before)
    step(model, optimizer, 1)


def test_frozen_layers_are_cut_and_stay_frozen():
    model = chain()
    model[0].requires_grad_(False)
    plan = plan_from_counts(model, channel_groups(model, torch.randn(1, 3, 8, 8, dtype=torch.float64)), {"0": 5})
    smaller = prune(model, plan)
    assert smaller[0].weight.shape == (5, 3, 3, 3)
    assert not smaller[0].weight.requires_grad
    assert smaller[4].weight.requires_grad


class Tied(nn.Module):
    """Two layers share one weight; a third is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.relu(self.two(torch.relu(self.one(torch.relu(self.into(x)))))))


def test_tied_weights_are_cut_once_and_stay_tied(tmp_path):
    model = scramble(Tied())
    x = torch.randn(5, 4)
    groups = channel_groups(model, x)
    assert [group.layers for group in groups.groups] == [("into", "one"), ("out",)]
    plan = plan_from_indices(groups, {"one": [0, 2, 3, 7]})
    smaller = prune(model, plan)
    assert smaller.two.weight is smaller.one.weight
    assert smaller.two.out_features == smaller.one.in_features == 4
    torch.testing.assert_close(smaller(x), dead(model, plan)(x))


class Quantized(nn.Conv2d):
    """A convolution with state per channel: reached by the pass or not, tensors or not."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__(into, out, 3, padding=1)
        self.prune_axes = {"formats": ("out",), "history": ("in", None), "spans": ("out",)}
        self.register_buffer("scale", torch.arange(1.0, out + 1).reshape(-1, 1, 1))
        self.register_buffer("peaks", torch.arange(float(out)))
        self.register_buffer("history", torch.arange(float(into))[:, None].repeat(1, 2))
        self.formats = [f"e{i}" for i in range(out)]
        self.spans = np.arange(out)

    def forward(self, x):
        return super().forward(x) * self.scale


def test_state_per_channel_follows_the_channels():
    model = nn.Sequential(Quantized(3, 6), nn.ReLU(), Quantized(6, 8), nn.Flatten(), nn.Linear(8 * 16, 2))
    groups = channel_groups(model, torch.randn(1, 3, 4, 4))
    smaller = prune(model, plan_from_indices(groups, {"0": [1, 2, 5], "2": [0, 7]}))
    first, second = smaller[0], smaller[2]
    assert first.scale.flatten().tolist() == [2, 3, 6]  # reached by the pass
    assert first.peaks.tolist() == [1, 2, 5]  # not reached: one value per output channel
    assert first.formats == ["e1", "e2", "e5"]
    assert first.spans.tolist() == [1, 2, 5]
    assert first.history[:, 0].tolist() == [0, 1, 2]  # its inputs are the image
    assert second.history.tolist() == [[1, 1], [2, 2], [5, 5]]
    assert model[0].formats == [f"e{i}" for i in range(6)]
