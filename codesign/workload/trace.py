"""From a torch module to a `Workload`: walk the graph of `torch.export`, and follow every channel through it.

Each dimension of a tensor is a product of atoms; an atom is the batch, the channels of one or more groups, or a plain
number. Additions tie groups together; reshapes that split a group pin it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from codesign.errors import ModelError
from codesign.workload.layers import Convolution, Extent, Layer, Linear, VectorKind, VectorOp
from codesign.workload.network import ChannelGroup, Workload


class Atom(NamedTuple):
    """A factor of a dimension. `parts`: (group, size) for channels, one or concatenated; else empty."""

    size: int
    parts: tuple[tuple[str, int], ...] = ()
    is_batch: bool = False


Dim = tuple[Atom, ...]
Shape = tuple[Dim, ...]

INPUT = "input"
NOTHING = Extent()


def trace(model: Any, example_input: Any, *, batch: int | None, name: str) -> Workload:
    """See `Workload.from_torch`."""
    import torch

    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    if not inputs or any(not isinstance(x, torch.Tensor) or x.dim() == 0 for x in inputs):
        raise ModelError("example_input must be a tensor, or a tuple of tensors, whose first dimension is the batch")
    batch = inputs[0].shape[0] if batch is None else batch
    # A batch of one cannot be told from other dimensions of one.
    traced = tuple(torch.cat([x, x]) if x.shape[0] == 1 else x for x in inputs)
    training = {module: module.training for module in model.modules()}
    try:
        for module in model.modules():  # keep dropout; a batch norm in training mode would refuse 1 x 1 maps
            module.training = not isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        program = torch.export.export(model, traced, strict=False)
    except Exception as error:
        raise ModelError(f"torch.export cannot trace {type(model).__name__}: {str(error).splitlines()[0]}") from error
    finally:
        for module, mode in training.items():
            module.training = mode
    walk = _Walk(traced[0].shape[0])
    walk.run(program)
    return walk.workload(name or type(model).__name__, batch)


class _Walk:
    """One pass over an exported graph. Holds the groups, because ties are found while walking."""

    def __init__(self, traced_batch: int) -> None:
        self.traced_batch = traced_batch
        self.layers: list[Layer] = []
        self.shapes: dict[Any, Shape] = {}
        self.owner: dict[Any, str] = {}  # node -> the weight layer that produced it
        self.parameters: dict[str, str] = {}  # placeholder -> parameter name
        self.needs_grad: dict[Any, bool] = {}
        self.parent: dict[str, str] = {}  # union-find over groups
        self.sizes: dict[str, int] = {}
        self.pinned: dict[str, str] = {}

    # -- groups

    def root(self, group: str) -> str:
        while self.parent[group] != group:
            group = self.parent[group]
        return group

    def new_group(self, name: str, size: int, pinned: str = "") -> Atom:
        self.parent[name] = name
        self.sizes[name] = size
        if pinned:
            self.pinned[name] = pinned
        return Atom(size, ((name, size),))

    def tie(self, a: str, b: str) -> None:
        """Make two groups one; the earlier name stays."""
        first, second = self.root(a), self.root(b)
        if first == second:
            return
        order = list(self.parent)
        if order.index(second) < order.index(first):
            first, second = second, first
        self.parent[second] = first
        if second in self.pinned:
            self.pinned.setdefault(first, self.pinned.pop(second))

    def pin(self, dims: Shape, why: str) -> None:
        for dim in dims:
            for atom in dim:
                for group, _ in atom.parts:
                    self.pinned.setdefault(self.root(group), why)

    # -- sizes

    def extent(self, shape: Shape) -> Extent:
        """Elements of one example."""
        constant, channels = 1, None
        for dim in shape:
            for atom in dim:
                if atom.is_batch:
                    continue
                if atom.parts and channels is None:
                    channels = atom.parts
                else:
                    constant *= atom.size
        if channels is None:
            return Extent((), constant)
        terms: dict[str, int] = {}
        for group, _ in channels:
            terms[group] = terms.get(group, 0) + constant
        return Extent(tuple(terms.items()))

    def resolved(self, extent: Extent) -> Extent:
        """With every group replaced by the one that it is tied to."""
        terms: dict[str, int] = {}
        for group, multiplier in extent.terms:
            terms[self.root(group)] = terms.get(self.root(group), 0) + multiplier
        return Extent(tuple(terms.items()), extent.constant)

    def reshape(self, shape: Shape, sizes: list[int], where: str) -> Shape:
        """Regroup the atoms of `shape` into dimensions of the given sizes."""
        atoms = [atom for dim in shape for atom in dim if atom.size != 1]
        result = []
        for size in sizes:
            dim: list[Atom] = []
            need = size
            while need > 1:
                atom = atoms.pop(0)
                if need % atom.size == 0:
                    dim.append(atom)
                    need //= atom.size
                    continue
                common = math.gcd(need, atom.size)
                if atom.is_batch or common == 1:
                    raise ModelError(f"node '{where}': reshape to {sizes} mixes dimensions in a way not understood")
                if atom.parts:
                    self.pin(((atom,),), f"reshaped into {sizes} by '{where}'")
                dim.append(Atom(common))
                atoms.insert(0, Atom(atom.size // common))
                need //= common
            result.append(tuple(dim))
        return tuple(result)

    def broadcast(self, a: Shape, b: Shape) -> Shape:
        """Shape of an elementwise result; channels that meet are tied."""
        width = max(len(a), len(b))
        a = ((),) * (width - len(a)) + a
        b = ((),) * (width - len(b)) + b
        result = []
        for left, right in zip(a, b, strict=True):
            if _size(left) == 1 or _size(right) == 1:
                result.append(right if _size(left) == 1 else left)
                continue
            result.append(self._meet(left, right))
        return tuple(result)

    def _meet(self, left: Dim, right: Dim) -> Dim:
        if [atom.size for atom in left] != [atom.size for atom in right]:
            self.pin((left, right), "meets a tensor of another structure")
            return (Atom(_size(left)),)
        met = []
        for one, other in zip(left, right, strict=True):
            if one.parts and other.parts:
                if [size for _, size in one.parts] == [size for _, size in other.parts]:
                    for (group, _), (partner, _) in zip(one.parts, other.parts, strict=True):
                        self.tie(group, partner)
                else:
                    self.pin(((one,), (other,)), "added to channels that are concatenated otherwise")
                met.append(one)
            elif one.parts or other.parts:
                channels = one if one.parts else other
                self.pin(((channels,),), "meets a tensor that has no channels to remove")
                met.append(channels)
            else:
                met.append(one if one.is_batch else other)
        return tuple(met)

    # -- the graph

    def run(self, program: Any) -> None:
        signature = program.graph_signature
        self.parameters = dict(signature.inputs_to_parameters)
        user_inputs = set(signature.user_inputs)
        handlers = _handlers()
        for node in program.graph.nodes:
            if node.op == "placeholder":
                sizes = list(node.meta["val"].shape)
                self.needs_grad[node] = False
                if node.name in user_inputs:
                    dims: list[Dim] = [(Atom(sizes[0], (), True),)]
                    if len(sizes) > 1:
                        dims.append((self.new_group(self._input_name(), sizes[1], "the network's input"),))
                    dims += [(Atom(size),) for size in sizes[2:]]
                    self.shapes[node] = tuple(dims)
                else:
                    self.shapes[node] = tuple((Atom(size),) for size in sizes)
            elif node.op == "call_function":
                handler = handlers.get(str(node.target))
                if handler is None:
                    raise ModelError(f"node '{node.name}': operation {node.target} is not understood")
                self.needs_grad[node] = True
                handler(self, node)
            elif node.op == "output":
                for result in node.args[0]:
                    self.pin(self.shapes[result], "the network's output")
                    self.vector(result, VectorKind.LOSS, result, name="loss")

    def _input_name(self) -> str:
        taken = sum(group.startswith(INPUT) for group in self.parent)
        return INPUT if not taken else f"{INPUT}{taken + 1}"

    def vector(self, node: Any, kind: VectorKind, *sources: Any, weights: Extent = NOTHING, name: str = "") -> None:
        """Add elementwise work that reads `sources` and writes `node`."""
        inputs = [self.extent(self.shapes[source]) for source in sources]
        terms: dict[str, int] = {}
        for extent in inputs:
            for group, multiplier in extent.terms:
                terms[group] = terms.get(group, 0) + multiplier
        total = Extent(tuple(terms.items()), sum(extent.constant for extent in inputs))
        self.layers.append(
            VectorOp(
                name=name or _module_of(node),
                kind=kind,
                inputs=total,
                outputs=self.extent(self.shapes[node]),
                weights=weights,
                in_elements=total.of(self.sizes),
                out_elements=self.extent(self.shapes[node]).of(self.sizes),
                parameters=weights.of(self.sizes),
                owner=self.owner.get(sources[0], ""),
            )
        )

    def workload(self, name: str, batch: int) -> Workload:
        """The layers with their final groups."""
        first = next((x.name for x in self.layers if isinstance(x, Convolution | Linear)), "")
        layers: list[Layer] = []
        producers: dict[str, list[str]] = {}
        consumers: dict[str, list[str]] = {}
        for layer in self.layers:
            if isinstance(layer, VectorOp):
                layers.append(
                    VectorOp(
                        name=layer.name,
                        kind=layer.kind,
                        inputs=self.resolved(layer.inputs),
                        outputs=self.resolved(layer.outputs),
                        weights=self.resolved(layer.weights),
                        in_elements=layer.in_elements,
                        out_elements=layer.out_elements,
                        parameters=layer.parameters,
                        owner=layer.owner or first,
                    )
                )
                continue
            inputs, group = self.resolved(layer.inputs), self.root(layer.out_group)
            producers.setdefault(group, []).append(layer.name)
            for source, _ in inputs.terms:
                consumers.setdefault(source, []).append(layer.name)
            layers.append(replace(layer, inputs=inputs, out_group=group))
        groups = tuple(
            ChannelGroup(
                name=group,
                channels=self.sizes[group],
                producers=tuple(producers.get(group, ())),
                consumers=tuple(consumers.get(group, ())),
                pinned=self.pinned.get(group, ""),
            )
            for group in self.parent
            if self.root(group) == group
        )
        return Workload(name=name, batch=batch, layers=tuple(layers), groups=groups)


def _size(dim: Dim) -> int:
    return math.prod(atom.size for atom in dim)


def _module_of(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else node.name


def _sizes(node: Any) -> list[int]:
    return list(node.meta["val"].shape)


def _argument(node: Any, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _conv(walk: _Walk, node: Any) -> None:
    source, weight = node.args[0], node.args[1]
    bias = _argument(node, 2, "bias", None)
    spatial = len(_sizes(weight)) - 2

    def per_dimension(position: int, name: str, default: int) -> tuple[int, ...]:
        value = _argument(node, position, name, default)
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        return values * spatial if len(values) == 1 else values

    stride, padding, dilation = (
        per_dimension(3, "stride", 1),
        per_dimension(4, "padding", 0),
        per_dimension(5, "dilation", 1),
    )
    groups = _argument(node, 6, "groups", 1)
    name = walk.parameters[weight.name].removesuffix(".weight")
    shape, sizes = walk.shapes[source], _sizes(node)
    in_channels, out_channels = _sizes(source)[1], sizes[1]
    out = walk.new_group(name, out_channels)
    if groups > 1:
        if groups == in_channels == out_channels:
            for group, _ in shape[1][0].parts:
                walk.tie(group, name)
        else:
            walk.pin((shape[1], (out,)), f"'{name}' has {groups} groups")
    walk.layers.append(
        Convolution(
            name=name,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel=tuple(_sizes(weight)[2:]),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            in_size=tuple(_sizes(source)[2:]),
            out_size=tuple(sizes[2:]),
            bias=bias is not None,
            inputs=walk.extent((shape[1],)),
            out_group=name,
            needs_input_grad=walk.needs_grad[source],
        )
    )
    walk.shapes[node] = (shape[0], (out,), *((Atom(size),) for size in sizes[2:]))
    walk.owner[node] = name


def _linear(walk: _Walk, node: Any) -> None:
    source, weight = node.args[0], node.args[1]
    name = walk.parameters[weight.name].removesuffix(".weight")
    shape = walk.shapes[source]
    out_features, in_features = _sizes(weight)
    out = walk.new_group(name, out_features)
    walk.layers.append(
        Linear(
            name=name,
            in_features=in_features,
            out_features=out_features,
            rows=walk.extent(shape[:-1]).of(walk.sizes),
            bias=_argument(node, 2, "bias", None) is not None,
            inputs=walk.extent(shape[-1:]),
            out_group=name,
            needs_input_grad=walk.needs_grad[source],
        )
    )
    walk.shapes[node] = (*shape[:-1], (out,))
    walk.owner[node] = name


def _elementwise(kind: VectorKind) -> Callable[[_Walk, Any], None]:
    def handle(walk: _Walk, node: Any) -> None:
        source = node.args[0]
        walk.shapes[node] = walk.shapes[source]
        walk.owner[node] = walk.owner.get(source, "")
        walk.vector(node, kind, source)

    return handle


def _binary(kind: VectorKind) -> Callable[[_Walk, Any], None]:
    def handle(walk: _Walk, node: Any) -> None:
        sources = [x for x in node.args[:2] if x in walk.shapes]
        shape = walk.shapes[sources[0]]
        for other in sources[1:]:
            shape = walk.broadcast(shape, walk.shapes[other])
        walk.shapes[node] = shape
        walk.owner[node] = walk.owner.get(sources[0], "")
        walk.vector(node, kind, *sources)

    return handle


def _pool(walk: _Walk, node: Any) -> None:
    source, sizes = node.args[0], _sizes(node)
    walk.shapes[node] = (*walk.shapes[source][:2], *((Atom(size),) for size in sizes[2:]))
    walk.owner[node] = walk.owner.get(source, "")
    walk.vector(node, VectorKind.POOL, source)


def _batch_norm(walk: _Walk, node: Any) -> None:
    source = node.args[0]
    walk.shapes[node] = walk.shapes[source]
    walk.owner[node] = walk.owner.get(source, "")
    affine = _argument(node, 1, "weight", None) is not None
    channels = walk.extent((walk.shapes[source][1],))
    walk.vector(node, VectorKind.BATCH_NORM, source, weights=channels.times(2) if affine else Extent())


def _view(walk: _Walk, node: Any) -> None:
    source = node.args[0]
    walk.shapes[node] = walk.reshape(walk.shapes[source], _sizes(node), node.name)
    walk.owner[node] = walk.owner.get(source, "")


def _handlers() -> dict[str, Callable[[_Walk, Any], None]]:
    activation = _elementwise(VectorKind.ACTIVATION)
    handlers: dict[str, Callable[[_Walk, Any], None]] = {
        "aten.linear.default": _linear,
        "aten.batch_norm.default": _batch_norm,
        "aten.dropout.default": _elementwise(VectorKind.DROPOUT),
        "aten.softmax.int": _elementwise(VectorKind.SOFTMAX),
        "aten.log_softmax.int": _elementwise(VectorKind.SOFTMAX),
        "aten.add.Tensor": _binary(VectorKind.ADD),
        "aten.add_.Tensor": _binary(VectorKind.ADD),
        "aten.mul.Tensor": _binary(VectorKind.MULTIPLY),
        "aten.flatten.using_ints": _view,
        "aten.view.default": _view,
        "aten.reshape.default": _view,
    }
    for kind in ("conv1d", "conv2d", "conv3d"):
        handlers[f"aten.{kind}.default"] = _conv
    for kind in ("relu", "relu_", "gelu", "silu", "silu_", "hardswish", "hardswish_", "sigmoid", "hardsigmoid", "tanh"):
        handlers[f"aten.{kind}.default"] = activation
    for kind in ("relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "elu"):
        handlers[f"aten.{kind}.default"] = activation
    for kind in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "max_pool1d", "avg_pool1d"):
        handlers[f"aten.{kind}.default"] = _pool
    return handlers
