"""A network under construction: layers are added one after the other, channels and tensors are followed through it.

Both the built-in networks and the tracer of torch modules are written in its words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from codesign.errors import ModelError
from codesign.workload.channels import Channels
from codesign.workload.layers import (
    NOTHING,
    Convolution,
    Embedding,
    Extent,
    Layer,
    Linear,
    Matmul,
    VectorKind,
    VectorOp,
)
from codesign.workload.network import ChannelGroup, Workload
from codesign.workload.shapes import TRACED_BATCH, Atom, Dim, Shape, extent_of, has_batch, size_of, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor of one training step.

    source : name of the layer that made it, or of the network's input
    owner : the last weight layer before it, or empty
    needs_grad : something before it has parameters
    """

    shape: Shape
    source: str
    owner: str = ""
    needs_grad: bool = False


class Builder:
    """Collects layers in order of execution."""

    def __init__(self) -> None:
        self.channels = Channels()
        self._layers: list[Layer] = []
        self._made: dict[str, Tensor] = {}  # by source
        self._names: Counter[str] = Counter()
        self._weights: dict[str, tuple[str, Dim, Dim]] = {}  # parameter -> layer, its input and output channels

    def _unique(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"

    def _add(self, layer: Layer, shape: Shape, owner: str) -> Tensor:
        self._layers.append(layer)
        self._made[layer.name] = Tensor(shape=shape, source=layer.name, owner=owner, needs_grad=True)
        return self._made[layer.name]

    def input(self, sizes: Sequence[int], *, channels: bool = True) -> Tensor:
        """An input of the network without its batch dimension; its first dimension is the channels, if it has any."""
        name = self._unique("input")
        dims: list[Dim] = [(Atom(TRACED_BATCH, is_batch=True),)]
        for i, size in enumerate(sizes):
            first = channels and i == 0
            dims.append((self.channels.new(name, size, "the network's input") if first else Atom(size),))
        return Tensor(shape=tuple(dims), source=name)

    def _inputs_of(self, name: str, dim: Dim) -> Extent:
        """How a weight layer's inputs follow the channels; a fixed size becomes a group of its own."""
        extent = extent_of((dim,))
        if extent.terms:
            return extent
        return extent_of(((self.channels.new(f"{name}.input", size_of(dim), "not channels of one layer"),),))

    def _share(self, weight: str, name: str, inputs: Dim, outputs: Dim) -> str:
        """The layer that has used this parameter before; then the channels of both are tied. Empty for a new one."""
        if not weight:
            return ""
        if weight not in self._weights:
            self._weights[weight] = (name, inputs, outputs)
            return ""
        layer, *dims = self._weights[weight]
        for mine, other in zip((inputs, outputs), dims, strict=True):
            self.channels.meet(mine, other)
        return layer

    def convolution(
        self,
        x: Tensor,
        name: str,
        out_channels: int,
        kernel: Sequence[int],
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        out_size: Sequence[int],
        groups: int = 1,
        bias: bool = True,
        transposed: bool = False,
        weight: str = "",
    ) -> Tensor:
        """A convolution over dimensions 2, 3, ... of `x`. `weight`: name of the parameter, where it may be shared."""
        name = self._unique(name)
        in_channels = size_of(x.shape[1])
        out = self.channels.new(name, out_channels)
        if groups > 1:
            if groups == in_channels == out_channels and len(x.shape[1]) == 1 and len(x.shape[1][0].parts) == 1:
                self.channels.tie(x.shape[1][0].parts[0][0], name)
            else:
                self.channels.pin((x.shape[1], (out,)), f"'{name}' has {groups} groups")
        shares = self._share(weight, name, x.shape[1], (out,))
        layer = Convolution(
            name=name,
            sources=(x.source,),
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=tuple(kernel),
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            groups=groups,
            in_size=tuple(size_of(dim) for dim in x.shape[2:]),
            out_size=tuple(out_size),
            transposed=transposed,
            bias=bias,
            inputs=self._inputs_of(name, x.shape[1]),
            out_group=name,
            needs_input_grad=x.needs_grad,
            shares=shares,
        )
        return self._add(layer, (x.shape[0], (out,), *((Atom(size),) for size in out_size)), name)

    def linear(self, x: Tensor, name: str, out_features: int, *, bias: bool = True, weight: str = "") -> Tensor:
        """A linear layer over the last dimension of `x`. `weight`: name of the parameter, where it may be shared."""
        name = self._unique(name)
        out = self.channels.new(name, out_features)
        shares = self._share(weight, name, x.shape[-1], (out,))
        layer = Linear(
            name=name,
            sources=(x.source,),
            in_features=size_of(x.shape[-1]),
            out_features=out_features,
            rows=math.prod(size_of(dim) for dim in _without_batch(x.shape[:-1])),
            bias=bias,
            inputs=self._inputs_of(name, x.shape[-1]),
            out_group=name,
            needs_input_grad=x.needs_grad,
            shares=shares,
        )
        self.channels.pin(x.shape[:-1], f"'{name}' is applied along them")
        return self._add(layer, (*x.shape[:-1], (out,)), name)

    def embedding(self, index: Tensor, name: str, entries: int, width: int, *, weight: str = "") -> Tensor:
        """A look-up of every number of `index`. `weight`: name of the parameter, where it may be shared."""
        name = self._unique(name)
        out = self.channels.new(name, width)
        if self._share(
            weight, name, (out,), (Atom(entries, free=True),)
        ):  # a table is the transpose of an output layer
            raise ModelError(f"embedding '{name}': a table that another layer has used before is not understood")
        layer = Embedding(
            name=name,
            sources=(index.source,),
            entries=entries,
            width=width,
            rows=math.prod(size_of(dim) for dim in _without_batch(index.shape)),
            shared=not has_batch(index.shape),
            out_group=name,
            owner="",
        )
        return self._add(layer, (*index.shape, (out,)), "")

    def matmul(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        """a[..., m, k] b[..., k, n], both activations; their channels cannot be removed."""
        name = self._unique(name)
        self.channels.pin(a.shape + b.shape, f"'{name}' multiplies along them")
        outer = self.channels.broadcast(a.shape[:-2], b.shape[:-2])
        layer = Matmul(
            name=name,
            sources=(a.source, b.source),
            count=math.prod(size_of(dim) for dim in _without_batch(outer)),
            m=size_of(a.shape[-2]),
            n=size_of(b.shape[-1]),
            k=size_of(a.shape[-1]),
            owner=a.owner or b.owner,
        )
        return self._add(layer, (*outer, a.shape[-2], b.shape[-1]), layer.owner)

    def vector(
        self,
        kind: VectorKind,
        sources: Sequence[Tensor],
        name: str,
        *,
        shape: Shape | None = None,
        weights: Extent = NOTHING,
        readers: int = 1,
    ) -> Tensor:
        """Work that reads `sources` and writes a tensor of `shape` (that of the first source when left out)."""
        name = self._unique(name)
        first = sources[0]
        shape = first.shape if shape is None else shape
        inputs, outputs = total([extent_of(source.shape) for source in sources]), extent_of(shape)
        sizes = self.channels.sizes
        layer = VectorOp(
            name=name,
            sources=tuple(source.source for source in sources),
            kind=kind,
            inputs=inputs,
            outputs=outputs,
            weights=weights,
            in_elements=inputs.of(sizes),
            out_elements=outputs.of(sizes),
            parameters=weights.of(sizes),
            readers=readers,
            needs_input_grad=any(source.needs_grad for source in sources),
            owner=next((source.owner for source in sources if source.owner), ""),
        )
        made = self._add(layer, shape, layer.owner)
        if not layer.needs_input_grad and weights == NOTHING:
            made = replace(made, needs_grad=False)
            self._made[name] = made
        return made

    def workload(self, name: str, outputs: Sequence[Tensor], batch: int) -> Workload:
        """The finished network, with a loss on each of its outputs."""
        if not any(isinstance(layer, Convolution | Linear) for layer in self._layers):
            raise ModelError(f"network '{name}' has no convolution and no linear layer")
        for output in outputs:
            self.channels.pin(output.shape, "the network's output")
            self.vector(VectorKind.LOSS, (output,), "loss", shape=())
        layers = self._with_forks()
        layers = [self._resolved(layer) for layer in layers]
        owners = [layer for layer in layers if isinstance(layer, Convolution | Linear)]
        layers = [layer if isinstance(layer, Convolution | Linear) else _owned(layer, owners) for layer in layers]
        return Workload(name=name, batch=batch, layers=tuple(layers), groups=self._groups(layers))

    def _with_forks(self) -> list[Layer]:
        """The layers, and after each one that has several readers the addition of their gradients."""
        readers = Counter(source for layer in self._layers for source in layer.sources)
        recorded, self._layers = self._layers, []
        for layer in recorded:
            self._layers.append(layer)
            made = self._made[layer.name]
            if readers[layer.name] > 1 and made.needs_grad:
                self.vector(VectorKind.FORK, (made,), f"{layer.name}.fork", readers=readers[layer.name])
        return self._layers

    def _resolved(self, layer: Layer) -> Layer:
        resolved = self.channels.resolved
        match layer:
            case Convolution() | Linear():
                return replace(layer, inputs=resolved(layer.inputs), out_group=self.channels.root(layer.out_group))
            case Embedding():
                return replace(layer, out_group=self.channels.root(layer.out_group))
            case VectorOp():
                return replace(
                    layer,
                    inputs=resolved(layer.inputs),
                    outputs=resolved(layer.outputs),
                    weights=resolved(layer.weights),
                )
        return layer

    def _groups(self, layers: Sequence[Layer]) -> tuple[ChannelGroup, ...]:
        producers: dict[str, list[str]] = {}
        consumers: dict[str, list[str]] = {}
        for layer in layers:
            if isinstance(layer, Convolution | Linear | Embedding):
                producers.setdefault(layer.out_group, []).append(layer.name)
            if isinstance(layer, Convolution | Linear):
                for group in layer.inputs.groups:
                    consumers.setdefault(group, []).append(layer.name)
        return tuple(
            ChannelGroup(
                name=group,
                channels=self.channels.sizes[group],
                producers=tuple(producers.get(group, ())),
                consumers=tuple(consumers.get(group, ())),
                pinned=self.channels.pinned.get(group, ""),
            )
            for group in self.channels.roots()
        )


def groups_of(layer: Layer) -> frozenset[str]:
    """Channel groups that the size of a layer depends on."""
    return layer.reads | layer.writes


def _without_batch(shape: Shape) -> list[Dim]:
    return [tuple(atom for atom in dim if not atom.is_batch) for dim in shape]


def _owned(layer: Matmul | Embedding | VectorOp, owners: Sequence[Convolution | Linear]) -> Layer:
    """With the owner that it has if that one knows its channels, else the first one that does, else the first."""
    needs = groups_of(layer)
    by_name = {owner.name: owner for owner in owners}
    if layer.owner and needs <= groups_of(by_name[layer.owner]):
        return layer
    knowing = [owner.name for owner in owners if needs <= groups_of(owner)]
    return replace(layer, owner=(knowing or [layer.owner or owners[0].name])[0])
