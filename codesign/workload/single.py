"""Networks of one layer, to price a layer alone."""

from __future__ import annotations

from codesign.errors import ModelError
from codesign.network import ChannelGroup
from codesign.workload.layers import Convolution, Extent, Layer, Linear
from codesign.workload.network import Workload


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
        outputs=Extent((("linear", 1),)),
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
        outputs=Extent((("conv", 1),)),
    )
    return _alone(layer, in_channels, out_channels, batch)


def _alone(layer: Convolution | Linear, in_channels: int, out_channels: int, batch: int) -> Workload:
    layers: tuple[Layer, ...] = (layer,)
    groups = (
        ChannelGroup(name="input", layers=(), channels=in_channels, units=0, unit_channels=(), why_fixed="the input"),
        ChannelGroup(
            name=layer.name, layers=(layer.name,), channels=out_channels, units=out_channels, unit_channels=(1,)
        ),
    )
    return Workload(name=layer.name, batch=batch, layers=layers, groups=groups)
