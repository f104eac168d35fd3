"""Residual convolutional networks: ResNet, MobileNet."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.workload.build import Tensor
from codesign.workload.network import Workload
from codesign.workload.sketch import Sketch


def resnet(name: str, batch: int, blocks: Sequence[int], *, bottleneck: bool) -> Workload:
    """He et al. 2015, arXiv 1512.03385, table 1; the stride of a bottleneck is in its 3x3 convolution."""
    net = Sketch()
    x = net.conv(net.input((3, 224, 224)), "conv1", 64, 7, stride=2, padding=3, bias=False)
    x = net.activation(net.batch_norm(x, "bn1"), "relu")
    x = net.max_pool(x, "maxpool", 3, stride=2, padding=1)
    width = 64
    for stage, count in enumerate(blocks):
        for block in range(count):
            planes, stride = 64 << stage, 2 if stage and block == 0 else 1
            out = planes * 4 if bottleneck else planes
            x = _residual_block(net, x, f"layer{stage + 1}.{block}", planes, out, stride, bottleneck, width != out)
            width = out
    x = net.linear(net.flatten(net.mean_pool(x, "avgpool")), "fc", 1000)
    return net.workload(name, x, batch)


def _residual_block(
    net: Sketch, x: Tensor, at: str, planes: int, out: int, stride: int, bottleneck: bool, project: bool
) -> Tensor:
    plan = [(planes, 1, 1), (planes, 3, stride), (out, 1, 1)] if bottleneck else [(planes, 3, stride), (out, 3, 1)]
    y = x
    for i, (channels, kernel, step) in enumerate(plan, 1):
        y = net.conv(y, f"{at}.conv{i}", channels, kernel, stride=step, padding=kernel // 2, bias=False)
        y = net.batch_norm(y, f"{at}.bn{i}")
        if i < len(plan):
            y = net.activation(y, f"{at}.relu")
    if project or stride > 1:
        x = net.batch_norm(net.conv(x, f"{at}.downsample.0", out, 1, stride=stride, bias=False), f"{at}.downsample.1")
    return net.activation(net.add(y, x, f"{at}.add"), f"{at}.relu")


# Sandler et al. 2018, arXiv 1801.04381, table 2: expansion, channels, repeats, stride.
_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(name: str, batch: int) -> Workload:
    """Inverted residuals: expand, depthwise 3x3, project."""
    net = Sketch()
    x = _conv_norm(net, net.input((3, 224, 224)), "features.0", 32, 3, 2)
    width, index = 32, 1
    for expansion, channels, repeats, first_stride in _V2:
        for i in range(repeats):
            stride, hidden = first_stride if i == 0 else 1, width * expansion
            at, j, y = f"features.{index}.conv", 0, x
            if expansion > 1:
                y, j = _conv_norm(net, y, f"{at}.0", hidden, 1, 1), 1
            y = _conv_norm(net, y, f"{at}.{j}", hidden, 3, stride, groups=hidden)
            y = net.batch_norm(net.conv(y, f"{at}.{j + 1}", channels, 1, bias=False), f"{at}.{j + 2}")
            x = net.add(x, y, f"features.{index}.add") if stride == 1 and width == channels else y
            width, index = channels, index + 1
    x = _conv_norm(net, x, f"features.{index}", 1280, 1, 1)
    x = net.linear(net.flatten(net.mean_pool(x, "avgpool")), "classifier", 1000)
    return net.workload(name, x, batch)


def _conv_norm(
    net: Sketch, x: Tensor, at: str, channels: int, kernel: int, stride: int, *, groups: int = 1, act: bool = True
) -> Tensor:
    x = net.conv(x, f"{at}.0", channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    x = net.batch_norm(x, f"{at}.1")
    return net.activation(x, f"{at}.2") if act else x


# Howard et al. 2019, arXiv 1905.02244, table 1: kernel, expanded, channels, squeeze-and-excite, stride.
_V3 = (
    (3, 16, 16, False, 1), (3, 64, 24, False, 2), (3, 72, 24, False, 1), (5, 72, 40, True, 2), (5, 120, 40, True, 1),
    (5, 120, 40, True, 1), (3, 240, 80, False, 2), (3, 200, 80, False, 1), (3, 184, 80, False, 1),
    (3, 184, 80, False, 1), (3, 480, 112, True, 1), (3, 672, 112, True, 1), (5, 672, 160, True, 2),
    (5, 960, 160, True, 1), (5, 960, 160, True, 1),
)  # fmt: skip


def mobilenet_v3_large(name: str, batch: int) -> Workload:
    """Inverted residuals with squeeze-and-excite: a gate per channel, from the mean of each map."""
    net = Sketch()
    x, width = _conv_norm(net, net.input((3, 224, 224)), "features.0", 16, 3, 2), 16
    for index, (kernel, hidden, channels, squeeze, stride) in enumerate(_V3, 1):
        at, y = f"features.{index}", x
        if hidden != width:
            y = _conv_norm(net, y, f"{at}.expand", hidden, 1, 1)
        y = _conv_norm(net, y, f"{at}.depthwise", hidden, kernel, stride, groups=hidden)
        if squeeze:
            gate = net.mean_pool(y, f"{at}.squeeze.pool")
            gate = net.activation(net.conv(gate, f"{at}.squeeze.fc1", _eighth(hidden // 4), 1), f"{at}.squeeze.relu")
            gate = net.activation(net.conv(gate, f"{at}.squeeze.fc2", hidden, 1), f"{at}.squeeze.gate")
            y = net.multiply(gate, y, f"{at}.squeeze.mul")
        y = _conv_norm(net, y, f"{at}.project", channels, 1, 1, act=False)
        x = net.add(x, y, f"{at}.add") if stride == 1 and width == channels else y
        width = channels
    x = _conv_norm(net, x, "features.16", 960, 1, 1)
    x = net.flatten(net.mean_pool(x, "avgpool"))
    x = net.activation(net.linear(x, "classifier.0", 1280), "classifier.1")
    return net.workload(name, net.linear(x, "classifier.2", 1000), batch)


def _eighth(channels: int) -> int:
    """The nearest multiple of 8, at least 8, and not below nine tenths of `channels`."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
