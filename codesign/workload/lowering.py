"""From the reading of a torch network to the layers of a `Workload`: what each operation costs, and how its sizes follow channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from codesign.errors import ModelError
from codesign.network import ChannelGroup, OperationKind
from codesign.workload.assembly import Assembly, Made, total
from codesign.workload.layers import NOTHING, Convolution, Embedding, Extent, Layer, Linear, Matmul, VectorKind
from codesign.workload.sizes import Sizes

if TYPE_CHECKING:
    import torch

    from codesign.network import Operation, Reading, Value


def lower(model: torch.nn.Module, reading: Reading, name: str) -> tuple[tuple[Layer, ...], tuple[ChannelGroup, ...]]:
    """Layers and channel groups of the network `name`; see `Workload.from_torch`."""
    if reading.unreached:
        where = "in evaluation mode" if reading.why else "in training mode"
        raise ModelError(
            f"parameter '{reading.unreached[0].name}' took no part when the network ran on the example {where}; "
            "remove its module from the network, or give an example that reaches it"
        )
    paths = {path: module for path, module in model.named_modules() if not list(module.children())}
    lowering = _Lowering(reading, set(paths), {path for path in paths if hasattr(paths[path], "weight")})
    for operation in reading.operations:
        lowering.lower(operation)
    outputs = [lowering.made[value.index] for value in reading.outputs if lowering.is_per_example(value)]
    layers, groups = lowering.assembly.finished(name, outputs, lowering.groups)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    found = sum(layer.parameters for layer in layers)
    if wanted != found:
        raise ModelError(
            f"{type(model).__name__} has {wanted} parameters, the layers found have {found}; "
            "a parameter is used in a way that is not understood; write the operation with a torch module that holds it"
        )
    return layers, groups


class _Lowering:
    """Turns operations into layers, one after the other.

    leaves : modules without children; weighted : those of them that have a `weight`
    """

    def __init__(self, reading: Reading, leaves: set[str], weighted: set[str]) -> None:
        self.reading = reading
        self.assembly = Assembly()
        self.made: dict[int, Made] = {}
        self._leaves, self._weighted = leaves, weighted
        self._sizes = Sizes(reading)
        self._counted: set[tuple[str, tuple[int, int]]] = set()  # parameters that belong to a layer
        self._packed: dict[tuple[str, str, str], tuple[str, list[Value], list[tuple[int, int]]]] = {}
        self._users: dict[tuple[str, tuple[int, int]], str] = {}  # weights -> the layer that counts them
        for value in reading.inputs:
            name = self.assembly.unique("input")
            self.made[value.index] = Made(source=name, elements=self._sizes.elements(value))
            self._sizes.input(name, value)

    def is_per_example(self, value: Value) -> bool:
        """Whether a tensor differs from example to example and has all of them."""
        return value.flows and math.prod(value.shape) % self.reading.batch == 0 and value.index in self.made

    def groups(self) -> dict[str, ChannelGroup]:
        """Key of an extent -> its group."""
        return self._sizes.groups()

    # -- names and parameters

    def _layer_name(self, operation: Operation, parameter: str) -> str:
        """The module that holds the weight: `features.0`. Of a function on a parameter: `attn.in_proj` of its name."""
        module = operation.module
        return module if module in self._weighted else parameter.removesuffix(".weight").removesuffix("_weight")

    def _name(self, operation: Operation) -> str:
        """The module's name for a module that is one operation, else with the operation's name after it."""
        module = operation.module
        return module if module in self._leaves and module else f"{module}.{operation.name}".strip(".")

    def _count(self, value: Value | None, operation: Operation) -> bool:
        """Whether this is a parameter that no layer has counted before; from now on it is counted."""
        if value is None:
            return False
        if not value.parameter:
            raise _refusal(operation, "a bias that is not a parameter")
        new = (value.parameter, value.part) not in self._counted
        self._counted.add((value.parameter, value.part))
        return new

    def _weight(self, value: Value, name: str, operation: Operation, what: str) -> str:
        """The layer that has used this weight before, or empty."""
        if not value.parameter:
            raise _refusal(operation, f"{what} that is not a parameter")
        self._counted.add((value.parameter, value.part))
        user = self._users.setdefault((value.parameter, value.part), name)
        return "" if user == name else user

    def _of(self, value: Value, operation: Operation) -> Made:
        if value.index not in self.made:
            raise _refusal(operation, "a computation on parameters or constants alone")
        return self.made[value.index]

    # -- operations

    def lower(self, operation: Operation) -> None:
        """Add the layers of one operation."""
        kind, a = operation.kind, operation.arguments
        match kind:
            case OperationKind.CONVOLUTION:
                self._convolution(operation)
            case OperationKind.LINEAR if operation.name == "addmm":
                self._linear(operation, a["mat1"], a["mat2"], a["self"])
            case OperationKind.LINEAR:
                self._linear(operation, a["input"], a["weight"], a["bias"])
            case OperationKind.PRODUCT:
                self._product(operation, a["self"], a["other"] if operation.name == "matmul" else a["mat2"])
            case OperationKind.ATTENTION:
                self._attention(operation)
            case OperationKind.EMBEDDING:
                self._embedding(operation)
            case OperationKind.BATCH_NORM:
                self._vector(VectorKind.BATCH_NORM, operation)
            case OperationKind.ROW_NORM:
                self._vector(VectorKind.ROW_NORM, operation)
            case OperationKind.SOFTMAX:
                self._vector(VectorKind.SOFTMAX, operation)
            case OperationKind.DROPOUT:
                self._vector(VectorKind.DROPOUT, operation)
            case OperationKind.ADD:
                self._vector(VectorKind.ADD, operation)
            case OperationKind.MULTIPLY:
                self._vector(VectorKind.MULTIPLY, operation)
            case OperationKind.ELEMENTWISE:
                self._vector(VectorKind.ACTIVATION, operation)
            case OperationKind.MAX_POOL:
                self._vector(VectorKind.MAX_POOL, operation)
            case OperationKind.REDUCE | OperationKind.COPY:
                self._vector(VectorKind.REDUCE, operation)
            case OperationKind.CONCATENATE:
                self._vector(VectorKind.CONCATENATE, operation)
            case OperationKind.VIEW:
                self._view(operation)
            case OperationKind.UNKNOWN:
                raise _refusal(operation, "what it costs")
            case _:
                assert_never(kind)

    def _view(self, operation: Operation) -> None:
        source = operation.operands[0]
        if source.index in self.made:
            for value in operation.outputs:
                self.made[value.index] = replace(self.made[source.index], elements=self._sizes.elements(value))

    def _vector(self, kind: VectorKind, operation: Operation) -> None:
        """Work on whole tensors. A parameter among its operands belongs to it; constants cost nothing."""
        operands = [value for value in operation.operands if value.flows or value.learned]
        weights = [value for value in operands if value.parameter]
        read = [value for value in operands if not value.parameter]
        if kind is not VectorKind.CONCATENATE:
            square = len(operation.operands) == 2 and read[1:] and read[0] is read[1]
            read = read if square else list({value.index: value for value in read}.values())
        if len(read) == 1 and kind in (VectorKind.ADD, VectorKind.MULTIPLY):
            kind = VectorKind.ACTIVATION
        name = self._name(operation)
        own = [self._sizes.extent(value, range(len(value.shape))) for value in weights if self._count(value, operation)]
        alone = [
            Made(source="", elements=self._sizes.extent(v, range(len(v.shape)))) for v in ([] if read else weights)
        ]
        made = self.assembly.vector(
            kind,
            alone or [self._of(value, operation) for value in read],
            name,
            self._sizes.elements(operation.outputs[0], where=name),
            weights=total(own) if own else NOTHING,
        )
        for value in operation.outputs:
            self.made[value.index] = made

    def _convolution(self, operation: Operation) -> None:
        a = operation.arguments
        x, weight, out = a["input"], a["weight"], operation.outputs[0]
        name = self.assembly.unique(self._layer_name(operation, weight.parameter))
        shares = self._weight(weight, name, operation, "a convolution by a weight")
        kernel = weight.shape[2:]
        dilation = _each(a["dilation"], kernel)
        if isinstance(a["padding"], str):
            same = a["padding"] == "same"
            padding = tuple(d * (k - 1) // 2 if same else 0 for d, k in zip(dilation, kernel, strict=True))
        else:
            padding = _each(a["padding"], kernel)
        source = self._of(x, operation)
        inputs = self._sizes.inputs(x, 1, name, source.source)
        layer = Convolution(
            name=name,
            sources=(source.source,),
            in_channels=x.shape[1],
            out_channels=out.shape[1],
            kernel=kernel,
            stride=_each(a["stride"], kernel),
            padding=padding,
            dilation=dilation,
            groups=a["groups"],
            in_size=x.shape[2:],
            out_size=out.shape[2:],
            transposed=operation.name.startswith("conv_transpose") or bool(a.get("transposed")),
            bias=self._count(a["bias"], operation),
            inputs=inputs,
            outputs=self._sizes.outputs(name, [out], 1),
            needs_input_grad=source.needs_grad,
            shares=shares,
        )
        self.made[out.index] = self.assembly.add(layer, self._sizes.elements(out), name)

    def _linear(self, operation: Operation, x: Value, weight: Value, bias: Value | None) -> None:
        """A linear layer; parts of one matrix that read the same tensor, as queries, keys and values do, are one."""
        out = operation.outputs[0]
        source = self._of(x, operation)
        packed = (operation.module, weight.parameter, source.source)
        name, values, parts = self._packed.get(packed, ("", [], []))
        joins = weight.part not in parts and bool(parts)
        if not joins:
            name, values, parts = self.assembly.unique(self._layer_name(operation, weight.parameter)), [], []
        values, parts = [*values, out], [*parts, weight.part]
        self._packed[packed] = name, values, parts
        rows = self._sizes.elements(x, range(len(x.shape) - 1))
        layer = Linear(
            name=name,
            sources=(source.source,),
            in_features=x.shape[-1],
            out_features=sum(value.shape[-1] for value in values),
            rows=0,
            bias=self._count(bias, operation),
            shares=self._weight(weight, name, operation, "a linear layer by a weight"),
            inputs=self._sizes.inputs(x, -1, name, source.source),
            outputs=self._sizes.outputs(name, values, -1),
            vectors=rows,
            needs_input_grad=source.needs_grad,
        )
        elements = [self._sizes.elements(value) for value in values]
        made = self.assembly.add(layer, total(elements), name, joins=joins)
        self.made[out.index] = replace(made, elements=elements[-1])

    def _product(self, operation: Operation, left: Value, right: Value) -> None:
        if right.parameter and len(right.shape) == 2:
            self._linear(operation, left, right, None)
            return
        if len(left.shape) < 2 or len(right.shape) < 2 or left.parameter or right.parameter:
            raise _refusal(operation, "a product with a vector or a parameter")
        sources = self._of(left, operation), self._of(right, operation)
        out = operation.outputs[0]
        extents = (
            self._sizes.elements(out, range(len(out.shape) - 2)),
            self._sizes.extent(left, [len(left.shape) - 2]),
            self._sizes.extent(right, [len(right.shape) - 1]),
            self._sizes.extent(left, [len(left.shape) - 1]),
        )
        self.made[out.index] = self._matmul(self._name(operation), sources, extents, self._sizes.elements(out))

    def _matmul(
        self, name: str, sources: tuple[Made, Made], extents: tuple[Extent, Extent, Extent, Extent], elements: Extent
    ) -> Made:
        """`count` products [m, k] x [k, n]; `extents` are of count, m, n and k."""
        name = self.assembly.unique(name)
        owner = sources[0].owner or sources[1].owner
        layer = Matmul(
            name=name,
            sources=tuple(source.source for source in sources),
            extents=extents,
            count=0,
            m=0,
            n=0,
            k=0,
            owner=owner,
        )
        return self.assembly.add(layer, elements, owner)

    def _attention(self, operation: Operation) -> None:
        """softmax(q k') v, with the scores in memory: two products and a softmax between them."""
        a, out = operation.arguments, operation.outputs[0]
        q, k, v = a["query"], a["key"], a["value"]
        if q.parameter or k.parameter or v.parameter:
            raise _refusal(operation, "attention of a parameter")
        query, key, value = (self._of(x, operation) for x in (q, k, v))
        name, ndim = operation.module or operation.name, len(q.shape)
        count = self._sizes.elements(out, range(ndim - 2))
        rows, keys = q.shape[-2], k.shape[-2]
        m, n = Extent((), rows), Extent((), keys)
        elements = count.times(rows * keys)
        scores = self._matmul(
            f"{name}.scores", (query, key), (count, m, n, self._sizes.extent(q, [ndim - 1])), elements
        )
        weights = self.assembly.vector(VectorKind.SOFTMAX, (scores,), f"{name}.softmax", elements)
        if a["dropout_p"] > 0:
            weights = self.assembly.vector(VectorKind.DROPOUT, (weights,), f"{name}.dropout", elements)
        self.made[out.index] = self._matmul(
            f"{name}.context",
            (weights, value),
            (count, m, self._sizes.extent(v, [ndim - 1]), n),
            self._sizes.elements(out),
        )

    def _embedding(self, operation: Operation) -> None:
        table, index, out = operation.arguments["weight"], operation.arguments["indices"], operation.outputs[0]
        name = self.assembly.unique(self._layer_name(operation, table.parameter))
        if self._weight(table, name, operation, "an embedding in a table"):
            raise _refusal(operation, "a table that another layer has used before")
        entries, width = table.shape
        source = self.made.get(index.index)
        layer = Embedding(
            name=name,
            sources=("" if source is None else source.source,),
            entries=entries,
            width=width,
            rows=self._sizes.elements(index).constant,
            shared=not index.flows,
            outputs=self._sizes.outputs(name, [out], -1),
            owner="",
        )
        self.made[out.index] = self.assembly.add(layer, self._sizes.elements(out), "")


def _refusal(operation: Operation, what: str) -> ModelError:
    return ModelError(
        f"{operation}: {what} is not understood; write it with operations of torch.nn, or compute it outside the network"
    )


def _each(value: Any, kernel: Sequence[int]) -> tuple[int, ...]:
    """One number per spatial dimension."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return values * len(kernel) if len(values) == 1 else values
