"""Torch definitions of the built-in networks, written from the papers for the tests."""

import torch
import torch.nn.functional as F
from torch import nn

VGG11 = "64 M 128 M 256 256 M 512 512 M 512 512 M"
VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


def vgg(layers, image, classes):
    channels, size, parts = image[0], image[1], []
    for word in layers.split():
        if word == "M":
            parts.append(nn.MaxPool2d(2))
            size //= 2
        else:
            parts += [nn.Conv2d(channels, int(word), 3, padding=1, bias=False), nn.BatchNorm2d(int(word)), nn.ReLU()]
            channels = int(word)
    classifier = nn.Linear(channels * size**2, classes)
    return named(features=nn.Sequential(*parts), flatten=nn.Flatten(), classifier=classifier)


def named(**modules):
    net = nn.Sequential()
    for name, module in modules.items():
        net.add_module(name, module)
    return net


def lenet():
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
    )
    classifier = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    return named(features=features, flatten=nn.Flatten(), classifier=classifier)


class Residual(nn.Module):
    def __init__(self, inputs, planes, stride, bottleneck):
        super().__init__()
        out = planes * 4 if bottleneck else planes
        plan = [(planes, 1, 1), (planes, 3, stride), (out, 1, 1)] if bottleneck else [(planes, 3, stride), (out, 3, 1)]
        self.steps, width = len(plan), inputs
        for i, (channels, kernel, step) in enumerate(plan, 1):
            self.add_module(f"conv{i}", nn.Conv2d(width, channels, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(channels))
            width = channels
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != out:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.steps + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            if i < self.steps:
                y = self.relu(y)
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, blocks, bottleneck):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        width = 64
        for stage, count in enumerate(blocks):
            parts = []
            for block in range(count):
                parts.append(Residual(width, 64 << stage, 2 if stage and block == 0 else 1, bottleneck))
                width = (64 << stage) * (4 if bottleneck else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*parts))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, 1000)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def conv_norm(inputs, outputs, kernel, stride, groups=1, act=nn.ReLU6):
    parts = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, *([act()] if act else []))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        parts = [conv_norm(inputs, hidden, 1, 1)] if expansion > 1 else []
        parts += [conv_norm(hidden, hidden, 3, stride, hidden)]
        self.conv = nn.Sequential(*parts, nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        plan = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        parts, width = [conv_norm(3, 32, 3, 2)], 32
        for expansion, channels, repeats, stride in plan:
            for i in range(repeats):
                parts.append(Inverted(width, channels, stride if i == 0 else 1, expansion))
                width = channels
        self.features = nn.Sequential(*parts, conv_norm(width, 1280, 1, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Squeeze(nn.Module):
    def __init__(self, channels, inner):
        super().__init__()
        self.pool, self.relu, self.gate = nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Hardsigmoid()
        self.fc1, self.fc2 = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x):
        return self.gate(self.fc2(self.relu(self.fc1(self.pool(x))))) * x


class BlockV3(nn.Module):
    def __init__(self, inputs, kernel, hidden, outputs, squeeze, stride):
        super().__init__()
        if hidden != inputs:
            self.expand = conv_norm(inputs, hidden, 1, 1)
        self.depthwise = conv_norm(hidden, hidden, kernel, stride, hidden)
        if squeeze:
            self.squeeze = Squeeze(hidden, squeeze)
        self.project = conv_norm(hidden, outputs, 1, 1, act=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.expand(x) if hasattr(self, "expand") else x
        y = self.depthwise(y)
        y = self.project(self.squeeze(y) if hasattr(self, "squeeze") else y)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """The large one; the inner widths of squeeze-and-excite are a quarter, rounded to a multiple of 8."""

    def __init__(self):
        super().__init__()
        plan = (
            (3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 24, 2), (5, 120, 40, 32, 1),
            (5, 120, 40, 32, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1),
            (3, 480, 112, 120, 1), (3, 672, 112, 168, 1), (5, 672, 160, 168, 2), (5, 960, 160, 240, 1),
            (5, 960, 160, 240, 1),
        )  # fmt: skip
        parts, width = [conv_norm(3, 16, 3, 2)], 16
        for kernel, hidden, channels, squeeze, stride in plan:
            parts.append(BlockV3(width, kernel, hidden, channels, squeeze, stride))
            width = channels
        self.features = nn.Sequential(*parts, conv_norm(width, 960, 1, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class Attention(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = (part(x).view(batch, length, self.heads, -1) for part in (self.query, self.key, self.value))
        query, key, value = (part.transpose(1, 2) for part in parts)
        context = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(context.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads, causal):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary=50257, length=1024, width=768, heads=12, depth=12):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads, True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, index):
        x = self.tokens(index) + self.positions(torch.arange(index.shape[1], device=index.device))
        return self.head(self.norm(self.blocks(x)))


class ViT(nn.Module):
    def __init__(self, image=224, patch=16, width=768, heads=12, depth=12, classes=1000):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class ByNumber(nn.Module):
    """Takes the first six maps, whatever they are."""

    def forward(self, x):
        return x[:, :6].flatten(1)


def nothing_to_cut(image_shape, classes, width):
    """The channels of its one convolution are indexed by number."""
    channels, height, width = image_shape
    return named(conv=nn.Conv2d(channels, 8, 1), number=ByNumber(), out=nn.Linear(6 * height * width, classes))
