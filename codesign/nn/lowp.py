"""Low-precision training: the convolutions and linear layers of a network compute in a design point's formats.

Forward, y = conv(A(x), W(w)); backward, with e = E(dL/dy): dL/dx = conv'(e, W(w)), dL/dw = G(conv''(A(x), e)), where A, W,
E and G round to the layer's activation, weight, error and gradient format. Rounding passes gradients on unchanged (the
straight-through estimator; nothing clips, since every tensor is scaled by its own largest magnitude). Master weights,
biases, batch norm and the optimizer stay float32; products are summed in float32, whatever the accumulator format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from codesign.design import DesignPoint, LayerFormats
from codesign.errors import ModelError, did_you_mean
from codesign.formats import FloatFormat
from codesign.quantize import absmax_scale, round_to_format

_FLOAT32 = FloatFormat.parse("float32")


@dataclass(frozen=True, slots=True)
class Rounder:
    """Rounds a tensor to `fmt`, nearest-even, scaled anew at every call by the power of two at which nothing clips.

    axis : axis of the channels that have their own scale; None: one scale for the tensor
    """

    fmt: FloatFormat
    axis: int | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.fmt == _FLOAT32:
            return x
        if self.fmt.exponent_bits == 8:  # float32's own range needs no scale
            return round_to_format(x, self.fmt)
        try:
            scale = absmax_scale(x, self.fmt, axis=self.axis)
        except ModelError:
            if torch.isfinite(x).any():
                raise
            return x  # a training that has blown up: its loss is not finite either, and ends it
        return round_to_format(x, self.fmt, scale=scale, axis=self.axis)


class _Rounded(torch.autograd.Function):
    """Identity with rounding on the way forward, on the way back, or on both."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, there: Rounder | None, back: Rounder | None) -> torch.Tensor:
        ctx.back = back
        return there(x) if there else x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return (ctx.back(gradient) if ctx.back else gradient), None, None


def rounded(x: torch.Tensor, *, there: Rounder | None = None, back: Rounder | None = None) -> torch.Tensor:
    """`x` rounded by `there`; its gradient, rounded by `back`."""
    result: torch.Tensor = _Rounded.apply(x, there, back)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounders:
    """How one layer rounds."""

    weight: Rounder
    activation: Rounder
    error: Rounder
    gradient: Rounder

    @classmethod
    def of(cls, formats: LayerFormats) -> Rounders:
        """One scale per output channel for the weight and its gradient, one per tensor for activation and error."""
        return cls(
            weight=Rounder(formats.weight, 0),
            activation=Rounder(formats.activation),
            error=Rounder(formats.error),
            gradient=Rounder(formats.gradient, 0),
        )


class LowPrecisionConv2d(nn.Conv2d):
    """A convolution that computes in its formats; made by `convert`, undone by `strip`."""

    rounders: Rounders

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        r = self.rounders
        weight = rounded(self.weight, there=r.weight, back=r.gradient)
        return rounded(self._conv_forward(rounded(input, there=r.activation), weight, self.bias), back=r.error)


class LowPrecisionLinear(nn.Linear):
    """A linear layer that computes in its formats; made by `convert`, undone by `strip`."""

    rounders: Rounders

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        r = self.rounders
        weight = rounded(self.weight, there=r.weight, back=r.gradient)
        return rounded(nn.functional.linear(rounded(input, there=r.activation), weight, self.bias), back=r.error)


_LOW = {nn.Conv2d: LowPrecisionConv2d, nn.Linear: LowPrecisionLinear}
_PLAIN = {low: plain for plain, low in _LOW.items()}


def convert(network: nn.Module, point: DesignPoint) -> None:
    """Let every convolution and linear layer of `network` compute in its formats; parameters and their names stay.

    Layers that are converted already get their formats anew. A layer that `point` names and the network lacks, and
    layers with products of a kind that is not covered, raise `ModelError`, and nothing is changed.
    """
    modules = dict(network.named_modules())
    for name, _ in point.formats:
        if type(modules.get(name)) not in (*_LOW, *_PLAIN):
            known = [n for n, module in modules.items() if type(module) in (*_LOW, *_PLAIN)]
            raise ModelError(
                f"formats: the network has no convolution or linear layer '{name}'{did_you_mean(name, known)}"
            )
    for name, module in modules.items():
        if isinstance(module, nn.modules.conv._ConvNd | nn.Bilinear | nn.MultiheadAttention | nn.RNNBase) and (
            type(module) not in (*_LOW, *_PLAIN)
        ):
            raise ModelError(
                f"layer '{name}': low-precision training covers Conv2d and Linear, not {type(module).__name__}"
            )
    for name, module in modules.items():
        low = _LOW.get(type(module), type(module) if type(module) in _PLAIN else None)
        if low is not None:
            module.__class__ = low
            module.rounders = Rounders.of(point.formats_of(name))


def strip(network: nn.Module) -> None:
    """Undo `convert`: the same parameters, in float32 layers."""
    for module in network.modules():
        if type(module) in _PLAIN:
            module.__class__ = _PLAIN[type(module)]
            del module.rounders
