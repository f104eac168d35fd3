"""Independent oracles: torch definitions of the same networks, and torch's own counter of operations."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from codesign import Workload
from codesign.errors import ConfigError
from codesign.workload import ChannelGroup, Embedding, builtin_workload, workload_names
from tests.workload import networks

IMAGE = (3, 224, 224)
DEFINITIONS = {
    "lenet": (networks.lenet, (1, 28, 28)),
    "vgg-digits": (lambda: networks.vgg("16 16 M 32 32 M 64", (1, 8), 10), (1, 8, 8)),
    "vgg-fashion-mnist": (lambda: networks.vgg("16 16 M 32 32 M 64 64 M", (1, 28), 10), (1, 28, 28)),
    "vgg11-cifar": (lambda: networks.vgg(networks.VGG11, (3, 32), 10), (3, 32, 32)),
    "vgg16-cifar": (lambda: networks.vgg(networks.VGG16, (3, 32), 10), (3, 32, 32)),
    "resnet18-imagenet": (lambda: networks.ResNet((2, 2, 2, 2), False), IMAGE),
    "resnet50-imagenet": (lambda: networks.ResNet((3, 4, 6, 3), True), IMAGE),
    "mobilenet-v2": (networks.MobileNetV2, IMAGE),
    "mobilenet-v3-large": (networks.MobileNetV3, IMAGE),
    "vit-b16": (networks.ViT, IMAGE),
    "gpt-small": (networks.GPT, (1024,)),
}
# Parameters as published: torchvision's model pages; Dosovitskiy et al. 2021; GPT-2's 124,439,808 and an output matrix of
# its own of 50257 x 768.
PUBLISHED = {
    "resnet18-imagenet": 11_689_512,
    "resnet50-imagenet": 25_557_032,
    "mobilenet-v2": 3_504_872,
    "mobilenet-v3-large": 5_483_032,
    "vit-b16": 86_567_656,
    "gpt-small": 124_439_808 + 50_257 * 768,
}


def built(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    make, size = DEFINITIONS[name]
    with torch.device("meta"):  # shapes without numbers
        model = make()
        dtype = torch.long if name == "gpt-small" else torch.float32
        return model, torch.zeros(2, *size, dtype=dtype)


def without_reasons(group: ChannelGroup) -> ChannelGroup:
    return replace(group, why_fixed=str(bool(group.why_fixed)), approximate="")


def test_every_built_in_network_has_a_torch_definition():
    assert sorted(DEFINITIONS) == workload_names()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_built_in_network_equals_the_traced_one_and_torch_counts_the_same(name):
    model, example = built(name)
    workload = builtin_workload(name, batch=64)
    read = Workload.from_torch(model, example, batch=64, name=name)
    assert (read.layers, read.batch) == (workload.layers, workload.batch)
    assert [without_reasons(group) for group in read.groups] == [without_reasons(group) for group in workload.groups]
    assert workload.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert workload.parameters == PUBLISHED.get(name, workload.parameters)
    counter = FlopCounterMode(display=False)
    with counter:
        model.eval()(example)
    assert workload.macs * 2 * 2 == counter.get_total_flops()  # two operations each, two examples


def test_positions_are_looked_up_once_a_step():
    tokens, positions = (layer for layer in builtin_workload("gpt-small").layers if isinstance(layer, Embedding))
    assert (tokens.shared, positions.shared) == (False, True)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(ConfigError, match="no built-in workload 'vgg16-cifr'; did you mean 'vgg16-cifar'"):
        builtin_workload("vgg16-cifr")
