"""A whole network in few bits, each layer for what it puts out on a few images; no labels, no training.

All images go through the network once, twice each: the first half of the batch meets the rounded weights of the layers
before it, the second half the weights as they were. When a layer is reached, its inputs are those that it will really have,
and the outputs that it ought to give are those of the dense network: so a layer makes up for what earlier layers have lost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from codesign.errors import ModelError, located
from codesign.nn.moments import LAYERS, Layer, moments_of
from codesign.quantize import OutputFit, fit_outputs

_PROVED = 16  # images on which the result is run once more
_SAME = 1e-3  # share of the largest output by which it may differ there


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedNetwork:
    """A network with rounded weights.

    network : a copy; its weights are values of the chosen formats, its biases and batch norms are corrected
    layers : what was chosen for each layer, by name, in the order in which they are reached
    biases : for each layer the tensor that takes its correction: a batch norm's running mean, or the layer's own bias
    kept : parameters of two or more dimensions that stay as they were, as no such layer reads them
    """

    network: nn.Module
    layers: dict[str, OutputFit]
    biases: dict[str, str]
    kept: tuple[str, ...]


@torch.no_grad()
def quantize_network(
    network: nn.Module, images: torch.Tensor, bits: int | Mapping[str, int], *, allow_zeros: bool = False
) -> CalibratedNetwork:
    """Round the weights of every convolution and linear layer, the first and the last included.

    images : [count, ...], as the network reads them; some hundred are enough, labels are not needed
    bits : width of the weights, 2 to 16, for all layers or by the name of a layer

    In evaluation mode. A layer without a bias gets one unless a batch norm follows. Raises `ModelError` where a layer is not
    reached, where batch norm has no running statistics, and where the images of a batch are not independent of each other.
    """
    result = copy.deepcopy(network).eval()
    walk = _Walk(result, bits, len(images), allow_zeros)
    outputs = walk.run(images)
    biases = walk.finish()
    _prove(result, images, outputs)
    weights = {f"{name}.weight" for name in walk.fits}
    kept = tuple(name for name, tensor in result.named_parameters() if tensor.ndim >= 2 and name not in weights)
    return CalibratedNetwork(network=result, layers=walk.fits, biases=biases, kept=kept)


class _Walk:
    """One pass over both halves of the batch; weights stay as they were until `finish`."""

    def __init__(self, network: nn.Module, bits: int | Mapping[str, int], count: int, allow_zeros: bool) -> None:
        self.network, self.bits, self.count, self.allow_zeros = network, bits, count, allow_zeros
        self.layers: dict[str, Layer] = {n: m for n, m in network.named_modules() if isinstance(m, LAYERS)}
        self.fits: dict[str, OutputFit] = {}
        self.followed_by: dict[str, str] = {}
        self._last: tuple[str, torch.Tensor] | None = None
        for name, module in network.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
                raise ModelError(f"batch norm '{name}' has no running statistics; its outputs depend on the batch")

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """Outputs of the network as quantized."""
        handles = []
        for name, module in self.network.named_modules():
            if isinstance(module, LAYERS):
                handles.append(module.register_forward_hook(self._layer_hook(name)))
            elif isinstance(module, nn.modules.batchnorm._BatchNorm):
                handles.append(module.register_forward_pre_hook(self._norm_hook(name)))
        try:
            outputs: torch.Tensor = self.network(torch.cat([images, images]))
        finally:
            for handle in handles:
                handle.remove()
        missed = [name for name in self.layers if name not in self.fits]
        if missed:
            raise ModelError(
                f"layer '{missed[0]}' is not called with these images ({len(missed)} layers are not), so nothing is known of "
                "its inputs; leave it out of the network, or call it as a module"
            )
        return outputs[: self.count]

    def _layer_hook(self, name: str) -> Any:
        def hook(layer: Layer, inputs: tuple[torch.Tensor], outputs: torch.Tensor) -> torch.Tensor:
            (both,) = inputs
            real, n = both[: self.count], self.count
            if name not in self.fits:
                with located(f"layer '{name}'"):
                    moments = moments_of(layer, real, outputs[n:] - outputs[:n])
                    bits = self.bits if isinstance(self.bits, int) else self.bits[name]
                    self.fits[name] = fit_outputs(layer.weight, bits, moments, allow_zeros=self.allow_zeros)
            weight, bias = self._corrected(name, layer)
            result = torch.cat([_outputs(layer, real, weight, bias), outputs[n:]])
            self._last = name, result
            return result

        return hook

    def _norm_hook(self, name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if self._last is not None and inputs[0] is self._last[1]:
                self.followed_by[self._last[0]] = name

        return hook

    def _corrected(self, name: str, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        fit, like = self.fits[name], layer.weight
        bias = torch.from_numpy(fit.bias).to(like)
        return torch.from_numpy(fit.values).to(like), bias if layer.bias is None else layer.bias + bias

    def finish(self) -> dict[str, str]:
        """Write weights and corrections into the network; returns where the corrections went."""
        where = {}
        for name, layer in self.layers.items():
            weight, bias = self._corrected(name, layer)
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(bias)
                where[name] = f"{name}.bias"
            elif name in self.followed_by:
                norm: Any = self.network.get_submodule(self.followed_by[name])
                norm.running_mean -= bias
                where[name] = f"{self.followed_by[name]}.running_mean"
            else:
                layer.bias = nn.Parameter(bias)
                where[name] = f"{name}.bias"
        return where


def _outputs(layer: Layer, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight, bias)
    result: torch.Tensor = layer._conv_forward(x, weight, bias)
    return result


def _prove(network: nn.Module, images: torch.Tensor, outputs: torch.Tensor) -> None:
    """The finished network must give what was seen while it was being made."""
    again, before = network(images[:_PROVED]), outputs[:_PROVED]
    worst = float((again - before).abs().max() / before.abs().max().clamp(min=1e-30))
    if not worst <= _SAME:
        raise ModelError(
            f"the quantized network gives other outputs than its layers gave one by one (by {worst:.2g} of the largest); "
            "the images of a batch must not depend on each other, and a convolution without bias must be read by its batch "
            "norm alone"
        )
