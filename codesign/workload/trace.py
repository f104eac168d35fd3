"""From a torch module to a `Workload`: walk the graph of `torch.export` and tell it to a `Builder`, node by node."""

from __future__ import annotations

from typing import Any

from codesign.errors import ModelError
from codesign.workload.build import Builder, Tensor
from codesign.workload.network import Workload
from codesign.workload.operations import HANDLERS, Walk
from codesign.workload.shapes import TRACED_BATCH, Atom, has_batch


def trace(model: Any, example_input: Any, *, batch: int | None, name: str) -> Workload:
    """See `Workload.from_torch`."""
    import torch

    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    if not inputs or any(not isinstance(x, torch.Tensor) or x.dim() == 0 or x.shape[0] == 0 for x in inputs):
        raise ModelError("example_input must be a tensor, or a tuple of tensors, whose first dimension is the batch")
    batch = inputs[0].shape[0] if batch is None else batch
    name = name or type(model).__name__
    walk = _walk(model, _exported(model, tuple(x[:1].repeat(TRACED_BATCH, *[1] * (x.dim() - 1)) for x in inputs)))
    found = walk.builder.workload(name, walk.outputs, batch)
    _check_parameters(model, found)
    return found


def _exported(model: Any, inputs: tuple[Any, ...]) -> Any:
    """The exported program, in training mode but for batch norms: those would refuse 1 x 1 maps."""
    import torch

    training = {module: module.training for module in model.modules()}
    try:
        for module in model.modules():
            module.training = not isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        return torch.export.export(model, inputs, strict=False)
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"torch.export cannot trace {type(model).__name__}: {reason}") from error
    finally:
        for module, mode in training.items():
            module.training = mode


def _walk(model: Any, program: Any) -> Walk:
    leaves = {path for path, module in model.named_modules() if not list(module.children())}
    weighted = {path for path in leaves if hasattr(model.get_submodule(path), "weight")}
    signature = program.graph_signature
    walk = Walk(Builder(), dict(signature.inputs_to_parameters), leaves, weighted)
    user_inputs = set(signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder":
            if node.name in user_inputs:
                sizes = list(value.shape)[1:]
                walk.tensors[node] = walk.builder.input(sizes, channels=value.dtype.is_floating_point and bool(sizes))
            else:
                shape = tuple((Atom(size, free=True),) for size in value.shape)
                walk.tensors[node] = Tensor(shape=shape, source="", needs_grad=node.name in walk.parameters)
        elif node.op == "call_function":
            _call(walk, node)
        elif node.op == "output":
            walk.outputs = [walk.tensors[result] for result in node.args[0] if _is_output(walk, result)]
    return walk


def _is_output(walk: Walk, node: Any) -> bool:
    """A result of the network, not an updated buffer."""
    return node in walk.tensors and has_batch(walk.tensors[node].shape)


def _call(walk: Walk, node: Any) -> None:
    operation = str(node.target).removeprefix("aten.")
    read = [x for x in node.all_input_nodes if x in walk.tensors]
    if not hasattr(node.meta.get("val"), "shape") and not isinstance(node.meta.get("val"), tuple | list):
        return  # assertions and the like: no tensor
    from_parts = any(x in walk.parts for x in node.all_input_nodes)
    if not from_parts and all(walk.tensors[x].source == "" and not walk.tensors[x].needs_grad for x in read):
        walk.constant(node)  # computed once, before training
        return
    base = operation.partition(".")[0].removesuffix("_")
    handler = HANDLERS.get(base)
    if handler is None:
        raise ModelError(
            f"node '{node.name}' of module '{walk.module_of(node) or '(top)'}': "
            f"operation '{operation}' is not understood"
        )
    handler(walk, node, base)


def _check_parameters(model: Any, workload: Workload) -> None:
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted != workload.parameters:
        raise ModelError(
            f"{type(model).__name__} has {wanted} parameters, the layers found have {workload.parameters}; "
            "a parameter is used in a way that is not understood, or not used at all"
        )
