"""A whole network in few bits, against its layers' own sums and against the dense network."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from codesign.errors import ModelError
from codesign.nn.calibrated import quantize_network
from codesign.nn.networks import build


class Transformer(nn.Module):
    """Layer norm, attention with a residual, no bias in one of its layers."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Linear(6, 16), nn.LayerNorm(16)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16, bias=False), nn.Linear(16, 5)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return self.head((x + self.out(functional.scaled_dot_product_attention(q, k, v))).mean(1))


def batch_norm_network():
    torch.manual_seed(0)
    network = build("resnet8", (3, 12, 12), 5, width=0.5)
    network.train()
    for _ in range(30):
        network(torch.randn(32, 3, 12, 12))
    return network.eval(), torch.randn(96, 3, 12, 12)


def plain_network():
    torch.manual_seed(1)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, stride=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(72, 5),
    ]
    return nn.Sequential(*layers), torch.randn(96, 3, 8, 8)


def transformer():
    torch.manual_seed(2)
    return Transformer(), torch.randn(96, 7, 6)


NETWORKS = {"batch norm": batch_norm_network, "plain": plain_network, "transformer": transformer}


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_reported_is_what_the_network_does(kind):
    network, images = NETWORKS[kind]()
    found = quantize_network(network, images, 3)
    means, errors = {}, {}
    dense = outputs_of_layers(network, images)
    for name, outputs in outputs_of_layers(found.network, images).items():
        outputs, wanted = outputs.movedim(1 if outputs.ndim == 4 else -1, 0), dense[name]
        difference = outputs.flatten(1) - wanted.movedim(1 if wanted.ndim == 4 else -1, 0).flatten(1)
        means[name], errors[name] = difference.mean(1), difference.var(1, correction=0)
        fit = found.layers[name]
        torch.testing.assert_close(errors[name].double(), torch.from_numpy(fit.output_mse), rtol=1e-3, atol=1e-6)
        if found.biases[name] == f"{name}.bias":
            assert means[name].abs().max() < 1e-4 * wanted.std()
        else:
            norm = found.network.get_submodule(found.biases[name].removesuffix(".running_mean"))
            before = network.get_submodule(found.biases[name].removesuffix(".running_mean"))
            moved = norm.running_mean - before.running_mean
            torch.testing.assert_close(moved, means[name], rtol=1e-4, atol=1e-4 * float(wanted.std()))
        weight = found.network.get_submodule(name).weight
        assert torch.equal(torch.from_numpy(fit.allocation.round(weight.detach().numpy())), weight)
    kept = {name for name, tensor in network.named_parameters() if tensor.ndim > 1} - {f"{n}.weight" for n in means}
    assert set(found.kept) == kept


def outputs_of_layers(network, images):
    seen = {}
    handles = [
        module.register_forward_hook(lambda _, __, y, name=name: seen.setdefault(name, y))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("kind", NETWORKS)
def test_more_bits_come_nearer_and_the_network_itself_stays(kind):
    network, images = NETWORKS[kind]()
    before, outputs = copy.deepcopy(network.state_dict()), network(images).detach()
    errors = []
    for bits in (2, 4, 8):
        found = quantize_network(network, images, bits)
        with torch.no_grad():
            errors.append(float((found.network(images) - outputs).var() / outputs.var()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-4
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_state_loads_into_a_network_of_the_same_kind():
    network, images = batch_norm_network()
    found = quantize_network(network, images, 4)
    other = build("resnet8", (3, 12, 12), 5, width=0.5).eval()
    other.load_state_dict(found.network.state_dict())
    torch.testing.assert_close(other(images), found.network(images))


def test_a_width_for_each_layer():
    network, images = plain_network()
    widths = {"0": 8, "2": 4, "5": 2}
    found = quantize_network(network, images, widths)
    assert {name: fit.allocation.formats[0].bits for name, fit in found.layers.items()} == widths


class Beside(nn.Module):
    """A convolution whose outputs are read beside its batch norm, too."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.convolution(x)
        return self.norm(y) + y


class Mixing(nn.Module):
    """Every image sees the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) - x.mean(0)


@pytest.mark.parametrize(
    ("network", "images", "message"),
    [
        (Beside(), torch.rand(40, 3, 5, 5), "a convolution without bias must be read by its batch norm alone"),
        (Mixing(), torch.arange(160.0).reshape(40, 4), "images of a batch must not depend on each other"),
        (nn.MultiheadAttention(8, 2), None, "layer 'attention.out_proj' is not called with these images"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)),
            torch.rand(9, 4),
            "batch norm '1' has no running statistics",
        ),
        (nn.Sequential(nn.Linear(4, 4)), torch.full((9, 4), float("nan")), "layer '0': .*NaN or infinity"),
    ],
)
def test_networks_that_cannot_be_done_are_errors(network, images, message):
    if images is None:

        class Attending(nn.Module):
            def __init__(self):
                super().__init__()
                self.attention = network

            def forward(self, x):
                return self.attention(x, x, x)[0]

        network, images = Attending(), torch.rand(9, 5, 8)
    with pytest.raises(ModelError, match=message):
        quantize_network(network, images, 3)
