"""What each operation of the network says about its channels: one rule per kind of ATen operation.

The rules work below autograd, on the primitive operations that every torch program comes down to, so that the Python
code of a module may be whatever it likes. An operation on channels that has no rule is an error naming the module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from codesign.errors import ModelError
from codesign.network.labels import FIXED, Labels, Place, Relations, first, shrink, support
from codesign.network.operations import Value
from codesign.network.products import Operand, Product, attention, contract, convolution

# Kinds of operations, by ATen name without a trailing underscore.
_ELEMENTWISE = re.compile(  # element by element, though without torch's `pointwise` tag (torch 2.6 to 2.13)
    "_prelu_kernel|_to_copy|alias|bernoulli|clone|copy|detach|dropout|empty_like|fill|full_like|hardswish|lift|lift_fresh|"
    "feature_dropout|alpha_dropout|feature_alpha_dropout|masked_fill|native_dropout|ones_like|rand_like|randn_like|"
    "zeros_like"
)
_RESHAPES = re.compile("_reshape_alias|_unsafe_view|reshape|view")
_MOVES = re.compile(  # only move elements: labels are found by running them on the labels
    "channel_shuffle|expand|flip|movedim|permute|pixel_shuffle|pixel_unshuffle|repeat|roll|squeeze|t|transpose|unsqueeze"
)
_MAPS = re.compile(  # on each channel's map alone; the digit is the number of its dimensions
    r"(_?(adaptive_)?(avg|max)_pool|_?upsample_\w+?|(reflection|replication)_pad|grid_sampler_)(\d)d\w*"
)
_SUMS = re.compile("linalg_vector_norm|norm|sum")
_STATISTICS = re.compile("all|amax|amin|any|argmax|argmin|logsumexp|max|mean|min|prod|std|std_mean|var|var_mean")
_ALONG_ONE = re.compile("_log_softmax|_softmax|argsort|cumprod|cumsum|gather|sort|topk")
BATCH_NORMS = re.compile(r"(native|cudnn|miopen)_batch_norm|_native_batch_norm_legit\w*|_batch_norm_(with|no)_update")
_ATTENTION = re.compile(r"_?scaled_dot_product_\w+")


@dataclass(slots=True)
class Traced:
    """What is known of a tensor. `weight`: computed from stored tensors alone, so that a product with it is a layer."""

    tensor: torch.Tensor
    weight: bool
    value: Value

    @property
    def labels(self) -> Labels:
        """Which channels its indices stand for."""
        return self.value.labels


@dataclass(slots=True)
class Findings:
    """What a pass through the network found.

    spans : channels along a dimension whose size the module may hold as an attribute, and where
    norm_after : name of the batch norm that directly follows a layer's product, by the layer's first atom
    depthwise : modules with convolutions of one input channel per group
    """

    relations: Relations = field(default_factory=Relations)
    products: list[Product] = field(default_factory=list)
    spans: list[tuple[Place, torch.Tensor]] = field(default_factory=list)
    norm_after: dict[int, str] = field(default_factory=dict)
    depthwise: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation: its name without trailing underscores, arguments by name, outputs, and how to run it on labels."""

    name: str
    pointwise: bool
    arguments: dict[str, Any]
    outputs: list[torch.Tensor]
    rerun: Callable[[torch.Tensor], Any]
    place: Place


