"""Gradients of converted layers against torch's own differentiation of the straight-through estimator, and what is kept
between steps against what the buffers say."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from codesign import FloatFormat
from codesign.nn.lowp import convert
from codesign.nn.policy import Policy, Rounder, Scaling
from codesign.prune import channel_groups, l1_importance, plan_from_counts, prune
from codesign.quantize import absmax_scale, allocate, round_to_format
from tests.nn.short_training import small, train

E5M2 = FloatFormat.parse("e5m2")
CLIPPING = Policy(
    weight=Rounder(FloatFormat.parse("e2m1"), 0, scaling=Scaling.EMPIRICAL, every=5),
    activation=Rounder(FloatFormat.parse("e0m3"), scaling=Scaling.FIXED, scale=0.15),  # clips at 1.05
    error=Rounder(E5M2),
    gradient=Rounder(E5M2, 0),
)


def estimator(x, rounded, clip):
    """`rounded`, with the slope of x where x is not clipped and with none where it is."""
    passed = torch.where(x.abs() <= clip, x, x.detach())
    return rounded + (passed - passed.detach())


def by_absmax(x, axis=None):
    return round_to_format(x, E5M2, scale=absmax_scale(x, E5M2, axis=axis), axis=axis)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (4, 3, 9, 9)),
        (nn.Conv2d(4, 8, 3, groups=2, dilation=2, bias=False), (4, 4, 9, 9)),
        (nn.Conv2d(3, 8, 2, padding="same", padding_mode="circular"), (4, 3, 7, 6)),
        (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
        (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1), (2, 4, 5, 5)),
        (nn.Conv2d(3, 8, 3), (3, 9, 9)),
        (nn.Linear(40, 7), (5, 40)),
        (nn.Linear(40, 7, bias=False), (2, 3, 40)),
    ],
)
def test_gradients_are_those_of_the_estimator(layer, shape, layout):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer)
    x = torch.randn(shape)
    if len(shape) == 4:
        x, layer = x.to(memory_format=layout), layer.to(memory_format=layout)
    x.requires_grad_()
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    plain, network = copy.deepcopy(layer), nn.Sequential(layer)
    convert(network, CLIPPING)
    y = network(x)
    up = torch.randn_like(y)
    y.backward(up)

    found = allocate(plain.weight, 4, axis, clips=16, assumed=False)
    weight, own = plain.weight, x.detach().clone().requires_grad_()
    clip = torch.from_numpy(found.clip).reshape([-1 if d == axis else 1 for d in range(weight.ndim)])
    assert 0 < (weight.abs() > clip).sum() < weight.numel() / 4
    w = estimator(weight, found.round(weight.detach()), clip)
    a = estimator(own, round_to_format(own.detach(), "e0m3", scale=0.15), 1.05)
    expected = torch.func.functional_call(plain, {"weight": w}, (a,))
    expected.backward(by_absmax(up))
    assert torch.equal(y, expected)
    assert torch.equal(x.grad, own.grad)
    assert torch.allclose(
        layer.weight.grad, by_absmax(weight.grad, axis), rtol=0.3, atol=0
    )  # sums in another order may
    assert (layer.weight.grad == by_absmax(weight.grad, axis)).float().mean() > 0.98  # be rounded to a neighbour
    assert layer.bias is None or torch.allclose(layer.bias.grad, plain.bias.grad)


def test_a_frozen_layer_has_gradients_of_its_input_only():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    convert(network, CLIPPING)
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    network(x).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in network.parameters())


def test_autocast_multiplies_rounded_operands_in_its_own_format():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 8, 3), torch.randn(2, 3, 6, 6, requires_grad=True)
    found = allocate(layer.weight, 4, clips=16, assumed=False)
    w, a = found.round(layer.weight.detach()), round_to_format(x.detach(), "e0m3", scale=0.15)
    network = nn.Sequential(layer)
    convert(network, CLIPPING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x)
        expected = functional.conv2d(a, w, layer.bias)
    assert y.dtype == torch.bfloat16 and torch.equal(y, expected)
    y.backward(torch.ones_like(y))
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
    assert (x.grad[x.detach().abs() > 1.05] == 0).all() and x.grad.abs().sum() > 0


def weight_as_used(layer):
    """What the rule makes of the weights in evaluation mode."""
    layer.eval()
    used = layer.rounders.weight(layer.weight.detach(), layer.memories[0])
    layer.train()
    return used


def weight_by_buffers(layer):
    formats = [FloatFormat.of(e, 3 - e, reserved="all") for e in layer.lowp_weight_exponent_bits.tolist()]
    return round_to_format(layer.weight.detach(), formats, scale=layer.lowp_weight_scale, axis=0)


def test_what_is_kept_follows_the_buffers(tmp_path):
    network = small()
    convert(network, CLIPPING)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    train(network, optimizer, 0, 3)
    layer = network[0]
    before = weight_as_used(layer)
    assert torch.equal(before, weight_by_buffers(layer))

    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied[0].lowp_weight_scale.mul_(2)
    assert torch.equal(weight_as_used(copied[0]), weight_by_buffers(copied[0]))
    assert torch.equal(weight_as_used(layer), before) and not torch.equal(weight_as_used(copied[0]), before)
    network.load_state_dict(copied.state_dict())
    assert torch.equal(weight_as_used(layer), weight_as_used(copied[0]))


def test_a_training_with_a_cut_goes_on_from_a_checkpoint_to_the_bit(tmp_path):
    def cut(network, optimizer=None):
        groups = channel_groups(network, torch.randn(1, 3, 4, 4))
        plan = plan_from_counts(network, groups, {"0": 5}, l1_importance(network))
        return prune(network, plan, optimizer, inplace=True)

    network = small()
    convert(network, CLIPPING)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    train(network, optimizer, 0, 3)
    network = cut(network, optimizer)
    assert torch.equal(weight_as_used(network[0]), weight_by_buffers(network[0]))
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "cut.pt")
    train(network, optimizer, 3, 8)  # allocated anew at step 5

    again = small()
    convert(again, CLIPPING)
    again = cut(again)
    saved = torch.load(tmp_path / "cut.pt")
    again.load_state_dict(saved["network"])
    other = torch.optim.SGD(again.parameters(), 0.05, momentum=0.9)
    other.load_state_dict(saved["optimizer"])
    train(again, other, 3, 8)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
