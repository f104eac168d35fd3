"""Moments of layers against windows that are written out."""

import copy

import pytest
import torch
from torch import nn

from codesign.errors import ModelError
from codesign.nn.moments import moments_of
from codesign.quantize import Moments

LAYERS = {
    "3x3": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "strided, grouped": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    "wide stride": lambda: nn.Conv2d(4, 6, 2, stride=3),
    "dilated, circular": lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, padding_mode="circular"),
    "dilated, strided": lambda: nn.Conv2d(4, 6, 3, padding=3, dilation=2, stride=2),
    "more padding than kernel": lambda: nn.Conv2d(4, 6, 2, padding=3),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
    "patches": lambda: nn.Conv2d(4, 6, 4, stride=4),
    "larger than the image": lambda: nn.Conv2d(4, 6, 7, padding=3),
    "same, even": lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=3),
    "1x1": lambda: nn.Conv1d(4, 6, 1, stride=2),
    "three dimensions": lambda: nn.Conv3d(4, 6, 2, stride=(2, 1, 1), padding=1, groups=2),
    "linear": lambda: nn.Linear(9, 6),
}


def windows(layer, x):
    """[samples, groups * n], by the definition: the layer's own geometry with one output for each number of a window."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    n = layer.weight[0].numel()
    picking = torch.eye(n, dtype=x.dtype).reshape(n, *layer.weight.shape[1:])
    seen = []
    for own in x.chunk(layer.groups, dim=1):
        one = type(layer)(
            own.shape[1],
            n,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            padding_mode=layer.padding_mode,
            bias=False,
        )
        one.weight = nn.Parameter(picking, requires_grad=False)
        seen.append(one(own).movedim(1, -1).flatten(0, -2))
    return torch.cat(seen, dim=1)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kind", LAYERS)
def test_moments_are_those_of_the_windows(kind, monkeypatch):
    torch.manual_seed(0)
    layer = LAYERS[kind]().double().requires_grad_(False)
    size = {"Conv1d": (9,), "Conv3d": (4, 5, 3)}.get(type(layer).__name__, (6, 5))
    x = torch.rand(5, 7, 9).double() if kind == "linear" else torch.rand(5, 4, *size).double()
    y = layer(x)
    missing = torch.randn_like(y)
    monkeypatch.setattr("codesign.nn.moments._CHUNK", 2 * x[0].numel())  # more than one chunk
    found, seen = moments_of(layer, x, missing), windows(layer, x)
    rows = missing.flatten(0, -2) if kind == "linear" else missing.movedim(1, -1).flatten(0, -2)
    groups = getattr(layer, "groups", 1)
    expected = Moments.of(seen.numpy(), rows.numpy(), groups=groups)
    assert found.count == expected.count
    for ours, theirs in (
        (found.covariance, expected.covariance),
        (found.mean, expected.mean),
        (found.missing.covariance, expected.missing.covariance),
        (found.missing.mean, expected.missing.mean),
        (found.missing.variance, expected.missing.variance),
    ):
        torch.testing.assert_close(torch.from_numpy(ours), torch.from_numpy(theirs))


def test_a_single_image_is_an_error():
    with pytest.raises(ModelError, match="must read batches of images, 4 dimensions, got 3"):
        moments_of(nn.Conv2d(3, 4, 3), torch.rand(3, 5, 5), torch.rand(4, 3, 3))


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, padding=1), nn.Linear(6, 6)])
def test_inputs_that_hardly_vary_keep_their_covariance(layer):
    torch.manual_seed(0)
    x = 100 + 0.01 * torch.rand(50, 4, 6, 6)
    missing = torch.rand(50, 6, 6, 6) if isinstance(layer, nn.Conv2d) else torch.rand(50, 4, 6, 6)
    found = moments_of(layer, x, missing)
    layer = copy.deepcopy(layer).double()
    expected = moments_of(layer, x.double(), missing.double())
    scale = 1 if isinstance(layer, nn.Conv2d) else 1e-4  # at the border of the image the windows do vary
    assert abs(found.covariance - expected.covariance).max() < 1e-5 * scale
    assert abs(found.missing.covariance - expected.missing.covariance).max() < 1e-5
