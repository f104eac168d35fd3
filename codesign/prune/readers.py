"""Who reads which channels: the products with a weight of their own, as reconstruction needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from codesign.network import HeadPrunedAttention, Product
from codesign.prune.groups import ChannelGroups

_PROJECTIONS = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class Shift:
    """What can take a constant that adds the same to every position of a reader's output.

    tensor : name of a bias, or of the running mean of the batch norm behind; sign : +1 for a bias, -1 for a running mean
    part, parts : of a packed bias only this part of `parts` belongs to the reader
    """

    tensor: str
    sign: int = 1
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """A convolution, a linear layer or one projection of an attention, as a reader of channels.

    module : its name; weight : name of the stored tensor; argument : which input of the module it reads
    axis : dimension of the weight along which its inputs lie
    part, parts : of a packed weight only this part of `parts` along dimension 0 belongs to it
    classes : int [blocks, channels]; class of each channel that it reads. The blocks of a grouped convolution read
        different channels, and each its own only
    places : columns of the weight that one channel has: 49 after 7 x 7 maps were flattened
    shift : None where nothing can take a constant, and where zero padding or a transposed convolution makes what it adds
        differ from place to place
    """

    module: str
    weight: str
    argument: int = 0
    axis: int = 1
    part: int = 0
    parts: int = 1
    classes: np.ndarray
    places: int = 1
    shift: Shift | None

    @property
    def name(self) -> str:
        """The module, and the projection where it is an attention."""
        projection = self.weight.rpartition(".")[2] != "weight"
        return f"{self.module} ({_PROJECTIONS[self.argument]})" if projection else self.module

    def observations(self, x: torch.Tensor, convolution: bool) -> torch.Tensor:
        """An input of the module as [images, positions, blocks, channels]."""
        blocks = len(self.classes)
        if convolution:
            last = x.movedim(1, -1)
            return last.reshape(len(x), -1, blocks, last.shape[-1] // blocks)
        places = x.reshape(len(x), -1, x.shape[-1] // self.places, self.places).mT
        return places.reshape(len(x), -1, 1, x.shape[-1] // self.places)

    def columns(self, weight: torch.Tensor) -> torch.Tensor:
        """A weight, or its part, as [blocks, outputs of a block, channels, places and kernel positions]."""
        blocks = len(self.classes)
        if self.axis == 0:  # transposed convolution: [in, out / groups, ...]
            return weight.reshape(blocks, weight.shape[0] // blocks, weight.shape[1], -1).transpose(1, 2)
        own = weight.chunk(self.parts)[self.part]
        return own.reshape(blocks, own.shape[0] // blocks, own.shape[1] // self.places, -1)

    def put(self, weight: torch.Tensor, columns: torch.Tensor) -> None:
        """Write what `columns` gave back into a weight."""
        if self.axis == 0:
            weight.copy_(columns.transpose(1, 2).reshape(weight.shape))
        else:
            own = weight.chunk(self.parts)[self.part]
            own.copy_(columns.reshape(own.shape))


@dataclass(frozen=True, kw_only=True, eq=False)
class Readers:
    """Every product of a network that reads channels.

    plain : those that can be given other weights, in the order in which the network runs them
    others : classes that are read in another way -> where and how
    """

    plain: tuple[Reader, ...]
    others: dict[int, str]

    def of(self, wanted: Callable[[Reader], bool]) -> Readers:
        """Those of the plain readers that are wanted."""
        return Readers(plain=tuple(filter(wanted, self.plain)), others=self.others)

    @cached_property
    def by_module(self) -> dict[str, list[Reader]]:
        """Readers of each module, by its name."""
        found: dict[str, list[Reader]] = {}
        for reader in self.plain:
            found.setdefault(reader.module, []).append(reader)
        return found


def readers_of(model: nn.Module, groups: ChannelGroups) -> Readers:
    """Find the readers of all channels."""
    plain: list[Reader] = []
    others: dict[int, str] = {}
    products = [(product, array) for product in groups.findings.products for array in _read(product)]
    runs = Counter((product.place.module, _first(product)) for product, _ in products)
    for product, array in products:
        if runs[product.place.module, _first(product)] > 1:
            reader: Reader | str = "runs more than once, so one weight cannot serve every run"
        else:
            reader = _reader(model, groups, product)
        if isinstance(reader, Reader):
            plain.append(reader)
        else:
            classes = groups.classes.of[array.reshape(-1).numpy()]
            others |= dict.fromkeys(np.unique(classes).tolist(), f"{product.place} {reader}")
    return Readers(plain=tuple(plain), others=others)


def _read(product: Product) -> tuple[torch.Tensor, ...]:
    """Labels of what a product sums over, which stand behind those of its result."""
    return product.counted[len(product.result) :]


def _first(product: Product) -> int:
    """Atom of the first output of a weight, which tells the projections of an attention apart."""
    return 0 if product.outputs is None else int(product.outputs[0])


def _reader(model: nn.Module, groups: ChannelGroups, product: Product) -> Reader | str:
    """The reader that a product is, or why no other weight can be given to it."""
    path = product.place.module
    module = model.get_submodule(path)
    if type(module) in (nn.MultiheadAttention, HeadPrunedAttention):
        reader = _projection(path, groups, product)
    elif isinstance(module, (_ConvNd, nn.Linear)):
        reader = _layer(module, path, groups, product)
    else:
        reader = None
    if reader is None or reader.weight not in groups.stored or not groups.stored[reader.weight].is_parameter:
        return "is no plain convolution or linear layer with a weight of its own"
    if groups.stored[reader.weight].aliases:
        return f"shares its weight with '{groups.stored[reader.weight].aliases[0]}'"
    return reader


def _layer(module: _ConvNd | nn.Linear, path: str, groups: ChannelGroups, product: Product) -> Reader | None:
    name = f"{path}.weight" if path else "weight"
    if name not in groups.stored:
        return None
    axis = 0 if isinstance(module, _ConvTransposeNd) else 1
    columns = groups.classes.of[groups.stored[name].atoms[axis]]
    blocks = module.groups if isinstance(module, _ConvNd) else 1
    own = columns.reshape(blocks, -1) if axis == 0 else np.tile(columns, (blocks, 1))
    places = _places(product) if isinstance(module, nn.Linear) else 1
    shift = _shift(module, path, groups)
    return Reader(module=path, weight=name, axis=axis, classes=own[:, ::places], places=places, shift=shift)


def _projection(path: str, groups: ChannelGroups, product: Product) -> Reader | None:
    """One of the three projections of an attention: the one whose weight has the product's outputs."""
    if product.outputs is None:
        return None
    packed = f"{path}.in_proj_weight"
    names = [packed] if packed in groups.stored else [f"{path}.{letter}_proj_weight" for letter in "qkv"]
    bias = f"{path}.in_proj_bias"
    for n, name in enumerate(names):
        stored = groups.stored[name]
        found = np.flatnonzero(stored.atoms[0] == _first(product))
        if len(found):
            argument = int(found[0]) * 3 // len(stored.atoms[0]) if name == packed else n
            return Reader(
                module=path,
                weight=name,
                argument=argument,
                part=argument if name == packed else 0,
                parts=3 if name == packed else 1,
                classes=groups.classes.of[stored.atoms[1]][None],
                shift=Shift(bias, part=argument, parts=3) if bias in groups.stored else None,
            )
    return None


def _places(product: Product) -> int:
    """Columns in a row that hold the same channel at different places of a flattened map."""
    atoms = product.counted[-1].reshape(-1).numpy()
    ends = np.flatnonzero(np.diff(atoms)) + 1
    runs = np.diff([0, *ends.tolist(), len(atoms)])
    return gcd(*runs.tolist())


def _shift(module: _ConvNd | nn.Linear, path: str, groups: ChannelGroups) -> Shift | None:
    if isinstance(module, _ConvTransposeNd):
        return None
    if isinstance(module, _ConvNd) and module.padding_mode == "zeros" and _padded(module):
        return None
    if module.bias is not None:
        return Shift(f"{path}.bias" if path else "bias")
    norm = groups.findings.norm_after.get(int(groups.layers[path][0])) if path in groups.layers else None
    if norm is not None and f"{norm}.running_mean" in groups.stored:
        return Shift(f"{norm}.running_mean", sign=-1)
    return None


def _padded(module: _ConvNd) -> bool:
    if isinstance(module.padding, str):
        return module.padding == "same" and prod(module.kernel_size) > 1
    return any(module.padding)
