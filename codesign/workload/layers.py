"""What a network is made of, as plain values. Sizes are those of one example; the batch belongs to the `Workload`.

`sources` of a layer are the names of the layers that produced what it reads; inputs of the network have names too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from codesign.errors import ModelError


@dataclass(frozen=True, slots=True)
class Extent:
    """A size that follows channel counts: sum over `terms` of channels of the group x multiplier, plus `constant`.

    A Linear after a flatten of 7 x 7 maps has `terms == (("features.28", 49),)`; a concatenation has several terms. A
    multiplier is a fraction where several channels of the group's first layer stand for one: 16 channels for a head.
    """

    terms: tuple[tuple[str, int | Fraction], ...] = ()
    constant: int = 0

    def of(self, channels: Mapping[str, int]) -> int:
        """The size for the given channels of each group, as its first layer counts them.

        Channels that leave only together and are not all there raise `ModelError`.
        """
        size = sum(channels[group] * multiplier for group, multiplier in self.terms) + self.constant
        if isinstance(size, Fraction) and size.denominator > 1:
            group, multiplier = next((g, m) for g, m in self.terms if (channels[g] * m) % 1)
            raise ModelError(
                f"channel group '{group}': {channels[group]} channels cannot be kept, since "
                f"{Fraction(multiplier).denominator} leave together; keep a multiple of that"
            )
        return int(size)

    def times(self, factor: int) -> Extent:
        """The extent `factor` times as large."""
        return Extent(tuple((group, multiplier * factor) for group, multiplier in self.terms), self.constant * factor)

    @property
    def groups(self) -> frozenset[str]:
        """The channel groups that it follows."""
        return frozenset(group for group, _ in self.terms)


NOTHING = Extent()
Rename = Callable[[Extent], Extent]  # from the keys of a network that is being built to names of channel groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution of any number of spatial dimensions.

    in_size, out_size : spatial sizes, without padding
    inputs, outputs : how `in_channels` and `out_channels` follow the channel groups
    needs_input_grad : False for a layer that reads the network's input
    bias : has a bias of its own
    shares : the layer whose weights it uses, and which counts them; empty for weights of its own
    """

    name: str
    sources: tuple[str, ...]
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    transposed: bool = False
    bias: bool
    inputs: Extent
    outputs: Extent
    needs_input_grad: bool = True
    shares: str = ""

    @property
    def owner(self) -> str:
        """The weight layer whose formats it has: itself."""
        return self.name

    @property
    def reads(self) -> frozenset[str]:
        """The channel groups that its inputs follow."""
        return self.inputs.groups

    @property
    def writes(self) -> frozenset[str]:
        """The channel groups that its outputs follow."""
        return self.outputs.groups

    @property
    def out_group(self) -> str:
        """The one channel group that it writes; of several raises `ModelError`."""
        return _only_group(self.name, "writes", self.outputs)

    @property
    def in_group(self) -> str:
        """The one channel group that it reads; a concatenation has several and raises `ModelError`."""
        return _only_group(self.name, "reads", self.inputs)

    @property
    def in_multiplier(self) -> int | Fraction:
        """Input channels per channel of `in_group`."""
        return self.inputs.terms[0][1]

    @property
    def depthwise(self) -> bool:
        """Each input channel has its own filters."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def parameters(self) -> int:
        """Weights and biases of its own."""
        weights = self.in_channels * self.out_channels // self.groups * math.prod(self.kernel)
        return (0 if self.shares else weights) + (self.out_channels if self.bias else 0)

    @property
    def macs(self) -> int:
        """Forward multiply-accumulates of one example, padding included."""
        sites = self.in_size if self.transposed else self.out_size
        return math.prod(sites) * math.prod(self.kernel) * self.in_channels * self.out_channels // self.groups

    @property
    def in_elements(self) -> int:
        """Input numbers of one example."""
        return self.in_channels * math.prod(self.in_size)

    @property
    def out_elements(self) -> int:
        """Output numbers of one example."""
        return self.out_channels * math.prod(self.out_size)

    def renamed(self, channels: Rename, sizes: Rename) -> Convolution:
        """With its extents renamed: those of its own channels by `channels`, any other by `sizes`."""
        return replace(self, inputs=channels(self.inputs), outputs=channels(self.outputs))

    def resized(self, channels: Mapping[str, int]) -> Convolution:
        """The same convolution between groups of other sizes; a depthwise one keeps one group per channel."""
        in_channels, out_channels = self.inputs.of(channels), self.outputs.of(channels)
        groups = in_channels if self.depthwise else self.groups
        if in_channels % groups or out_channels % groups:
            raise ModelError(
                f"layer '{self.name}': {in_channels} input and {out_channels} output channels cannot be divided into "
                f"{groups} groups; keep a multiple of {groups}"
            )
        return replace(self, in_channels=in_channels, out_channels=out_channels, groups=groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """y = x W' + b on `rows` vectors of one example (1 for a classifier, the sequence length in a transformer).

    inputs, outputs, vectors : how `in_features`, `out_features` and `rows` follow the channel groups
    bias : has a bias of its own
    shares : the layer whose weights it uses, and which counts them; empty for weights of its own
    """

    name: str
    sources: tuple[str, ...]
    in_features: int
    out_features: int
    rows: int
    bias: bool
    inputs: Extent
    outputs: Extent
    vectors: Extent = NOTHING
    needs_input_grad: bool = True
    shares: str = ""

    @property
    def in_channels(self) -> int:
        """Same as `in_features`."""
        return self.in_features

    @property
    def out_channels(self) -> int:
        """Same as `out_features`."""
        return self.out_features

    @property
    def owner(self) -> str:
        """The weight layer whose formats it has: itself."""
        return self.name

    @property
    def reads(self) -> frozenset[str]:
        """The channel groups that its inputs follow."""
        return self.inputs.groups | self.vectors.groups

    @property
    def writes(self) -> frozenset[str]:
        """The channel groups that its outputs follow."""
        return self.outputs.groups

    @property
    def out_group(self) -> str:
        """The one channel group that it writes; of several raises `ModelError`."""
        return _only_group(self.name, "writes", self.outputs)

    @property
    def in_group(self) -> str:
        """The one channel group that it reads; a concatenation has several and raises `ModelError`."""
        return _only_group(self.name, "reads", self.inputs)

    @property
    def in_multiplier(self) -> int | Fraction:
        """Input features per channel of `in_group`: the spatial size after a flatten, else 1."""
        return self.inputs.terms[0][1]

    @property
    def parameters(self) -> int:
        """Weights and biases of its own."""
        weights = self.in_features * self.out_features
        return (0 if self.shares else weights) + (self.out_features if self.bias else 0)

    @property
    def macs(self) -> int:
        """Forward multiply-accumulates of one example."""
        return self.rows * self.in_features * self.out_features

    @property
    def in_elements(self) -> int:
        """Input numbers of one example."""
        return self.rows * self.in_features

    @property
    def out_elements(self) -> int:
        """Output numbers of one example."""
        return self.rows * self.out_features

    def renamed(self, channels: Rename, sizes: Rename) -> Linear:
        """With its extents renamed: those of its own channels by `channels`, any other by `sizes`."""
        return replace(self, inputs=channels(self.inputs), outputs=channels(self.outputs), vectors=sizes(self.vectors))

    def resized(self, channels: Mapping[str, int]) -> Linear:
        """The same layer between groups of other sizes."""
        return replace(
            self,
            in_features=self.inputs.of(channels),
            out_features=self.outputs.of(channels),
            rows=self.rows if self.vectors == NOTHING else self.vectors.of(channels),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matmul:
    """`count` products of two activations per example, C[m,n] = A[m,k] B[k,n], as in attention.

    extents : how `count`, `m`, `n` and `k` follow the channel groups
    owner : the weight layer whose formats it has
    """

    name: str
    sources: tuple[str, ...]
    count: int
    m: int
    n: int
    k: int
    extents: tuple[Extent, Extent, Extent, Extent]
    owner: str

    @property
    def reads(self) -> frozenset[str]:
        """The channel groups that its sizes follow."""
        return frozenset(group for extent in self.extents for group in extent.groups)

    @property
    def writes(self) -> frozenset[str]:
        """The channel groups that its outputs follow."""
        count, m, n, _ = self.extents
        return count.groups | m.groups | n.groups

    @property
    def parameters(self) -> int:
        """None of its own."""
        return 0

    @property
    def macs(self) -> int:
        """Forward multiply-accumulates of one example."""
        return self.count * self.m * self.n * self.k

    @property
    def in_elements(self) -> int:
        """Input numbers of one example, both operands."""
        return self.count * (self.m + self.n) * self.k

    @property
    def out_elements(self) -> int:
        """Output numbers of one example."""
        return self.count * self.m * self.n

    def renamed(self, channels: Rename, sizes: Rename) -> Matmul:
        """With its extents renamed: all by `sizes`, since it has no channels of its own."""
        count, m, n, k = (sizes(extent) for extent in self.extents)
        return replace(self, extents=(count, m, n, k))

    def resized(self, channels: Mapping[str, int]) -> Matmul:
        """The same products on groups of other sizes."""
        count, m, n, k = (extent.of(channels) for extent in self.extents)
        return replace(self, count=count, m=m, n=n, k=k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """`rows` look-ups of one example in a table of `entries` vectors.

    outputs : how `width` follows the channel groups
    shared : the look-ups do not depend on the example (positions), and are done once a step
    owner : the weight layer whose formats it has, and to which option tables add its cost
    """

    name: str
    sources: tuple[str, ...]
    entries: int
    width: int
    rows: int
    shared: bool
    outputs: Extent
    owner: str

    @property
    def reads(self) -> frozenset[str]:
        """None: it reads indices."""
        return frozenset()

    @property
    def writes(self) -> frozenset[str]:
        """The channel groups that its outputs follow."""
        return self.outputs.groups

    @property
    def out_channels(self) -> int:
        """Same as `width`."""
        return self.width

    @property
    def out_group(self) -> str:
        """The one channel group that it writes; of several raises `ModelError`."""
        return _only_group(self.name, "writes", self.outputs)

    @property
    def parameters(self) -> int:
        """Entries of the table."""
        return self.entries * self.width

    @property
    def macs(self) -> int:
        """A look-up multiplies nothing."""
        return 0

    @property
    def in_elements(self) -> int:
        """None: indices are not counted."""
        return 0

    @property
    def out_elements(self) -> int:
        """Output numbers of one example."""
        return self.rows * self.width

    def renamed(self, channels: Rename, sizes: Rename) -> Embedding:
        """With its extents renamed: those of its own channels by `channels`, any other by `sizes`."""
        return replace(self, outputs=channels(self.outputs))

    def resized(self, channels: Mapping[str, int]) -> Embedding:
        """The same table with vectors of another width."""
        return replace(self, width=self.outputs.of(channels))


class VectorKind(StrEnum):
    """Work without matrix products: bound by memory, done on the vector unit."""

    BATCH_NORM = "batch-norm"
    ROW_NORM = "row-norm"  # statistics over one row or example: layer, group, instance, RMS norm
    ACTIVATION = "activation"  # one tensor in, one of the same size out
    MAX_POOL = "max-pool"
    REDUCE = "reduce"  # average pools, means, sums, resampling
    ADD = "add"
    MULTIPLY = "multiply"
    CONCATENATE = "concatenate"
    SOFTMAX = "softmax"
    DROPOUT = "dropout"
    FORK = "fork"  # a tensor with several readers: its gradients are added
    LOSS = "loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOp:
    """Elementwise or reducing work on whole tensors.

    inputs, outputs : elements of one example, and how they follow the channel groups
    readers : of a fork, the layers that read the tensor
    weights : parameters of its own, as scale and shift of a norm
    needs_input_grad : False where nothing before it has parameters
    owner : the weight layer whose formats it has, and to which option tables add its cost
    """

    name: str
    sources: tuple[str, ...]
    kind: VectorKind
    inputs: Extent
    outputs: Extent
    weights: Extent = NOTHING
    in_elements: int
    out_elements: int
    parameters: int = 0
    readers: int = 1
    needs_input_grad: bool = True
    owner: str

    @property
    def reads(self) -> frozenset[str]:
        """The channel groups that its inputs and its own parameters follow."""
        return self.inputs.groups | self.weights.groups

    @property
    def writes(self) -> frozenset[str]:
        """The channel groups that its outputs follow."""
        return self.outputs.groups

    @property
    def macs(self) -> int:
        """Not counted: matrix products only."""
        return 0

    def renamed(self, channels: Rename, sizes: Rename) -> VectorOp:
        """With its extents renamed: all by `sizes`, since it has no channels of its own."""
        return replace(self, inputs=sizes(self.inputs), outputs=sizes(self.outputs), weights=sizes(self.weights))

    def resized(self, channels: Mapping[str, int]) -> VectorOp:
        """The same work on groups of other sizes."""
        return replace(
            self,
            in_elements=self.inputs.of(channels),
            out_elements=self.outputs.of(channels),
            parameters=self.weights.of(channels),
        )


WeightLayer = Convolution | Linear  # its own owner
AttachedLayer = Matmul | Embedding | VectorOp  # belongs to a weight layer
ChannelLayer = WeightLayer | Embedding  # its outputs are channels that a group may be named after
Layer = WeightLayer | AttachedLayer


def _only_group(name: str, how: str, extent: Extent) -> str:
    if len(extent.terms) != 1 or extent.constant:
        raise ModelError(f"layer '{name}' {how} {len(extent.terms)} channel groups, not one; use its `{how}`")
    return extent.terms[0][0]
