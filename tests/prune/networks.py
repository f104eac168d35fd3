"""Networks to prune, written for these tests from the papers that define them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


def vgg(widths=VGG16, classes: int = 10, colours: int = 3, width: float = 1.0) -> nn.Sequential:
    """VGG with batch norm and one linear layer (Simonyan and Zisserman 2015, the variant used on CIFAR)."""
    layers: list[nn.Module] = []
    channels = colours
    for step in widths:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            out = int(step * width)
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            channels = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes))


def conv_norm(into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)
    )


class Basic(nn.Module):
    """Residual block of ResNet-18 (He et al. 2016)."""

    expansion = 1

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.one = conv_norm(into, width, 3, stride)
        self.two = conv_norm(width, width, 3)
        self.shortcut = conv_norm(into, width, 1, stride) if stride > 1 or into != width else nn.Identity()

    def forward(self, x):
        return F.relu(self.two(F.relu(self.one(x))) + self.shortcut(x))


class Bottleneck(nn.Module):
    """Residual block of ResNet-50, and of ResNeXt with `groups`."""

    expansion = 4
    groups = 1

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.one = conv_norm(into, width, 1)
        self.two = conv_norm(width, width, 3, stride, self.groups)
        self.three = conv_norm(width, out, 1)
        self.shortcut = conv_norm(into, out, 1, stride) if stride > 1 or into != out else nn.Identity()

    def forward(self, x):
        x, shortcut = F.relu(self.two(F.relu(self.one(x)))), self.shortcut(x)
        x = self.three(x)
        x += shortcut
        return F.relu(x, inplace=True)


class ResNeXtBlock(Bottleneck):
    groups = 4


class ResNet(nn.Module):
    def __init__(self, block, depths, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.stem = conv_norm(3, width, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        into, stages = width, []
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stages.append(block(into, width << stage, 2 if stage and not i else 1))
                into = (width << stage) * block.expansion
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(into, classes)

    def forward(self, x):
        x = self.pool(F.relu(self.stem(x)))
        return self.head(self.blocks(x).mean((2, 3)))


def resnet18(**sizes) -> ResNet:
    return ResNet(Basic, (2, 2, 2, 2), **sizes)


def resnet50(**sizes) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), **sizes)


def resnext(**sizes) -> ResNet:
    return ResNet(ResNeXtBlock, (2, 2), **sizes)


class Inverted(nn.Module):
    """Inverted residual of MobileNet-v2 (Sandler et al. 2018)."""

    def __init__(self, into: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = into * expand
        steps = [conv_norm(into, hidden, 1), nn.ReLU6()] if expand > 1 else []
        self.body = nn.Sequential(
            *steps, conv_norm(hidden, hidden, 3, stride, hidden), nn.ReLU6(), conv_norm(hidden, out, 1)
        )
        self.residual = stride == 1 and into == out

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(rows=MOBILENET_V2, classes: int = 1000) -> nn.Sequential:
    into, blocks = 32, []
    for expand, out, repeat, stride in rows:
        for i in range(repeat):
            blocks.append(Inverted(into, out, stride if i == 0 else 1, expand))
            into = out
    head = [conv_norm(into, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes)]
    return nn.Sequential(conv_norm(3, 32, 3, 2), nn.ReLU6(), *blocks, *head)


class DenseLayer(nn.Module):
    """Layer of a DenseNet (Huang et al. 2017): norm, 1x1, norm, 3x3, concatenated to what came in."""

    def __init__(self, into: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(into), nn.Conv2d(into, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))], 1)


def densenet(depths=(6, 12, 24, 16), growth: int = 32, classes: int = 1000) -> nn.Sequential:
    """DenseNet-121 by default."""
    channels = 2 * growth
    layers: list[nn.Module] = [conv_norm(3, channels, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for i, depth in enumerate(depths):
        for _ in range(depth):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        if i < len(depths) - 1:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1), nn.AvgPool2d(2)]
            channels //= 2
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


class SelfAttention(nn.Module):
    """One packed projection, sizes kept as attributes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.head_dim**-0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, -1))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021); ViT-B/16 by default."""

    def __init__(self, image=224, patch=16, width=768, depth=12, heads=12, ratio=4, classes=1000) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, width) * 0.02)
        self.encoders = nn.Sequential(*(Encoder(width, heads, ratio) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.encoders(x))[:, 0])
