"""Words to write a network down with, layer by layer, on shapes that remember which channels they are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from codesign.network import ChannelGroup
from codesign.workload.assembly import Assembly, Made, total
from codesign.workload.channels import Channels
from codesign.workload.layers import (
    NOTHING,
    ChannelLayer,
    Convolution,
    Embedding,
    Extent,
    Layer,
    Linear,
    Matmul,
    VectorKind,
)
from codesign.workload.network import Workload
from codesign.workload.shapes import BATCH, Atom, Dim, Shape, extent_of, has_batch, size_of


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

    @property
    def made(self) -> Made:
        """The same without its shape."""
        elements = extent_of(self.shape)
        return Made(source=self.source, owner=self.owner, needs_grad=self.needs_grad, elements=elements)


class Builder:
    """Collects layers in order of execution."""

    def __init__(self) -> None:
        self.channels = Channels()
        self._assembly = Assembly()
        self._outputs: dict[str, ChannelLayer] = {}

    def _add(self, layer: Layer, shape: Shape, owner: str) -> Tensor:
        if isinstance(layer, ChannelLayer):
            self._outputs[layer.name] = layer
        return _tensor(self._assembly.add(layer, extent_of(shape), owner), shape)

    def input(self, sizes: Sequence[int], *, channels: bool = True) -> Tensor:
        """An input of the network without its batch dimension; its first dimension is the channels, if it has any."""
        name = self._assembly.unique("input")
        dims: list[Dim] = [(Atom(BATCH, is_batch=True),)]
        for i, size in enumerate(sizes):
            first = channels and i == 0
            dims.append((self.channels.new(name, size, "the network's input") if first else Atom(size),))
        return Tensor(shape=tuple(dims), source=name)

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
    ) -> Tensor:
        """A convolution over dimensions 2, 3, ... of `x`; with groups, one per channel."""
        name = self._assembly.unique(name)
        out = self.channels.new(name, out_channels)
        if groups > 1:
            self.channels.tie(x.shape[1][0].group, name)
        layer = Convolution(
            name=name,
            sources=(x.source,),
            in_channels=size_of(x.shape[1]),
            out_channels=out_channels,
            kernel=tuple(kernel),
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            groups=groups,
            in_size=tuple(size_of(dim) for dim in x.shape[2:]),
            out_size=tuple(out_size),
            bias=bias,
            inputs=extent_of((x.shape[1],)),
            outputs=extent_of(((out,),)),
            needs_input_grad=x.needs_grad,
        )
        return self._add(layer, (x.shape[0], (out,), *((Atom(size),) for size in out_size)), name)

    def linear(self, x: Tensor, name: str, out_features: int, *, bias: bool = True, units: int = 0) -> Tensor:
        """A linear layer over the last dimension of `x`. `units`: as many parts, each of which leaves as a whole."""
        name = self._assembly.unique(name)
        units = units or out_features
        out = (self.channels.new(name, units), *([Atom(out_features // units)] if units < out_features else []))
        layer = Linear(
            name=name,
            sources=(x.source,),
            in_features=size_of(x.shape[-1]),
            out_features=out_features,
            rows=0,
            vectors=extent_of(x.shape[:-1]),
            bias=bias,
            inputs=extent_of((x.shape[-1],)),
            outputs=extent_of((out,)),
            needs_input_grad=x.needs_grad,
        )
        return self._add(layer, (*x.shape[:-1], out), name)

    def embedding(self, index: Tensor, name: str, entries: int, width: int) -> Tensor:
        """A look-up of every number of `index`."""
        name = self._assembly.unique(name)
        out = self.channels.new(name, width)
        layer = Embedding(
            name=name,
            sources=(index.source,),
            entries=entries,
            width=width,
            rows=math.prod(atom.size for dim in index.shape for atom in dim if not atom.is_batch),
            shared=not has_batch(index.shape),
            outputs=extent_of(((out,),)),
            owner="",
        )
        return self._add(layer, (*index.shape, (out,)), "")

    def matmul(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        """a[..., m, k] b[..., k, n], both activations."""
        name = self._assembly.unique(name)
        outer = self.channels.broadcast(a.shape[:-2], b.shape[:-2])
        layer = Matmul(
            name=name,
            sources=(a.source, b.source),
            extents=(
                extent_of(outer), extent_of((a.shape[-2],)), extent_of((b.shape[-1],)), extent_of((a.shape[-1],))
            ),
            count=0,
            m=0,
            n=0,
            k=0,
            owner=a.owner or b.owner,
        )  # fmt: skip
        return self._add(layer, (*outer, a.shape[-2], b.shape[-1]), layer.owner)

    def vector(
        self,
        kind: VectorKind,
        sources: Sequence[Tensor],
        name: str,
        *,
        shape: Shape | None = None,
        weights: Extent = NOTHING,
    ) -> Tensor:
        """Work that reads `sources` and writes a tensor of `shape` (that of the first source when left out)."""
        shape = sources[0].shape if shape is None else shape
        made = [source.made for source in sources]
        return _tensor(self._assembly.vector(kind, made, name, extent_of(shape), weights=weights), shape)

    def workload(self, name: str, outputs: Sequence[Tensor], batch: int) -> Workload:
        """The finished network, with a loss on each of its outputs."""
        for output in outputs:
            self.channels.pin(output.shape, "they are an output of the network")
        layers, groups = self._assembly.finished(name, [output.made for output in outputs], self._groups)
        return Workload(name=name, batch=batch, layers=layers, groups=groups)

    def _groups(self) -> dict[str, ChannelGroup]:
        """Every name that channels were given -> their group."""
        channels = self.channels
        writers: dict[str, dict[str, int]] = {}
        for name, layer in self._outputs.items():
            terms = total([layer.outputs]).terms
            writers.setdefault(channels.root(name), {})[name] = int(terms[0][1])
        made = {}
        for root in channels.roots():
            layers, why = writers.get(root, {}), channels.pinned.get(root, "")
            unit_channels = tuple(layers.values())
            made[root] = ChannelGroup(
                name=root,
                layers=tuple(layers),
                channels=channels.sizes[root] * (unit_channels or (1,))[0],
                units=0 if why else channels.sizes[root],
                unit_channels=unit_channels,
                why_fixed=why,
            )
        return {name: made[channels.root(name)] for name in channels.names()}


def _tensor(made: Made, shape: Shape) -> Tensor:
    return Tensor(shape=shape, source=made.source, owner=made.owner, needs_grad=made.needs_grad)
