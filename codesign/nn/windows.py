"""What each output of a convolution or linear layer reads, as columns: the samples of `codesign.quantize.moments`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from codesign.errors import ModelError

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CHUNK = 1 << 24  # numbers of a chunk of windows


def groups_of(layer: Layer) -> int:
    """Groups of channels that read inputs of their own; 1 for a linear layer."""
    return 1 if isinstance(layer, nn.Linear) else layer.groups


def columns_of(
    layer: Layer, inputs: torch.Tensor, outputs: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Chunks of (windows [groups * n, samples], outputs [channels, samples]), n the weights of a channel in C order."""
    if isinstance(layer, nn.Linear):
        x, y = inputs.flatten(0, -2), outputs.flatten(0, -2)
        for own in _chunks(len(x), x.shape[1]):
            yield x[own].T, y[own].T
        return
    if inputs.ndim != layer.weight.ndim:
        raise ModelError(f"a convolution reads a batch of {layer.weight.ndim} dimensions here, got {inputs.ndim}")
    padded = _padded(layer, inputs)
    samples = outputs[0, 0].numel()
    for own in _chunks(len(padded), groups_of(layer) * layer.weight[0].numel() * samples):
        yield _windows(layer, padded[own], outputs.shape[2:]), outputs[own].transpose(0, 1).flatten(1)


def _chunks(count: int, numbers: int) -> Iterator[slice]:
    step = max(1, _CHUNK // numbers)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _padded(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    both_sides: list[int] = layer._reversed_padding_repeated_twice
    if not any(both_sides):
        return x
    return functional.pad(x, both_sides, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)


def _windows(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: torch.Tensor, positions: torch.Size) -> torch.Tensor:
    """[channels * kernel, images * positions]"""
    images, channels = x.shape[:2]
    columns = x.new_empty((channels, math.prod(layer.kernel_size), images, *positions))
    for k, offset in enumerate(itertools.product(*map(range, layer.kernel_size))):
        cut = [
            slice(at * dilation, at * dilation + stride * (count - 1) + 1, stride)
            for at, dilation, stride, count in zip(offset, layer.dilation, layer.stride, positions, strict=True)
        ]
        every = slice(None)
        columns[:, k] = x[(every, every, *cut)].transpose(0, 1)
    return columns.flatten(0, 1).flatten(1)
