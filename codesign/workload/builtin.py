"""Built-in network definitions that need no torch."""

from __future__ import annotations

import math
from collections.abc import Callable

from codesign.errors import ConfigError, did_you_mean
from codesign.workload.layers import Convolution, Extent, Layer, Linear, VectorKind, VectorOp
from codesign.workload.network import ChannelGroup, Workload


class _Chain:
    """A network under construction, one layer after the other."""

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        self.layers: list[Layer] = []
        self.sizes = {"input": channels}
        self.producers: dict[str, list[str]] = {"input": []}
        self.consumers: dict[str, list[str]] = {"input": []}
        self.pinned = {"input": "the network's input"}
        self.group, self.size, self.per_channel, self.owner = "input", size, math.prod(size), ""

    def _weight_layer(self, name: str, channels: int) -> None:
        self.consumers[self.group].append(name)
        self.sizes[name], self.producers[name], self.consumers[name] = channels, [name], []
        self.group, self.owner = name, name

    def conv(
        self, name: str, channels: int, kernel: int, *, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        source, size = self.group, self.size
        self.size = tuple((x + 2 * padding - kernel) // stride + 1 for x in size)
        self.per_channel = math.prod(self.size)
        self._weight_layer(name, channels)
        dims = len(size)
        self.layers.append(
            Convolution(
                name=name, in_channels=self.sizes[source], out_channels=channels, kernel=(kernel,) * dims,
                stride=(stride,) * dims, padding=(padding,) * dims, dilation=(1,) * dims, groups=1, in_size=size,
                out_size=self.size, bias=bias, inputs=Extent(((source, 1),)), out_group=name,
                needs_input_grad=source != "input",
            )
        )  # fmt: skip

    def linear(self, name: str, features: int) -> None:
        source, multiplier = self.group, self.per_channel
        self.size, self.per_channel = (), 1
        self._weight_layer(name, features)
        self.layers.append(
            Linear(
                name=name, in_features=self.sizes[source] * multiplier, out_features=features, rows=1, bias=True,
                inputs=Extent(((source, multiplier),)), out_group=name, needs_input_grad=source != "input",
            )
        )  # fmt: skip

    def vector(self, name: str, kind: VectorKind, *, weights: int = 0) -> None:
        self._vector(name, kind, self.per_channel, weights)

    def pool(self, name: str, kernel: int) -> None:
        before = self.per_channel
        self.size = tuple(x // kernel for x in self.size)
        self.per_channel = math.prod(self.size)
        self._vector(name, VectorKind.POOL, before, 0)

    def _vector(self, name: str, kind: VectorKind, before: int, weights: int) -> None:
        channels = self.sizes[self.group]
        self.layers.append(
            VectorOp(
                name=name, kind=kind, inputs=Extent(((self.group, before),)),
                outputs=Extent(((self.group, self.per_channel),)),
                weights=Extent(((self.group, weights),)) if weights else Extent(), in_elements=channels * before,
                out_elements=channels * self.per_channel, parameters=channels * weights, owner=self.owner,
            )
        )  # fmt: skip

    def workload(self, name: str, batch: int) -> Workload:
        self.pinned[self.group] = "the network's output"
        self.vector("loss", VectorKind.LOSS)
        groups = tuple(
            ChannelGroup(
                name=group, channels=size, producers=tuple(self.producers[group]),
                consumers=tuple(self.consumers[group]), pinned=self.pinned.get(group, ""),
            )
            for group, size in self.sizes.items()
        )  # fmt: skip
        return Workload(name=name, batch=batch, layers=tuple(self.layers), groups=groups)


def _vgg16_cifar(batch: int) -> Workload:
    """VGG-16 with batch norm for 32 x 32 images: 13 convolutions and one classifier. Simonyan & Zisserman 2015."""
    chain, index = _Chain(3, (32, 32)), 0
    for block in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        for channels in block:
            chain.conv(f"features.{index}", channels, 3, padding=1)
            chain.vector(f"features.{index + 1}", VectorKind.BATCH_NORM, weights=2)
            chain.vector(f"features.{index + 2}", VectorKind.ACTIVATION)
            index += 3
        chain.pool(f"features.{index}", 2)
        index += 1
    chain.linear("classifier", 10)
    return chain.workload("vgg16-cifar", batch)


_BUILTIN: dict[str, Callable[[int], Workload]] = {"vgg16-cifar": _vgg16_cifar}


def workload_names() -> list[str]:
    """Names of the built-in networks."""
    return sorted(_BUILTIN)


def builtin_workload(name: str, *, batch: int = 128) -> Workload:
    """A built-in network by name."""
    if name not in _BUILTIN:
        raise ConfigError(f"no built-in workload '{name}'{did_you_mean(name, _BUILTIN)}")
    return _BUILTIN[name](batch)