class Rules:
    """Applies the rules; `of` says what is known of a tensor.

    depthwise : modules whose convolutions lose whole groups; None, to decide by whether a group has one input channel
    """

    def __init__(
        self, findings: Findings, of: Callable[[torch.Tensor], Traced], depthwise: Collection[str] | None
    ) -> None:
        self.findings = findings
        self._depthwise = depthwise
        self.relations = findings.relations
        self.of = of
        self._made_by: dict[int, tuple[torch.Tensor, int]] = {}

    def apply(self, call: Call) -> list[Labels]:
        """Labels of the outputs, first to last; outputs beyond the list have none."""
        a, name = call.arguments, call.name
        operands = list(tensors(a.values()))
        if not any(self.of(t).labels for t in operands) or not call.outputs:
            return []
        if call.pointwise or _ELEMENTWISE.fullmatch(name):
            return [self._pointwise(call, [self._operand(t) for t in operands])]
        if _RESHAPES.fullmatch(name) or _MOVES.fullmatch(name):
            return [self._move(call)]
        if _MAPS.fullmatch(name):
            return [self._maps(call)]
        if _SUMS.fullmatch(name) or _STATISTICS.fullmatch(name):
            return [self._reduction(call)]
        if _ALONG_ONE.fullmatch(name):
            return [self._along_one(call)]
        if BATCH_NORMS.fullmatch(name):
            return [self._batch_norm(call)]
        if _ATTENTION.fullmatch(name):
            return [self._attention(call)]
        match name:
            case "convolution" | "_convolution":
                return [self._convolution(call)]
            case "mm":
                return [self._product(call, a["self"], "ik", a["mat2"], "kj", "ij")]
            case "bmm":
                return [self._product(call, a["self"], "nik", a["mat2"], "nkj", "nij")]
            case "mv":
                return [self._product(call, a["self"], "ik", a["vec"], "k", "i")]
            case "dot" | "vdot":
                return [self._product(call, a["self"], "k", a["other"], "k", "")]
            case "addmm":
                return [self._plus(call, a["self"], self._product(call, a["mat1"], "ik", a["mat2"], "kj", "ij"))]
            case "baddbmm":
                return [self._plus(call, a["self"], self._product(call, a["batch1"], "nik", a["batch2"], "nkj", "nij"))]
            case "linear":
                return [self._linear(call)]
            case "cat":
                return [self._concatenation(call)]
            case "stack":
                return [self._stack(call)]
            case "split" | "split_with_sizes" | "unbind":
                return self._split(call)
            case "select" | "slice" | "index_select" | "index":
                return [self._literal(call)]
            case "constant_pad_nd":
                return [self._pad(call)]
            case "native_group_norm":
                return [self._group_norm(call)]
            case "native_layer_norm" | "_fused_rms_norm":
                return [self._layer_norm(call)]
            case "_weight_norm_interface":
                return [self._pointwise(call, [self._operand(t) for t in operands])]
            case "glu":
                return [self._glu(call)]
            case "embedding":
                return [self._embedding(call)]
            case "new_zeros" | "new_ones" | "new_full" | "new_empty":
                return []
        raise not_understood(call.place)

    def _operand(self, tensor: torch.Tensor) -> tuple[tuple[int, ...], Labels]:
        """Shape and labels for `_pointwise`; a dimension made by broadcasting (stride 0) counts as one of size 1."""
        shape = (1 if stride == 0 else size for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        return tuple(shape), self.of(tensor).labels

    def _pointwise(self, call: Call, operands: Sequence[tuple[tuple[int, ...], Labels]]) -> Labels:
        """Broadcast operands against each other; an operand without channels of its own keeps them all."""
        ndim = max(len(shape) for shape, _ in operands)
        aligned = [
            ((1,) * (ndim - len(shape)) + shape, [a.reshape((1,) * (ndim - len(shape)) + a.shape) for a in labels])
            for shape, labels in operands
        ]
        everything = [array for _, labels in aligned for array in labels]
        fixed = []
        for shape, labels in aligned:
            own = {d for array in labels for d in support(array)}
            for wanted in {support(array) for array in everything}:
                missing = {d for d in wanted if shape[d] > 1} - own
                if missing:
                    fixed.append(torch.zeros([shape[d] if d in missing else 1 for d in range(ndim)], dtype=torch.int64))
        return self.relations.meet([*everything, *fixed], call.place, loose=True)

    def _move(self, call: Call) -> Labels:
        return self._moved(call)[0]

    def _moved(self, call: Call) -> list[Labels]:
        """Run the operation on the labels of its first operand."""
        x = call.arguments["self"]
        found: list[list[torch.Tensor]] = [[] for _ in call.outputs]
        for array in self.of(x).labels:
            results = call.rerun(array.expand(x.shape))
            for labels, result in zip(found, results if isinstance(results, (tuple, list)) else [results], strict=True):
                labels.append(shrink(result))
                if _RESHAPES.fullmatch(call.name) and 1 < labels[-1].numel() < array.numel():
                    self.relations.grid(labels[-1], call.place, hidden=True)  # split, and alike along one part
        return [self._disjoint(call, [array for array in labels if support(array)]) for labels in found]

    def _disjoint(self, call: Call, labels: Iterable[torch.Tensor]) -> Labels:
        """Each dimension keeps one set of channels; a second one flattened into it cannot leave."""
        kept: list[torch.Tensor] = []
        for array in labels:
            if any(support(array) & support(other) for other in kept):
                self.relations.pin(array, call.place, "they are flattened together with other channels")
                continue
            kept.append(array)
            if len(support(array)) > 1:
                self.relations.grid(array, call.place)
            if _RESHAPES.fullmatch(call.name) or call.name.startswith("split"):
                self.findings.spans.append((call.place, array))
        return tuple(kept)

    def _hold(self, call: Call, labels: Labels, dims: set[int], why: str) -> None:
        """Keep the extent along `dims`: channels leave along the other dimensions, or not at all."""
        for array in labels:
            if support(array) and support(array) <= dims:
                self.relations.pin(array, call.place, why)
            else:
                self.relations.rows(array, support(array) & dims, call.place)

    def _literal(self, call: Call) -> Labels:
        """Indices that the code states: channels along an indexed dimension keep their places."""
        a, x = call.arguments, call.arguments["self"]
        if call.name == "index":
            dims = {d for d, index in enumerate(a["indices"]) if index is not None}
        else:
            dims = {a["dim"] % x.ndim}
        if call.name == "slice" and call.outputs[0].shape == x.shape:
            return self.of(x).labels
        self._hold(call, self.of(x).labels, dims, "the code indexes them by number")
        return self._move(call)

    def _split(self, call: Call) -> list[Labels]:
        x = call.arguments["self"]
        dim = call.arguments["dim"] % x.ndim
        if call.name == "unbind":
            self._hold(call, self.of(x).labels, {dim}, "the code takes them one by one")
            return self._moved(call)
        if len({out.shape[dim] for out in call.outputs}) > 1:
            self._hold(call, self.of(x).labels, {dim}, "they are split into parts of unequal size")
            return self._moved(call)
        for array in self.of(x).labels:
            if dim in support(array):
                head, *others = array.chunk(len(call.outputs), dim)
                for other in others:
                    self.relations.equal(head, other, call.place)
        return self._moved(call)

    def _glu(self, call: Call) -> Labels:
        """One half of the channels gates the other."""
        x = call.arguments["self"]
        dim = call.arguments["dim"] % x.ndim
        labels = []
        for array in self.of(x).labels:
            if dim in support(array):
                gated, gate = array.chunk(2, dim)
                self.relations.equal(gated, gate, call.place)
                array = gated
            labels.append(array)
        return tuple(array for array in labels if support(array))

    def _concatenation(self, call: Call) -> Labels:
        parts = [t for t in call.arguments["tensors"] if t.numel()]
        shape, ndim = call.outputs[0].shape, call.outputs[0].ndim
        dim = call.arguments["dim"] % ndim
        along = [[a for a in self.of(t).labels if dim in support(a)] for t in parts]
        across = [tuple(a for a in self.of(t).labels if dim not in support(a)) for t in parts]
        shapes = [tuple(1 if d == dim else size for d, size in enumerate(shape))] * len(parts)
        labels = self._pointwise(call, list(zip(shapes, across, strict=True)))
        wide = {d for arrays in along for array in arrays for d in support(array)} - {dim}
        if any(along):
            laid = []
            for t, arrays in zip(parts, along, strict=True):
                array = arrays[0] if arrays else torch.zeros((1,) * ndim, dtype=torch.int64)
                laid.append(array.expand([t.shape[d] if d == dim or d in wide else 1 for d in range(ndim)]))
            labels = (torch.cat(laid, dim), *labels)
        return self._disjoint(call, labels)

    def _stack(self, call: Call) -> Labels:
        dim = call.arguments["dim"] % call.outputs[0].ndim
        labels = self._pointwise(call, [self._operand(t) for t in call.arguments["tensors"]])
        return tuple(array.unsqueeze(dim) for array in labels)

    def _pad(self, call: Call) -> Labels:
        """Channels that padding adds are fixed; cutting channels off by negative padding holds them in place."""
        x, pad = call.arguments["self"], call.arguments["pad"]
        ends = {x.ndim - 1 - i: (pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)}
        labels = []
        for array in self.of(x).labels:
            self._hold(call, (array,), {d for d, both in ends.items() if min(both) < 0}, "the code cuts some off")
            amounts = [
                n for d in range(x.ndim - 1, -1, -1) for n in (ends.get(d, (0, 0)) if d in support(array) else (0, 0))
            ]
            labels.append(torch.nn.functional.pad(array, amounts, value=FIXED))
        return tuple(labels)

    def _maps(self, call: Call) -> Labels:
        found = _MAPS.fullmatch(call.name)
        assert found is not None
        x = next(tensors(call.arguments.values()))
        spatial = set(range(x.ndim - int(found[5]), x.ndim))
        self._hold(call, self.of(x).labels, spatial, "they lie along the window of a pooling or resizing")
        labels = (first(array, support(array) & spatial) for array in self.of(x).labels)
        return tuple(array for array in labels if support(array))

    def _reduction(self, call: Call) -> Labels:
        x = call.arguments["self"]
        dims = call.arguments.get("dim")
        reduced = set(range(x.ndim)) if dims is None or dims == [] else {d % x.ndim for d in _as_list(dims)}
        labels = []
        for array in self.of(x).labels:
            if _STATISTICS.fullmatch(call.name):
                self.relations.approximate(array, support(array) & reduced, call.place)
            array = first(array, support(array) & reduced)
            if not call.arguments.get("keepdim"):
                array = array.reshape([size for d, size in enumerate(array.shape) if d not in reduced])
            if support(array):
                labels.append(array)
        return tuple(labels)

    def _along_one(self, call: Call) -> Labels:
        """Operations along one dimension; along channels only a softmax has a meaning without some of them."""
        x = call.arguments["self"]
        dim = call.arguments["dim"] % x.ndim
        for array in self.of(x).labels:
            if dim in support(array):
                if "softmax" not in call.name:
                    raise not_understood(call.place)
                self.relations.approximate(array, [dim], call.place)
        return self.of(x).labels

    def _channelwise(self, call: Call, names: Sequence[str]) -> Labels:
        """Combine with vectors that lie along dimension 1."""
        x: torch.Tensor = call.arguments["input"]
        operands = [self._operand(x)]
        for name in names:
            vector = call.arguments.get(name)
            if vector is not None:
                shape = (1, -1) + (1,) * (x.ndim - 2)
                labels = tuple(array.reshape(shape) for array in self.of(vector).labels)
                operands.append(((1, vector.numel(), *shape[2:]), labels))
        return self._pointwise(call, operands)

    def _batch_norm(self, call: Call) -> Labels:
        x = call.arguments["input"]
        made = self._made_by.get(id(x))
        if made is not None:
            self.findings.norm_after[made[1]] = call.place.module
        return self._channelwise(call, ["weight", "bias", "running_mean", "running_var"])

    def _group_norm(self, call: Call) -> Labels:
        """Whole groups leave, so that the statistics of the others stay as they are."""
        x, groups = call.arguments["input"], call.arguments["group"]
        for array in self.of(x).labels:
            self._hold(call, (array,), set(range(2, x.ndim)), "a group norm averages over them")
            if 1 in support(array):
                vector = first(array, support(array) - {1}).reshape(groups, -1)
                self.relations.tie(vector, [1], call.place)
                self.findings.spans.append((call.place, vector.reshape(-1)))
        return self._channelwise(call, ["weight", "bias"])

    def _layer_norm(self, call: Call) -> Labels:
        x, depth = call.arguments["input"], len(call.arguments["normalized_shape"])
        dims = set(range(x.ndim - depth, x.ndim))
        for array in self.of(x).labels:
            self.relations.approximate(array, support(array) & dims, call.place)
            self.findings.spans.append((call.place, first(array, support(array) - dims)))
        return self._pointwise(call, [self._operand(t) for t in tensors(call.arguments.values())])

    def _embedding(self, call: Call) -> Labels:
        table, indices = call.arguments["weight"], call.arguments["indices"]
        labels = []
        for array in self.of(table).labels:
            if support(array) == {0}:
                self.relations.pin(array, call.place, "they are the rows of an embedding")
            else:
                labels.append(array.reshape((1,) * indices.ndim + (-1,)))
        return tuple(labels)

    def _as_operand(self, tensor: torch.Tensor, axes: str) -> Operand:
        """A batch of matrices is no layer's weight, even when it comes from stored tensors (learned queries)."""
        known = self.of(tensor)
        return Operand(known.labels, axes, tuple(tensor.shape), known.weight and "n" not in axes and "h" not in axes)

    def _found(self, call: Call, product: Product) -> Labels:
        self.findings.products.append(product)
        if product.outputs is not None:
            self._made_by[id(call.outputs[0])] = (call.outputs[0], int(product.outputs[0]))
        return product.result

    def _product(
        self, call: Call, one: torch.Tensor, axes: str, other: torch.Tensor, other_axes: str, out: str
    ) -> Labels:
        operands = self._as_operand(one, axes), self._as_operand(other, other_axes)
        return self._found(call, contract(self.relations, call.place, *operands, out))

    def _plus(self, call: Call, bias: torch.Tensor, product: Labels) -> Labels:
        return self._pointwise(call, [(tuple(call.outputs[0].shape), product), self._operand(bias)])

    def _linear(self, call: Call) -> Labels:
        x, weight, bias = (call.arguments[name] for name in ("input", "weight", "bias"))
        leading = "abcdefg"[: x.ndim - 1]
        labels = self._product(call, x, leading + "k", weight, "ok", leading + "o")
        return labels if bias is None else self._plus(call, bias, labels)

    def _convolution(self, call: Call) -> Labels:
        a = call.arguments
        x, weight, out = a["input"], a["weight"], call.outputs[0]
        positions = prod((x if a["transposed"] else out).shape[2:])
        operands = (
            Operand(self.of(x).labels, "", tuple(x.shape), False),
            Operand(self.of(weight).labels, "", tuple(weight.shape), True),
        )
        per_group = x.shape[1] // a["groups"]
        depthwise = a["groups"] > 1 == per_group if self._depthwise is None else call.place.module in self._depthwise
        if depthwise:
            self.findings.depthwise.add(call.place.module)
        product = convolution(
            self.relations,
            call.place,
            *operands,
            transposed=a["transposed"],
            groups=a["groups"],
            depthwise=depthwise,
            positions=positions,
        )
        product_labels = self._found(call, product)
        if a["bias"] is None:
            return product_labels
        shape = (1, -1) + (1,) * (out.ndim - 2)
        bias = tuple(array.reshape(shape) for array in self.of(a["bias"]).labels)
        return self._pointwise(call, [(tuple(out.shape), product_labels), ((1, out.shape[1], *shape[2:]), bias)])

    def _attention(self, call: Call) -> Labels:
        a = call.arguments
        mask = a.get("attn_mask", a.get("attn_bias"))
        q, k, v = (
            self._as_operand(a[name], axes) for name, axes in (("query", "bhtd"), ("key", "bhsd"), ("value", "bhse"))
        )
        bias = None if mask is None else self._operand(mask)[1]
        result, products = attention(self.relations, call.place, q, k, v, bias, a.get("scale") is not None)
        self.findings.products += products
        return result


def tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Every tensor among arguments, lists included, in order."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors(value)


def not_understood(place: Place) -> ModelError:
    """An operation on channels for which there is no rule."""
    how = f"name it in channel_groups(..., opaque=['{place.module}'])"
    if not place.module:
        how = "put this code into a module of its own and name that in channel_groups(..., opaque=[...])"
    return ModelError(
        f"module {place}: what this operation does to channels is not understood; to leave the channels that enter it "
        f"alone, {how}"
    )


def _as_list(dims: int | Sequence[int]) -> Sequence[int]:
    return [dims] if isinstance(dims, int) else dims
