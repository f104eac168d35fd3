"""The networks that this project builds itself: VGG-like chains and CIFAR-style residual networks, with batch norm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from codesign.errors import ModelError, did_you_mean
from codesign.nn.data import import_function

# Simonyan & Zisserman 2015, arXiv 1409.1556, table 1: columns A and D. M is 2x2 max pooling.
VGG11 = "64 M 128 M 256 256 M 512 512 M 512 512 M"
VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


def build(name: str, image_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> nn.Module:
    """A fresh network, initialised from torch's global generator.

    name : `vgg:16 16 M 32 32 M` (output channels of 3x3 convolutions, M for 2x2 max pooling), `vgg11`, `vgg16`,
        `resnet8`, `resnet20`, `resnet32`, or `module:function`, called with (image_shape, classes, width)
    image_shape : (channels, height, width in pixels)
    width : factor on every channel count
    """
    kind, _, rest = name.partition(":")
    if name in ("vgg11", "vgg16"):
        return vgg(VGG11 if name == "vgg11" else VGG16, image_shape, classes, width=width)
    if kind == "vgg" and rest:
        return vgg(rest, image_shape, classes, width=width)
    if name in ("resnet8", "resnet20", "resnet32"):
        return ResNet((int(name[6:]) - 2) // 6, image_shape, classes, width=width)
    if rest:
        network: nn.Module = import_function(kind, rest, ModelError)(image_shape, classes, width)
        return network
    known = ("vgg:<channels and M>", "vgg11", "vgg16", "resnet8", "resnet20", "resnet32", "module:function")
    raise ModelError(f"unknown network '{name}'{did_you_mean(name, known)}")


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def vgg(layers: str, image_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> nn.Sequential:
    """3x3 convolutions with batch norm and ReLU, 2x2 max pooling at each M, one linear layer at the end.

    Layers are named `features.0`, `features.1`, ...; the last is `classifier`.
    """
    channels, height, image_width = image_shape
    parts: list[nn.Module] = []
    for word in layers.split():
        if word.upper() == "M":
            if min(height, image_width) < 2:
                raise ModelError(f"network 'vgg:{layers}': an M pools a map of {height}x{image_width}; use fewer M")
            parts.append(nn.MaxPool2d(2))
            height, image_width = height // 2, image_width // 2
            continue
        if not word.isdigit() or int(word) == 0:
            raise ModelError(f"network 'vgg:{layers}': '{word}' is neither a channel count nor M")
        out_channels = _scaled(int(word), width)
        parts += [nn.Conv2d(channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()]
        channels = out_channels
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*parts))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Linear(channels * height * image_width, classes))
    return network


class _Block(nn.Module):
    """Two 3x3 convolutions beside an identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out: torch.Tensor = self.relu(inner + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """He et al. 2016, arXiv 1512.03385, section 4.2: 6n+2 layers, widths 16, 32, 64; here with projection shortcuts."""

    def __init__(
        self,
        blocks: int,
        image_shape: tuple[int, int, int],
        classes: int,
        *,
        width: float = 1.0,
        channels: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        widths = [_scaled(count, width) for count in channels]
        self.stem = nn.Conv2d(image_shape[0], widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stack: list[nn.Module] = []
        previous = widths[0]
        for stage, count in enumerate(widths):
            for block in range(blocks):
                stack.append(_Block(previous, count, stride=2 if stage and not block else 1))
                previous = count
        self.blocks = nn.Sequential(*stack)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.classifier(self.flatten(self.pool(self.blocks(self.relu(self.norm(self.stem(x)))))))
        return out
