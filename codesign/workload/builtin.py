"""Built-in networks, written down without torch. Names of layers are those of the usual torch definitions."""

from __future__ import annotations

from collections.abc import Callable

from codesign.errors import ConfigError, did_you_mean
from codesign.workload.network import Workload
from codesign.workload.residual import mobilenet_v2, mobilenet_v3_large, resnet
from codesign.workload.sketch import Sketch
from codesign.workload.transformers import gpt, vit

# Simonyan & Zisserman 2015, arXiv 1409.1556, table 1: columns A and D. M is 2x2 max pooling.
_VGG11 = "64 M 128 M 256 256 M 512 512 M 512 512 M"
_VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


def _vgg(name: str, layers: str, image: tuple[int, int, int], classes: int, batch: int) -> Workload:
    """3x3 convolutions with batch norm and ReLU, 2x2 max pooling at each M, one linear layer."""
    net = Sketch()
    x, index = net.input(image), 0
    for word in layers.split():
        if word == "M":
            x = net.max_pool(x, f"features.{index}", 2)
            index += 1
            continue
        x = net.conv(x, f"features.{index}", int(word), 3, padding=1, bias=False)
        x = net.batch_norm(x, f"features.{index + 1}")
        x = net.activation(x, f"features.{index + 2}")
        index += 3
    x = net.linear(net.flatten(x), "classifier", classes)
    return net.workload(name, x, batch)


def _lenet(name: str, batch: int) -> Workload:
    """Two 5x5 convolutions, three linear layers, 28x28 images: LeCun et al. 1998, with ReLU and max pooling."""
    net = Sketch()
    x = net.input((1, 28, 28))
    x = net.max_pool(net.activation(net.conv(x, "features.0", 6, 5, padding=2), "features.1"), "features.2", 2)
    x = net.max_pool(net.activation(net.conv(x, "features.3", 16, 5), "features.4"), "features.5", 2)
    x = net.activation(net.linear(net.flatten(x), "classifier.0", 120), "classifier.1")
    x = net.activation(net.linear(x, "classifier.2", 84), "classifier.3")
    return net.workload(name, net.linear(x, "classifier.4", 10), batch)


_BUILTIN: dict[str, Callable[[str, int], Workload]] = {
    "lenet": _lenet,
    "vgg-digits": lambda name, batch: _vgg(name, "16 16 M 32 32 M 64", (1, 8, 8), 10, batch),
    "vgg-fashion-mnist": lambda name, batch: _vgg(name, "16 16 M 32 32 M 64 64 M", (1, 28, 28), 10, batch),
    "vgg11-cifar": lambda name, batch: _vgg(name, _VGG11, (3, 32, 32), 10, batch),
    "vgg16-cifar": lambda name, batch: _vgg(name, _VGG16, (3, 32, 32), 10, batch),
    "resnet18-imagenet": lambda name, batch: resnet(name, batch, (2, 2, 2, 2), bottleneck=False),
    "resnet50-imagenet": lambda name, batch: resnet(name, batch, (3, 4, 6, 3), bottleneck=True),
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3-large": mobilenet_v3_large,
    "vit-b16": vit,
    "gpt-small": gpt,
}


def workload_names() -> list[str]:
    """Names of the built-in networks."""
    return sorted(_BUILTIN)


def builtin_workload(name: str, *, batch: int = 128) -> Workload:
    """A built-in network by name, with `batch` examples per training step."""
    if name not in _BUILTIN:
        raise ConfigError(f"no built-in workload '{name}'{did_you_mean(name, _BUILTIN)}")
    return _BUILTIN[name](name, batch)
