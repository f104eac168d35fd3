"""Moments of layers against windows that are written out."""

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
        (found.second, expected.second),
        (found.mean, expected.mean),
        (found.missing.cross, expected.missing.cross),
        (found.missing.mean, expected.missing.mean),
        (found.missing.power, expected.missing.power),
    ):
        torch.testing.assert_close(torch.from_numpy(ours), torch.from_numpy(theirs))


def test_a_single_image_is_an_error():
    with pytest.raises(ModelError, match="must read batches of images, 4 dimensions, got 3"):
        moments_of(nn.Conv2d(3, 4, 3), torch.rand(3, 5, 5), torch.rand(4, 3, 3))
