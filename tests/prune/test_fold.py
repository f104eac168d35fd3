"""Channels that fire a constant: its contribution moves into the layers that read it.

Independent oracle: the dense network with the filters (and biases of the convolutions) of the cut channels at zero, batch
norm and activation still running.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign.errors import ModelError
from codesign.prune import channel_groups, plan_from_counts, prune
from tests.prune.cutting import scramble


def silenced(model, plan):
    model = copy.deepcopy(model)
    for name, kept in plan.keep:
        module = model.get_submodule(name)
        gone = [
            i
            for i in range(module.out_features if isinstance(module, nn.Linear) else module.out_channels)
            if i not in kept
        ]
        with torch.no_grad():
            if isinstance(module, nn.ConvTranspose2d):
                module.weight[:, gone] = 0
            else:
                module.weight[gone] = 0
            if module.bias is not None:
                module.bias[gone] = 0
    return model


class Unpadded(nn.Module):
    """Constants reach plain, grouped and pointwise convolutions and linear layers, through pooling and concatenation."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.one, self.norm1 = nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8)
        self.two, self.norm2 = nn.Conv2d(8, 12, 3, bias=bias), nn.BatchNorm2d(12)
        self.side, self.norm3 = nn.Conv2d(8, 6, 1, bias=bias), nn.BatchNorm2d(6)
        self.both, self.normed = nn.Conv2d(18, 10, 1, bias=bias), nn.BatchNorm2d(10)
        self.up, self.norm4 = nn.ConvTranspose2d(10, 8, 2, 2, bias=bias), nn.BatchNorm2d(8)
        self.grouped, self.norm5 = nn.Conv2d(8, 8, 2, groups=2, bias=bias), nn.BatchNorm2d(8)
        self.hidden, self.head = nn.Linear(8 * 16, 10), nn.Linear(10, 3)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.norm1(self.one(x))), 2)
        x = torch.cat([F.silu(self.norm2(self.two(x))), F.relu(self.norm3(self.side(x)))[:, :, 1:-1, 1:-1]], 1)
        x = F.relu(self.norm4(self.up(self.normed(self.both(x)))))
        x = F.max_pool2d(F.gelu(self.norm5(self.grouped(x))), 3, 2)
        return self.head(torch.sigmoid(self.hidden(x.flatten(1))))


COUNTS = {"one": 5, "two": 7, "side": 4, "up": 6, "grouped": 4, "hidden": 6}


@pytest.mark.parametrize("bias", [True, False], ids=["into the bias", "into the batch norm"])
def test_with_constants_folded_the_answer_is_that_of_silenced_filters(bias):
    model = scramble(Unpadded(bias))
    x = torch.randn(4, 3, 16, 16)
    groups = channel_groups(model, x[:1])
    plan = plan_from_counts(model, groups, COUNTS)
    expected = silenced(model, plan)(x)
    folded, unfolded = prune(model, plan, fold_constants=True)(x), prune(model, plan)(x)
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-5)
    assert (unfolded - expected).abs().max() > 1e-2


def test_away_from_a_zero_padded_border_the_fold_is_exact():
    model = scramble(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    )
    x = torch.randn(2, 3, 12, 12)
    plan = plan_from_counts(model, channel_groups(model, x), {"0": 5})
    expected, got = silenced(model, plan)(x), prune(model, plan, fold_constants=True)(x)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(got[inside], expected[inside], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_a_transposed_convolution_takes_the_mean_of_what_it_makes_of_a_constant():
    model = scramble(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2)))
    x = torch.randn(2, 3, 6, 6)
    plan = plan_from_counts(model, channel_groups(model, x), {"0": 5})
    expected, got = silenced(model, plan)(x), prune(model, plan, fold_constants=True)(x)
    torch.testing.assert_close(got.mean((0, 2, 3)), expected.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_in_training_mode_a_batch_norm_takes_constants_out_by_itself():
    """So a fold into the running mean leaves the training as it is."""
    model = scramble(Unpadded(False)).train()
    x = torch.randn(4, 3, 16, 16)
    plan = plan_from_counts(model, channel_groups(model, x[:1]), {"one": 5})
    torch.testing.assert_close(
        prune(model, plan, fold_constants=True)(x), silenced(model, plan).train()(x), rtol=1e-4, atol=1e-4
    )


def test_nowhere_to_put_the_constant_is_an_error_and_nothing_has_changed():
    model = scramble(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False), nn.ReLU()))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = plan_from_counts(model, channel_groups(model, torch.randn(1, 3, 4, 4)), {"0": 5})
    with pytest.raises(ModelError, match="layer '2' has no bias and no batch norm behind it"):
        prune(model, plan, inplace=True, fold_constants=True)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
