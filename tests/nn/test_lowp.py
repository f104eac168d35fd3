"""Low-precision layers against the formulas of their module, written out with torch's own functions."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from codesign import DesignPoint, uniform
from codesign.design import LayerFormats
from codesign.errors import ModelError
from codesign.nn.lowp import Rounder, convert, strip
from codesign.quantize import absmax_scale, round_to_format

FORMATS = LayerFormats.parse({"weight": "e2m3", "activation": "e4m3fn", "error": "e5m2", "gradient": "e3m2"})


def exact(x: torch.Tensor, fmt: str, axis: int | None = None) -> torch.Tensor:
    return round_to_format(x, fmt, scale=absmax_scale(x, fmt, axis=axis), axis=axis)


@pytest.fixture
def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def test_convolution_computes_the_four_formulas():
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    up = torch.randn(2, 4, 4, 4)
    network = nn.Sequential(layer)
    convert(network, DesignPoint.of(default=FORMATS))
    y = network(x)
    y.backward(up)

    weight, bias = layer.weight.detach(), layer.bias.detach()
    a, w, e = exact(x.detach(), "e4m3fn"), exact(weight, "e2m3", 0), exact(up, "e5m2")
    assert torch.equal(y, functional.conv2d(a, w, bias, stride=2, padding=1))
    assert torch.equal(x.grad, torch.nn.grad.conv2d_input(a.shape, w, e, stride=2, padding=1))
    dw = torch.nn.grad.conv2d_weight(a, w.shape, e, stride=2, padding=1)
    assert torch.equal(layer.weight.grad, exact(dw, "e3m2", 0))
    assert torch.allclose(layer.bias.grad, e.sum((0, 2, 3)))


def test_linear_computes_the_four_formulas():
    torch.manual_seed(1)
    layer = nn.Linear(7, 3)
    x = torch.randn(5, 7, requires_grad=True)
    up = torch.randn(5, 3)
    network = nn.Sequential(layer)
    convert(network, DesignPoint.of(default=FORMATS))
    y = network(x)
    y.backward(up)
    a, w, e = exact(x.detach(), "e4m3fn"), exact(layer.weight.detach(), "e2m3", 0), exact(up, "e5m2")
    assert torch.equal(y, functional.linear(a, w, layer.bias))
    assert torch.equal(x.grad, e @ w)
    assert torch.equal(layer.weight.grad, exact(e.T @ a, "e3m2", 0))


def test_float32_formats_change_no_bit(small):
    x = torch.randn(2, 3, 4, 4)
    plain = small(x)
    convert(small, DesignPoint.of(default=uniform("fp32")))
    assert torch.equal(small(x), plain)


def test_strip_gives_the_network_back(small):
    x = torch.randn(2, 3, 4, 4)
    before, names = small(x), list(small.state_dict())
    convert(small, DesignPoint.of(default=uniform("e2m1")))
    assert not torch.equal(small(x), before)
    assert list(small.state_dict()) == names
    strip(small)
    assert torch.equal(small(x), before)
    assert type(small[0]) is nn.Conv2d


def test_each_layer_has_its_own_formats(small):
    convert(small, DesignPoint.of(default=uniform("fp32"), formats={"3": FORMATS}))
    assert str(small[3].rounders.weight.fmt) == "e2m3"
    assert small[0].rounders.weight.fmt.mantissa_bits == 23


def test_a_tensor_without_a_finite_number_passes_and_a_partly_finite_one_is_rounded():
    rounder = Rounder(FORMATS.error)
    assert torch.isnan(rounder(torch.full((3,), torch.nan))).all()
    x = torch.tensor([torch.nan, 1.0])
    assert rounder(x)[1] == 1.0


def test_unknown_layers_and_layers_that_are_not_covered_are_named(small):
    with pytest.raises(ModelError, match="no convolution or linear layer '4'"):
        convert(small, DesignPoint.of(default=FORMATS, formats={"4": FORMATS}))
    small.add_module("up", nn.LSTM(1, 1))
    with pytest.raises(ModelError, match="layer 'up': low-precision training covers convolutions, Linear and Matmul"):
        convert(small, DesignPoint.of(default=FORMATS))
    assert type(small[0]) is nn.Conv2d
