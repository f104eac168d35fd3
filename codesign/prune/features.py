"""Feature maps: catch what each layer puts out, before or after its activation, while the network runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode

from codesign.errors import DataError, ModelError, did_you_mean
from codesign.network import BATCH_NORMS, batch_statistics, evaluating, tensors
from codesign.prune.covariance import Spectrum, StreamingCovariance
from codesign.prune.settings import BatchNormMode, StructureConfig, Tap

_ACTIVATIONS = re.compile(
    "relu|leaky_relu|_prelu_kernel|elu|celu|selu|gelu|silu|mish|hardswish|hardtanh|hardsigmoid|sigmoid|tanh|softplus|clamp|"
    "clamp_min"
)
_ROWS = 8192  # rows summed in the precision of the feature map before float64 takes over


class _Taps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows each layer's output through a directly following batch norm to its activation, and hands it on.

    Where the output goes elsewhere (an add, a pooling, several readers), it is handed on as it is.
    """

    def __init__(self, tap: Tap, emit: Callable[[str, torch.Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tap = tap
        self._emit = emit
        self._open: dict[int, tuple[torch.Tensor, str]] = {}

    def opened(self, layer: str, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        """Forward hook of a layer."""
        self._open[id(output)] = (output, layer)

    def close(self) -> None:
        """Hand on what nobody read."""
        for tensor, layer in self._open.values():
            self._emit(layer, tensor)
        self._open.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1].rstrip("_")
        read = [self._open.pop(id(tensor)) for tensor in tensors(args) if id(tensor) in self._open]
        activation = _ACTIVATIONS.fullmatch(name) is not None
        norm = BATCH_NORMS.fullmatch(name) is not None
        for tensor, layer in read:
            if not norm and not (activation and self._tap is Tap.AFTER_ACTIVATION):
                self._emit(layer, tensor)  # before the operation, which may work in place
        result = func(*args, **(kwargs or {}))
        for _, layer in read:
            if norm:
                self._open[id(result[0])] = (result[0], layer)
            elif activation and self._tap is Tap.AFTER_ACTIVATION:
                self._emit(layer, result)
        return result


def moments(x: torch.Tensor) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and scatter about the mean of observations [n, C], summed in chunks on the tensor's own device."""
    mean = x.mean(0, dtype=torch.float64)
    scatter = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    rest = torch.zeros_like(mean)
    for rows in torch.split(x, _ROWS):
        centred = rows - mean.to(rows.dtype)
        scatter += (centred.T @ centred).double()
        rest += centred.sum(0, dtype=torch.float64)
    # What rounding the mean to the precision of the rows left over: the scatter about the true mean is smaller by it.
    rest /= max(len(x), 1)
    scatter -= len(x) * torch.outer(rest, rest)
    return len(x), (mean.to(x.dtype).double() + rest).cpu().numpy(), scatter.cpu().numpy()


class _Halves:
    """Two streams per layer: images are dealt out in turn."""

    def __init__(self) -> None:
        self.streams: dict[str, tuple[StreamingCovariance, StreamingCovariance]] = {}
        self._dealt: dict[str, int] = {}

    def take(self, layer: str, features: torch.Tensor, channel_dim: int) -> None:
        """Every position of every image is one observation of all channels."""
        maps = features.movedim(channel_dim, -1)
        channels = maps.shape[-1]
        pair = self.streams.setdefault(layer, (StreamingCovariance(channels), StreamingCovariance(channels)))
        dealt = self._dealt.get(layer, 0)
        self._dealt[layer] = dealt + len(maps)
        for half in (0, 1):
            rows = maps[(half + dealt) % 2 :: 2].reshape(-1, channels)
            if len(rows):
                pair[half].add(*moments(rows if rows.dtype == torch.float64 else rows.float()))


def layer_spectra(
    model: nn.Module, batches: Iterable[Any], config: StructureConfig, layers: Sequence[str]
) -> dict[str, Spectrum]:
    """Run `batches` through the network and return the spectrum of the feature map of each named layer.

    No gradients, no change to running statistics. Convolutions have their channels in dimension 1, all other layers in
    the last.

    Parameters
    ----------
    batches : network inputs: tensors, or tuples or lists whose first item is one (the rest, such as labels, is ignored)
    config : its tap, batch-norm mode and observations per channel matter here. Too few observations are an error before
        any eigenvalue is computed
    """
    halves = _Halves()
    known = dict(model.named_modules())
    for layer in layers:
        if layer not in known:
            raise ModelError(f"the network has no module '{layer}'{did_you_mean(layer, known)}")
    modules = {layer: known[layer] for layer in layers}
    dims = {layer: 1 if isinstance(module, _ConvNd) else -1 for layer, module in modules.items()}
    taps = _Taps(config.tap, lambda layer, features: halves.take(layer, features, dims[layer]))
    mode = batch_statistics if config.batch_norm is BatchNormMode.BATCH else evaluating
    with ExitStack() as stack:
        stack.enter_context(mode(model))
        stack.enter_context(torch.no_grad())
        for layer, module in modules.items():
            stack.callback(module.register_forward_hook(partial(taps.opened, layer)).remove)
        for batch in batches:
            with taps:
                model(inputs_of(batch))
            taps.close()
    if not halves.streams:
        raise DataError("batches is empty, or the network did not run any of the layers; give at least one batch")
    for layer in layers:
        if layer not in halves.streams:
            raise ModelError(
                f"layer '{layer}' was never called as a module, so its feature map is not known; leave it out"
            )
    seen = {layer: (len(one.mean), one.count + other.count) for layer, (one, other) in halves.streams.items()}
    check_observations(seen, config)
    return {layer: Spectrum.of(*halves.streams[layer]) for layer in layers}


def check_observations(seen: Mapping[str, tuple[int, int]], config: StructureConfig) -> None:
    """Refuse too few observations. `seen`: layer name -> channels and observations."""
    lack = {layer: config.observations_per_channel * channels / count for layer, (channels, count) in seen.items()}
    layer = max(lack, key=lambda name: lack[name])
    if lack[layer] > 1:
        channels, count = seen[layer]
        raise DataError(
            f"layer '{layer}': {count} observations (images x positions) are too few for "
            f"{channels} channels, {ceil(config.observations_per_channel * channels)} are needed "
            f"({config.observations_per_channel:g} a channel); give {ceil(lack[layer])} times as many images, or lower "
            "observations_per_channel"
        )


def inputs_of(batch: Any) -> torch.Tensor:
    """The network's input in a batch."""
    found: torch.Tensor = batch[0] if isinstance(batch, (tuple, list)) else batch
    return found


def noise_batches(
    shape: Sequence[int], images: int, generator: torch.Generator, *, batch: int = 256
) -> Iterator[torch.Tensor]:
    """Normally distributed random images of `shape` [C, H, W], as the input of method M2 before any training."""
    for start in range(0, images, batch):
        yield torch.randn(min(batch, images - start), *shape, generator=generator)
