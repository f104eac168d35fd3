"""What each operation of an exported graph means for shapes, channels and cost. One function per family."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from codesign.errors import ModelError
from codesign.workload.build import Builder, Tensor
from codesign.workload.layers import NOTHING, Extent, VectorKind
from codesign.workload.shapes import TRACED_BATCH, Atom, Dim, Shape, extent_of, size_of


@dataclass
class Walk:
    """The state of one pass over a graph."""

    builder: Builder
    parameters: dict[str, str]  # placeholder -> qualified name of the parameter
    leaves: set[str]  # modules without children
    weighted: set[str]  # those of them that have a `weight`
    biases: set[str] = field(default_factory=set)  # parameters that are already some layer's bias
    tensors: dict[Any, Tensor] = field(default_factory=dict)
    parts: dict[Any, list[Tensor]] = field(default_factory=dict)  # of nodes with several results
    named: dict[Any, str] = field(default_factory=dict)  # node -> parameter that it is a view of
    outputs: list[Tensor] = field(default_factory=list)

    def module_of(self, node: Any) -> str:
        """Qualified name of the module that the node is in."""
        stack = node.meta.get("nn_module_stack") or {}
        return list(stack.values())[-1][0] if stack else ""

    def name(self, node: Any, base: str) -> str:
        """The module's name for a module that is one operation, else with the operation's name after it."""
        module = self.module_of(node)
        return module if module in self.leaves and module else f"{module}.{base}".strip(".")

    def constant(self, node: Any) -> None:
        """A tensor that is the same in every step and has no cost."""
        values = node.meta["val"]
        made = [
            Tensor(shape=tuple((Atom(size, free=True),) for size in value.shape), source="")
            for value in (values if isinstance(values, tuple | list) else (values,))
            if hasattr(value, "shape")
        ]
        if isinstance(values, tuple | list):
            self.parts[node] = made
        else:
            self.tensors[node] = made[0]

    def parameter_of(self, node: Any) -> str:
        """Qualified name of the parameter that a node is, or is a view of; empty if it is none."""
        return self.parameters.get(node.name, "") or self.named.get(node, "")


Handler = Callable[[Walk, Any, str], None]


def _argument(node: Any, position: int, name: str, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _sizes(node: Any) -> list[int]:
    return list(node.meta["val"].shape)


def _refuse(node: Any, why: str) -> ModelError:
    return ModelError(f"node '{node.name}': {why} is not understood")


def _layer_name(walk: Walk, node: Any, parameter: str) -> str:
    """The module that holds the weight: `features.0`. Of a function on a parameter: `attn.in_proj` of its name."""
    module = walk.module_of(node)
    return module if module in walk.weighted else parameter.removesuffix(".weight").removesuffix("_weight")


def _own_bias(walk: Walk, bias: Any) -> bool:
    """Is there a bias that no layer has had before?"""
    if bias is None:
        return False
    parameter = walk.parameter_of(bias)
    if not parameter:
        raise ModelError(f"node '{bias.name}': a bias that is not a parameter is not understood")
    new = parameter not in walk.biases
    walk.biases.add(parameter)
    return new


# -- weight layers


def _convolution(walk: Walk, node: Any, base: str) -> None:
    source, weight = node.args[0], node.args[1]
    parameter = walk.parameter_of(weight)
    if not parameter:
        raise _refuse(node, "a convolution whose weight is not a parameter")
    transposed = base.startswith("conv_transpose")
    kernel = _sizes(weight)[2:]

    def each(position: int, name: str, default: int) -> list[int]:
        value = _argument(node, position, name, default)
        values = list(value) if isinstance(value, list | tuple) else [value]
        return values * len(kernel) if len(values) == 1 else values

    stride = each(3, "stride", 1)
    dilation = each(7 if transposed else 5, "dilation", 1)
    padding: list[int]
    if isinstance(_argument(node, 4, "padding", 0), str):
        same = _argument(node, 4, "padding") == "same"
        padding = [d * (k - 1) // 2 if same else 0 for d, k in zip(dilation, kernel, strict=True)]
    else:
        padding = each(4, "padding", 0)
    walk.tensors[node] = walk.builder.convolution(
        walk.tensors[source],
        _layer_name(walk, node, parameter),
        _sizes(node)[1],
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        out_size=_sizes(node)[2:],
        groups=_argument(node, 6, "groups", 1),
        bias=_own_bias(walk, _argument(node, 2, "bias")),
        transposed=transposed,
        weight=parameter,
    )


def _linear(walk: Walk, node: Any, base: str) -> None:
    source, weight = node.args[0], node.args[1]
    parameter = walk.parameter_of(weight)
    if not parameter:
        raise _refuse(node, "a linear layer whose weight is not a parameter")
    _to_linear(walk, node, source, parameter, _argument(node, 2, "bias"))


def _to_linear(walk: Walk, node: Any, source: Any, parameter: str, bias: Any) -> None:
    walk.tensors[node] = walk.builder.linear(
        walk.tensors[source],
        _layer_name(walk, node, parameter),
        _sizes(node)[-1],
        bias=_own_bias(walk, bias),
        weight=parameter,
    )


def _addmm(walk: Walk, node: Any, base: str) -> None:
    bias, source, weight = node.args[:3]
    parameter = walk.parameter_of(weight)
    if not parameter:
        raise _refuse(node, "addmm whose matrix is not a parameter")
    _to_linear(walk, node, source, parameter, bias)


def _matmul(walk: Walk, node: Any, base: str) -> None:
    left, right = node.args[:2]
    parameter = walk.parameter_of(right)
    if parameter and len(_sizes(right)) == 2:
        _to_linear(walk, node, left, parameter, None)
        return
    a, b = walk.tensors[left], walk.tensors[right]
    if len(a.shape) < 2 or len(b.shape) < 2 or parameter or walk.parameter_of(left):
        raise _refuse(node, "a product with a vector or a parameter")
    walk.tensors[node] = walk.builder.matmul(a, b, walk.name(node, base))


def _embedding(walk: Walk, node: Any, base: str) -> None:
    weight, index = node.args[:2]
    parameter = walk.parameter_of(weight)
    if not parameter:
        raise _refuse(node, "an embedding whose table is not a parameter")
    entries, width = _sizes(weight)
    walk.tensors[node] = walk.builder.embedding(
        walk.tensors[index], _layer_name(walk, node, parameter), entries, width, weight=parameter
    )


def _attention(walk: Walk, node: Any, base: str) -> None:
    """softmax(q k') v, with the scores in memory: two products and a softmax between them."""
    query, key, value = (walk.tensors[x] for x in node.args[:3])
    if _argument(node, 7, "enable_gqa", False):
        raise _refuse(node, "attention with fewer keys than queries")
    name, build = walk.module_of(node) or base, walk.builder
    turned = replace(key, shape=(*key.shape[:-2], key.shape[-1], key.shape[-2]))
    scores = build.matmul(query, turned, f"{name}.scores")
    weights = build.vector(VectorKind.SOFTMAX, (scores,), f"{name}.softmax")
    if _argument(node, 4, "dropout_p", 0.0) > 0:
        weights = build.vector(VectorKind.DROPOUT, (weights,), f"{name}.dropout")
    walk.tensors[node] = build.matmul(weights, value, f"{name}.context")


# -- vector work


def _vector(kind: VectorKind) -> Handler:
    """One tensor in, one tensor of the same shape out; a scalar operand costs nothing."""

    def handle(walk: Walk, node: Any, base: str) -> None:
        walk.tensors[node] = walk.builder.vector(kind, (walk.tensors[node.args[0]],), walk.name(node, base))

    return handle


def _binary(kind: VectorKind) -> Handler:
    """Elementwise work on two tensors. A parameter in it belongs to this work."""

    def handle(walk: Walk, node: Any, base: str) -> None:
        operands = [x for x in node.all_input_nodes if x in walk.tensors]
        if isinstance(node.args[0], int | float) or len(operands) == 1:
            twice = len(node.args) > 1 and node.args[0] is node.args[1]
            sources = [walk.tensors[operands[0]]] * (2 if twice else 1)
            made = kind if twice else VectorKind.ACTIVATION
            walk.tensors[node] = walk.builder.vector(made, sources, walk.name(node, base))
            return
        shape: Shape = ()
        weights, computed = [], []
        for operand in operands:
            tensor = walk.tensors[operand]
            shape = walk.builder.channels.broadcast(shape, tensor.shape)
            if walk.parameter_of(operand):
                weights.append(tensor)
            elif tensor.source:
                computed.append(tensor)
        if not computed:
            raise _refuse(node, "a computation on parameters alone")
        extent = NOTHING
        for tensor in weights:  # its dimensions follow those that they meet
            meets = shape[len(shape) - len(tensor.shape) :]
            own = tuple(
                dim if size_of(mine) == size_of(dim) else () for dim, mine in zip(meets, tensor.shape, strict=True)
            )
            found = extent_of(own)
            extent = Extent(extent.terms + found.terms, extent.constant + found.constant)
        single = kind if len(computed) > 1 else VectorKind.ACTIVATION
        walk.tensors[node] = walk.builder.vector(single, computed, walk.name(node, base), shape=shape, weights=extent)

    return handle


def _norm(kind: VectorKind, weight_position: int, channel_axis: int | None) -> Handler:
    """Norms. `channel_axis`: the dimension of scale and shift; None for the normalised shape of a layer norm."""

    def handle(walk: Walk, node: Any, base: str) -> None:
        source = walk.tensors[node.args[0]]
        given = [_argument(node, weight_position + i, name) for i, name in ((0, "weight"), (1, "bias"))]
        affine = sum(x is not None for x in given)
        if channel_axis is None:
            dims = source.shape[len(source.shape) - len(node.args[1]) :]
        else:
            dims = (source.shape[channel_axis],)
        weights = extent_of(dims).times(affine) if affine else NOTHING
        walk.tensors[node] = walk.builder.vector(kind, (source,), walk.name(node, base), weights=weights)

    return handle


def _prelu(walk: Walk, node: Any, base: str) -> None:
    source, weight = node.args[:2]
    count = _sizes(weight)[0]
    shape = walk.tensors[source].shape
    weights = extent_of((shape[1],)) if count > 1 else Extent((), 1)
    walk.tensors[node] = walk.builder.vector(
        VectorKind.ACTIVATION, (walk.tensors[source],), walk.name(node, base), weights=weights
    )


def _pool(kind: VectorKind) -> Handler:
    """Pools and resampling: dimensions 0 and 1 stay, the others get new sizes."""

    def handle(walk: Walk, node: Any, base: str) -> None:
        source = walk.tensors[node.args[0]]
        shape = (*source.shape[:2], *((Atom(size),) for size in _sizes(node)[2:]))
        walk.tensors[node] = walk.builder.vector(kind, (source,), walk.name(node, base), shape=shape)

    return handle


def _reduce(walk: Walk, node: Any, base: str) -> None:
    source = walk.tensors[node.args[0]]
    axes = _argument(node, 1, "dim")
    width = len(source.shape)
    axes = list(range(width)) if axes is None else [axes] if isinstance(axes, int) else list(axes)
    reduced = {axis % width for axis in axes}
    keep = bool(_argument(node, 2, "keepdim", False))
    shape = tuple(() if i in reduced else dim for i, dim in enumerate(source.shape) if keep or i not in reduced)
    walk.tensors[node] = walk.builder.vector(VectorKind.REDUCE, (source,), walk.name(node, base), shape=shape)


def _cat(walk: Walk, node: Any, base: str) -> None:
    sources = [walk.tensors[x] for x in node.args[0]]
    axis = _argument(node, 1, "dim", 0) % len(sources[0].shape)
    shape = walk.builder.channels.concatenate([source.shape for source in sources], axis)
    weights = Extent()
    for x, source in zip(node.args[0], sources, strict=True):
        if walk.parameter_of(x):
            free = [dim if all(a.free for a in own) else own for dim, own in zip(shape, source.shape, strict=True)]
            free[axis] = tuple(Atom(atom.size) for atom in source.shape[axis])
            found = extent_of(tuple(free))
            weights = Extent(weights.terms + found.terms, weights.constant + found.constant)
    computed = [source for source in sources if source.source]
    walk.tensors[node] = walk.builder.vector(
        VectorKind.CONCATENATE, computed, walk.name(node, base), shape=shape, weights=weights
    )


def _stack(walk: Walk, node: Any, base: str) -> None:
    sources = [walk.tensors[x] for x in node.args[0]]
    axis = _argument(node, 1, "dim", 0) % (len(sources[0].shape) + 1)
    shape = sources[0].shape
    for source in sources[1:]:
        shape = walk.builder.channels.broadcast(shape, source.shape)
    shape = (*shape[:axis], (Atom(len(sources)),), *shape[axis:])
    walk.tensors[node] = walk.builder.vector(VectorKind.CONCATENATE, sources, walk.name(node, base), shape=shape)


def _pad(walk: Walk, node: Any, base: str) -> None:
    source, sizes = walk.tensors[node.args[0]], _sizes(node)
    shape: list[Dim] = []
    for dim, size in zip(source.shape, sizes, strict=True):
        if size_of(dim) != size:
            walk.builder.channels.pin((dim,), f"'{node.name}' pads them")
        shape.append(dim if size_of(dim) == size else (Atom(size),))
    walk.tensors[node] = walk.builder.vector(VectorKind.REDUCE, (source,), walk.name(node, base), shape=tuple(shape))


# -- views: other shapes of the same numbers


def _view(walk: Walk, node: Any, base: str) -> None:
    source = walk.tensors[node.args[0]]
    shape = walk.builder.channels.reshape(source.shape, _sizes(node), node.name)
    _same(walk, node, shape)


def _same(walk: Walk, node: Any, shape: Shape) -> None:
    walk.tensors[node] = replace(walk.tensors[node.args[0]], shape=shape)
    parameter = walk.parameter_of(node.args[0])
    if parameter:
        walk.named[node] = parameter


def _alias(walk: Walk, node: Any, base: str) -> None:
    _same(walk, node, walk.tensors[node.args[0]].shape)


def _permute(walk: Walk, node: Any, base: str) -> None:
    shape = list(walk.tensors[node.args[0]].shape)
    if base == "permute":
        order = [axis % len(shape) for axis in node.args[1]]
        _same(walk, node, tuple(shape[axis] for axis in order))
        return
    one, other = (node.args[1], node.args[2]) if base == "transpose" else (-1, -2) if base in ("mT", "mH") else (0, 1)
    shape[one], shape[other] = shape[other], shape[one]
    _same(walk, node, tuple(shape))


def _unsqueeze(walk: Walk, node: Any, base: str) -> None:
    shape = list(walk.tensors[node.args[0]].shape)
    axis = node.args[1] % (len(shape) + 1)
    _same(walk, node, (*shape[:axis], (), *shape[axis:]))


def _squeeze(walk: Walk, node: Any, base: str) -> None:
    shape = walk.tensors[node.args[0]].shape
    axes = _argument(node, 1, "dim", list(range(len(shape))))
    wanted = {axis % len(shape) for axis in ([axes] if isinstance(axes, int) else axes)}
    _same(walk, node, tuple(dim for i, dim in enumerate(shape) if not (i in wanted and size_of(dim) == 1)))


def _expand(walk: Walk, node: Any, base: str) -> None:
    sizes = _sizes(node)
    shape = walk.tensors[node.args[0]].shape
    shape = ((),) * (len(sizes) - len(shape)) + shape
    grown: list[Dim] = []
    for dim, size in zip(shape, sizes, strict=True):
        if size_of(dim) == size:
            grown.append(dim)
        else:
            grown.append((Atom(size, is_batch=size == TRACED_BATCH, free=size != TRACED_BATCH),))
    _same(walk, node, tuple(grown))


def _part(walk: Walk, node: Any, base: str) -> None:
    """slice, select, narrow: some of the numbers. Channels of which only some are taken are pinned."""
    source = walk.tensors[node.args[0]]
    axis = (node.args[1] if len(node.args) > 1 else 0) % len(source.shape)
    shape = list(source.shape)
    if base == "select":
        walk.builder.channels.pin((shape[axis],), f"'{node.name}' takes one of them")
        _same(walk, node, (*shape[:axis], *shape[axis + 1 :]))
        return
    size = _sizes(node)[axis]
    if size != size_of(shape[axis]):
        if any(atom.is_batch for atom in shape[axis]):
            raise _refuse(node, "taking a part of the batch")
        walk.builder.channels.pin((shape[axis],), f"'{node.name}' takes some of them")
        shape[axis] = (Atom(size, free=all(atom.free for atom in shape[axis])),)
    _same(walk, node, tuple(shape))


def _split(walk: Walk, node: Any, base: str) -> None:
    source = walk.tensors[node.args[0]]
    values = node.meta["val"]
    axis = _argument(node, 2, "dim", 0)
    axis = axis % len(source.shape)
    if base == "unbind":
        axis = _argument(node, 1, "dim", 0) % len(source.shape)
    walk.builder.channels.pin((source.shape[axis],), f"'{node.name}' divides them")
    parts = []
    for value in values:
        shape: Sequence[Dim] = source.shape[:axis] + source.shape[axis + 1 :]
        if base != "unbind":
            shape = (*source.shape[:axis], (Atom(value.shape[axis]),), *source.shape[axis + 1 :])
        parts.append(replace(source, shape=tuple(shape)))
    walk.parts[node] = parts


def _getitem(walk: Walk, node: Any, base: str) -> None:
    walk.tensors[node] = walk.parts[node.args[0]][node.args[1]]


def _handlers() -> dict[str, Handler]:
    table: dict[str, Handler] = {
        "linear": _linear, "addmm": _addmm, "matmul": _matmul, "bmm": _matmul, "mm": _matmul,
        "embedding": _embedding, "scaled_dot_product_attention": _attention, "prelu": _prelu,
        "batch_norm": _norm(VectorKind.BATCH_NORM, 1, 1), "group_norm": _norm(VectorKind.ROW_NORM, 2, 1),
        "instance_norm": _norm(VectorKind.ROW_NORM, 1, 1), "layer_norm": _norm(VectorKind.ROW_NORM, 2, None),
        "rms_norm": _norm(VectorKind.ROW_NORM, 2, None),
        "softmax": _vector(VectorKind.SOFTMAX), "log_softmax": _vector(VectorKind.SOFTMAX),
        "dropout": _vector(VectorKind.DROPOUT), "feature_dropout": _vector(VectorKind.DROPOUT),
        "cat": _cat, "concat": _cat, "stack": _stack, "pad": _pad, "constant_pad_nd": _pad,
        "view": _view, "reshape": _view, "flatten": _view, "unflatten": _view, "_unsafe_view": _view,
        "transpose": _permute, "permute": _permute, "t": _permute, "numpy_T": _permute, "mT": _permute,
        "unsqueeze": _unsqueeze, "squeeze": _squeeze, "expand": _expand, "expand_as": _expand,
        "slice": _part, "select": _part, "narrow": _part,
        "split": _split, "chunk": _split, "split_with_sizes": _split, "unbind": _split, "tensor_split": _split,
    }  # fmt: skip
    for name in ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        table[name] = _convolution
    for name in (
        "relu", "relu6", "gelu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "hardtanh", "leaky_relu", "elu",
        "selu", "celu", "mish", "softplus", "logsigmoid", "exp", "log", "sqrt", "rsqrt", "pow", "neg", "abs", "clamp",
        "clamp_min", "clamp_max", "reciprocal", "square", "sin", "cos", "erf", "tril", "triu",
    ):  # fmt: skip
        table[name] = _vector(VectorKind.ACTIVATION)
    for name in ("add", "sub", "rsub", "maximum", "minimum"):
        table[name] = _binary(VectorKind.ADD)
    for name in ("where", "masked_fill"):
        table[name] = _binary(VectorKind.ACTIVATION)
    for name in ("mul", "div"):
        table[name] = _binary(VectorKind.MULTIPLY)
    for name in ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d"):
        table[name] = _pool(VectorKind.MAX_POOL)
    for name in (
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
        "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    ):  # fmt: skip
        table[name] = _pool(VectorKind.REDUCE)
    for name in ("mean", "sum", "amax", "amin"):
        table[name] = _reduce
    for name in ("clone", "contiguous", "to", "_to_copy", "type_as", "detach", "alias", "lift_fresh_copy", "float"):
        table[name] = _alias
    table[str(operator.getitem)] = _getitem
    return table


HANDLERS = _handlers()
