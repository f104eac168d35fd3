"""Networks of one layer, to price a layer alone."""

from __future__ import annotations

from codesign.errors import ModelError
from codesign.workload.layers import Convolution, Extent, Layer, Linear
from codesign.workload.network import ChannelGroup, Workload


def single_linear(*, rows: int, in_features: int, out_features: int, batch: int) -> Workload:
    """One linear layer, with an input that needs a gradient and without bias."""
    layer = Linear(
        name="linear",
        sources=("input",),
        in_features=in_features,
        out_features=out_features,
        rows=rows,
        bias=False,
        inputs=Extent((("input", 1),)),
        out_group="linear",
    )
    return _alone(layer, in_features, out_features, batch)


def single_convolution(
    *,
    size: tuple[int, int],
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    batch: int,
) -> Workload:
    """One convolution, with an input that needs a gradient and without bias."""
    for name, values in (("size", size), ("in", (in_channels,)), ("out", (out_channels,)), ("kernel", kernel),
                         ("stride", stride), ("dilation", dilation), ("groups", (groups,))):  # fmt: skip
        if min(values) < 1:
            raise ModelError(f"convolution: {name} must be positive, got {min(values)}")
    out_size = tuple(
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, p, d, k, t in zip(size, padding, dilation, kernel, stride, strict=True)
    )
    if min(out_size) < 1:
        raise ModelError(f"convolution: the kernel {kernel} reaches beyond the padded image {size}")
    if in_channels % groups or out_channels % groups:
        raise ModelError(
            f"convolution: {in_channels} and {out_channels} channels cannot be divided into {groups} groups"
        )
    layer = Convolution(
        name="conv",
        sources=("input",),
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        in_size=size,
        out_size=out_size,
        bias=False,
        inputs=Extent((("input", 1),)),
        out_group="conv",
    )
    return _alone(layer, in_channels, out_channels, batch)


def _alone(layer: Convolution | Linear, in_channels: int, out_channels: int, batch: int) -> Workload:
    layers: tuple[Layer, ...] = (layer,)
    groups = (
        ChannelGroup(name="input", channels=in_channels, producers=(), consumers=(layer.name,), pinned="the input"),
        ChannelGroup(name=layer.name, channels=out_channels, producers=(layer.name,), consumers=()),
    )
    return Workload(name=layer.name, batch=batch, layers=layers, groups=groups)
