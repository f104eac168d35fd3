import pytest
import torch
from torch import nn

from codesign import Workload
from codesign.workload import builtin_workload


def vgg16() -> nn.Module:
    layers, channels = [], 3
    for block in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    net = nn.Sequential()
    net.add_module("features", nn.Sequential(*layers))
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", nn.Linear(512, 10))
    return net


def test_the_built_in_vgg_equals_the_traced_one():
    traced = Workload.from_torch(vgg16(), torch.zeros(2, 3, 32, 32), batch=128, name="vgg16-cifar")
    assert traced == builtin_workload("vgg16-cifar", batch=128)
    assert traced.parameters == sum(p.numel() for p in vgg16().parameters())


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x):
        return torch.relu(x + self.depthwise(self.conv(x)))


def test_a_residual_addition_and_a_depthwise_convolution_tie_their_channels():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 5))
    workload = Workload.from_torch(net, torch.zeros(1, 3, 8, 8))
    group = workload.channel_groups["0"]
    assert group.producers == ("0", "1.conv", "1.depthwise")
    assert group.consumers == ("1.conv", "1.depthwise", "4")
    smaller = workload.with_channels({"0": 3}).weight_layers
    assert (smaller["1.conv"].in_channels, smaller["1.depthwise"].groups, smaller["4"].in_features) == (3, 3, 48)
    with pytest.raises(Exception, match="share their output channels"):
        workload.with_channels({"0": 3, "1.conv": 4})
