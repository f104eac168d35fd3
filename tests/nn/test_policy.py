"""Policies: stochastic, remembered and fixed scales, clips in the gradient, accumulators, checkpoints, cuts, autocast."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from codesign import FloatFormat
from codesign.errors import ConfigError, ModelError
from codesign.nn.lowp import Matmul, convert, round_optimizer_state, strip
from codesign.nn.policy import Policy, Rounder, Scaling, _sample
from codesign.prune import channel_groups, l1_importance, plan_from_counts, prune
from codesign.quantize import Rounding, absmax_scale, allocate, matmul, round_to_format
from tests.nn.short_training import small, train

FLOAT = FloatFormat.parse("float32")
E4M3 = FloatFormat.parse("e4m3fn")
ROLES = ("weight", "activation", "error", "gradient")


def only(**rules):
    """A policy that rounds in these roles and nowhere else."""
    return Policy.parse(
        {role: rules.get(role, Rounder(FLOAT)) for role in ROLES} | {k: v for k, v in rules.items() if k not in ROLES}
    )


def layer_and_data(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(6, 4), torch.randn(5, 6, requires_grad=True), torch.randn(5, 4)


def test_a_clip_stops_the_gradient_and_only_there():
    layer, x, up = layer_and_data()
    fixed = Rounder(FloatFormat.parse("e0m3"), scaling=Scaling.FIXED, scale=0.1)  # clips at 0.7
    network = nn.Sequential(layer)
    convert(network, only(activation=fixed))
    network(x).backward(up)
    inside = x.detach().abs() <= torch.tensor(0.1) * 7
    assert 0 < inside.sum() < x.numel()
    assert torch.equal(x.grad, (up @ layer.weight.detach()) * inside)
    held = round_to_format(x.detach(), "e0m3", scale=0.1)
    assert torch.equal(layer.weight.grad, up.T @ held)


def test_a_fixed_scale_of_errors_is_a_scaled_loss():
    layer, x, up = layer_and_data()
    network = nn.Sequential(layer)
    convert(network, only(error=Rounder(E4M3, scaling=Scaling.FIXED, scale=2.0**-10)))
    network(x).backward(up * 1e-3)
    errors = round_to_format(up * 1e-3 * 2.0**10, E4M3) / 2.0**10
    assert torch.equal(x.grad, errors @ layer.weight.detach())


def test_stochastic_rounding_differs_by_step_layer_and_seed_and_nothing_else():
    def run(seed, steps):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
        convert(network, only(weight=Rounder(FloatFormat.parse("e2m1"), 0, Rounding.STOCHASTIC, seed=seed)))
        x = torch.eye(6)
        return [network[0](x) for _ in range(steps)], network[1](x)

    (first, second), _ = run(1, 2)
    (again, _), _ = run(1, 2)
    (other, _), _ = run(2, 2)
    assert torch.equal(first, again) and not torch.equal(first, second) and not torch.equal(first, other)


def test_a_delayed_scale_is_that_of_the_steps_before():
    network = nn.Sequential(nn.Linear(4, 4))
    convert(network, only(activation=Rounder(E4M3, scaling=Scaling.DELAYED, every=2)))
    seen = []
    network[0].register_forward_hook(lambda module, inputs, output: None)
    for largest in (1.0, 100.0, 3.0, 2.0, 1.0):
        x = torch.tensor([[largest, 0.11, -0.3, 0.0]])
        seen.append(
            network[0].rounders.activation.forward(x, network[0].memories[1], network[0]._now()[0])[0][0, 0].item()
        )
    assert seen[0] == 1.0  # nothing before: its own
    assert seen[1] < 2.0  # clipped by what the first step left
    assert seen[2] == 3.0 and seen[3] == 2.0
    assert network[0].lowp_activation_absmax.tolist() == [[1.0, 2.0]]


@pytest.mark.exact_products("the input is the identity: every output is a weight")
def test_allocation_is_that_of_allocate_and_holds_for_some_steps():
    torch.manual_seed(0)
    layer = nn.Linear(64, 8, bias=False)
    network = nn.Sequential(layer)
    convert(network, only(weight=Rounder(FloatFormat.parse("e2m1"), 0, scaling=Scaling.EMPIRICAL, every=3)))
    x = torch.eye(64)
    chosen = allocate(layer.weight, 4, clips=16, assumed=False)
    assert torch.equal(network(x), chosen.round(layer.weight.detach()).T)
    assert layer.lowp_weight_exponent_bits.tolist() == [fmt.exponent_bits for fmt in chosen.formats]
    with torch.no_grad():
        layer.weight.mul_(2)
    network(x)
    network(x)
    assert torch.equal(layer.lowp_weight_scale, torch.from_numpy(chosen.scale))
    network(x)  # the fourth step: estimated anew
    assert torch.equal(layer.lowp_weight_scale, 2 * torch.from_numpy(chosen.scale))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_sample_meets_every_row_column_and_channel(layout):
    places = torch.cartesian_prod(*map(torch.arange, (64, 8, 28, 28))).T.reshape(4, 64, 8, 28, 28).float()
    for dimension, size in enumerate((64, 8, 28, 28)):
        sample = _sample(places[dimension].to(memory_format=layout), None)
        assert 4000 < len(sample) <= 8192
        assert sample.unique(return_counts=True)[1].numpy().tolist() == pytest.approx(
            [len(sample) / size] * size, rel=0.1
        )


@pytest.mark.parametrize("chunk", [1, 4])
def test_an_accumulator_rounds_the_three_products(chunk):
    accumulator = FloatFormat.parse("e5m4")
    layer, x, up = layer_and_data()
    network = nn.Sequential(layer)
    convert(network, only(accumulator="e5m4", chunk=chunk))
    y = network(x)
    y.backward(up)
    w, a = layer.weight.detach(), x.detach()
    assert torch.equal(y, matmul(a, w.T.contiguous(), accumulator, chunk=chunk) + layer.bias)
    assert torch.equal(x.grad, matmul(up, w, accumulator, chunk=chunk))
    assert torch.equal(layer.weight.grad, matmul(a.T.contiguous(), up, accumulator, chunk=chunk).T)


def test_a_convolution_with_a_float32_accumulator_is_the_convolution():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0))
    x = torch.randn(2, 3, 9, 7)
    plain = layer(x)
    network = nn.Sequential(layer)
    convert(network, only(accumulator="float32", chunk=1))
    assert torch.allclose(network(x), plain, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
        (nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 5)),
        (nn.ConvTranspose1d(4, 6, 3), (2, 4, 5)),
    ],
)
def test_other_layers_are_their_plain_selves_on_rounded_operands(layer, shape):
    torch.manual_seed(0)
    fmt = FloatFormat.parse("e3m2")
    x = torch.randn(shape)
    axis = 1 if "Transpose" in type(layer).__name__ else 0
    weight = layer.weight.detach().clone()
    network = nn.Sequential(copy.deepcopy(layer))
    convert(network, only(weight=Rounder(fmt, 0), activation=Rounder(fmt)))
    with torch.no_grad():
        layer.weight.copy_(round_to_format(weight, fmt, scale=absmax_scale(weight, fmt, axis=axis), axis=axis))
        assert torch.equal(network(x), layer(round_to_format(x, fmt, scale=absmax_scale(x, fmt))))
    network(x).sum().backward()
    assert network[0].weight.grad is not None
    strip(network)
    assert type(network[0]) is type(layer) and torch.equal(network[0].weight, weight)


def test_a_matrix_product_rounds_both_operands_and_its_error():
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 4, 5)
    product = Matmul()
    convert(product, only(activation=Rounder(E4M3), error=Rounder(E4M3)))
    y = product(a, b)
    narrow = [round_to_format(v.detach(), E4M3, scale=absmax_scale(v.detach(), E4M3)) for v in (a, b)]
    assert torch.equal(y, narrow[0] @ narrow[1])
    up = torch.randn_like(y)
    y.backward(up)
    assert torch.equal(a.grad, round_to_format(up, E4M3, scale=absmax_scale(up, E4M3)) @ narrow[1].mT)


def stateful_policy():
    return Policy(
        weight=Rounder(FloatFormat.parse("e2m3"), 0, scaling=Scaling.EMPIRICAL, every=4),
        activation=Rounder(E4M3, scaling=Scaling.DELAYED, every=3),
        error=Rounder(FloatFormat.parse("e5m2"), rounding=Rounding.STOCHASTIC, seed=5),
        gradient=Rounder(FloatFormat.parse("e3m4"), 0, Rounding.STOCHASTIC, seed=6),
    )


def test_a_training_that_goes_on_from_a_checkpoint_is_the_same_to_the_bit(tmp_path):
    whole = small()
    convert(whole, stateful_policy())
    optimizer = torch.optim.SGD(whole.parameters(), 0.05, momentum=0.9)
    train(whole, optimizer, 0, 5)
    torch.save({"network": whole.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "half.pt")
    train(whole, optimizer, 5, 11)

    again = small()
    convert(again, stateful_policy())
    saved = torch.load(tmp_path / "half.pt")
    again.load_state_dict(saved["network"])
    other = torch.optim.SGD(again.parameters(), 0.05, momentum=0.9)
    other.load_state_dict(saved["optimizer"])
    train(again, other, 5, 11)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_what_is_remembered_is_cut_with_the_channels():
    network = small()
    convert(network, stateful_policy())
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    train(network, optimizer, 0, 5)
    groups = channel_groups(network, torch.randn(1, 3, 4, 4))
    plan = plan_from_counts(network, groups, {"0": 5}, l1_importance(network))
    scale = network[0].lowp_weight_scale.clone()
    kept = network[0].weight.flatten(1).abs().sum(1).topk(5).indices.sort().values
    network = prune(network, plan, optimizer, inplace=True)
    assert network[0].weight.shape[0] == 5
    assert torch.equal(network[0].lowp_weight_scale, scale[kept])
    assert network[0].lowp_weight_exponent_bits.shape == (5,)
    train(network, optimizer, 5, 8)


def test_autocast():
    network = small()
    convert(network, Policy.parse(dict.fromkeys(ROLES, "e4m3fn") | {"activation": "e5m10"}))
    x = torch.randn(4, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = network(x).float().square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    assert network[0].weight.grad.dtype == torch.float32


def test_moments_are_rounded_after_each_step():
    network = small()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    handle = round_optimizer_state(optimizer, "e4m3fn", Rounding.STOCHASTIC, seed=1)
    train(network, optimizer, 0, 2)
    moments = [v for state in optimizer.state.values() for v in state.values() if v.ndim]
    assert len(moments) == 12
    for moment in moments:
        assert torch.equal(moment, round_to_format(moment, E4M3, scale=absmax_scale(moment, E4M3)))
    assert all(state["step"] == 2 for state in optimizer.state.values())
    handle.remove()
    train(network, optimizer, 2, 3)
    assert not torch.equal(moments[0], round_to_format(moments[0], E4M3, scale=absmax_scale(moments[0], E4M3)))


def test_a_policy_by_layer_and_blocks():
    network = small()
    fmt = FloatFormat.parse("e2m1")
    convert(network, {"4": only(weight=Rounder(fmt, 1, block=8))})
    assert type(network[0]) is nn.Conv2d
    x = torch.eye(24)
    weight = network[4].weight.detach()
    scale = absmax_scale(weight, fmt, axis=1, block=8)
    expected = round_to_format(weight, fmt, scale=scale, axis=1, block=8)
    assert torch.allclose(network[4](x) - network[4].bias, expected.T, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Policy.parse({"weigth": "e4m3"}), ConfigError, "did you mean 'weight'"),
        (lambda: Policy.parse({"weight": "e4m3"}), ConfigError, "role 'activation' has no format"),
        (lambda: Rounder(E4M3, every=0), ConfigError, "every must be 1 or more"),
        (lambda: Rounder(E4M3, scaling=Scaling.FIXED, scale=-1.0), ConfigError, "must be positive"),
        (lambda: Rounder(E4M3, block=8), ConfigError, "block= goes with axis="),
        (lambda: Rounder(FLOAT, scaling=Scaling.EMPIRICAL), ConfigError, "2 to 16 bits"),
        (lambda: convert(small(), {"9": only()}), ModelError, "no convolution or linear layer '9'"),
        (
            lambda: convert(nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), only(accumulator="e5m10")),
            ModelError,
            "layer '0': an accumulator is emulated for Linear and Conv2d without groups",
        ),
        (
            lambda: convert(small(), replace(stateful_policy(), error=Rounder(E4M3, 1, scaling=Scaling.DELAYED))),
            ModelError,
            "layer '0', error: a scale that is remembered is one for the tensor",
        ),
    ],
)
def test_bad_policies_are_one_clear_error(make, error, message):
    with pytest.raises(error, match=message):
        make()
