"""One forward pass, watched: every stored tensor gets atoms, every operation its rule."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

from codesign.errors import ModelError
from codesign.network.attention import all_prunable
from codesign.network.kinds import CREATION, OperationKind, kind_of
from codesign.network.labels import Labels, Place
from codesign.network.modes import chance_kept, evaluating
from codesign.network.operations import Operation, Value, expanded
from codesign.network.rules import Call, Findings, Rules, Traced, tensors
from codesign.network.stored import stored_tensors

P = ParamSpec("P")
R = TypeVar("R")
Example = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


_watching: list[Watch] = []


def elementwise(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function as element by element, for code that tracing cannot see into (numba, C, another framework).

    The result has the channels of the tensor arguments, broadcast. Functions made of torch operations need no mark,
    nor do custom operators that carry `torch.Tag.pointwise`.
    """

    @wraps(function)
    def marked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _watching:
            return function(*args, **kwargs)
        with _watching[-1].paused():
            result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            _watching[-1].marked({"args": args, **kwargs}, result)
        return result

    return marked


class NetworkFailure(ModelError):
    """The network itself fails on the example; `module` is where."""

    def __init__(self, module: str, error: Exception) -> None:
        super().__init__(f"module '{module or 'the network itself'}' fails on the example input: {error}")
        self.module = module


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows a forward pass. `atoms` are those of the stored tensors, by name.

    It stands below autograd, where operations that torch makes of others (`linear`, `dropout`) still arrive whole: those
    are recorded, and then taken apart, so that channels are followed through the operations that they are made of.
    """

    def __init__(
        self,
        model: nn.Module,
        stored: Mapping[str, tuple[np.ndarray, ...]],
        opaque: Collection[str],
        depthwise: Collection[str] | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.findings = Findings()
        self.operations: list[Operation] = []
        self.refusals: list[ModelError] = []  # operations on channels that no rule understands
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.reached: set[str] = set()
        self._rules = Rules(self.findings, self._of, depthwise)
        self._known: dict[int, Traced] = {}
        self._names: dict[int, str] = {}
        self._opaque = opaque
        self._inside: list[str] = []
        self._paused = False
        self._recording = True
        self._values = 0
        for name, (_, tensor, _) in stored_tensors(model).items():
            self._names[id(tensor)] = name
            learned = isinstance(tensor, nn.Parameter)
            value = self._value(tensor, _labels(stored[name]), learned=learned, parameter=name if learned else "")
            self._known[id(tensor)] = Traced(tensor, True, value)

    @property
    def place(self) -> str:
        """Name of the module whose code is running."""
        return self._inside[-1] if self._inside else ""

    def _value(
        self,
        tensor: torch.Tensor,
        labels: Labels = (),
        *,
        flows: bool = False,
        learned: bool = False,
        parameter: str = "",
    ) -> Value:
        self._values += 1
        repeated = expanded(tensor)
        own = math.prod(size for d, size in enumerate(tensor.shape) if d not in repeated)
        return Value(
            index=self._values,
            shape=tuple(tensor.shape),
            labels=labels,
            expanded=repeated,
            real=tensor.dtype.is_floating_point,
            flows=flows,
            learned=learned,
            parameter=parameter,
            part=(int(tensor.storage_offset()), own) if parameter else (0, own),
        )

    def _of(self, tensor: torch.Tensor) -> Traced:
        known = self._known.get(id(tensor))
        return Traced(tensor, True, self._value(tensor)) if known is None else known

    def input(self, tensor: torch.Tensor) -> None:
        """An input of the network: it has no channels of ours, and it is no weight."""
        value = self._value(tensor, flows=True)
        self.inputs.append(value)
        self._known[id(tensor)] = Traced(tensor, False, value)

    def output(self, tensor: torch.Tensor) -> None:
        """An output of the network: its shape must not change."""
        value = self._of(tensor).value
        self.outputs.append(value)
        for array in value.labels:
            self.findings.relations.pin(array, Place("", "output"), "they are an output of the network")

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        schema = func._schema
        arguments = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
        for argument in schema.arguments:
            if argument.has_default_value():
                arguments.setdefault(argument.name, argument.default_value)
        name = schema.name.split("::")[1]
        name = name.rstrip("_") if not name.startswith("__") else name
        kind = kind_of(name, pointwise=torch.Tag.pointwise in func.tags)
        if _is_whole(name, arguments) or not _is_composite(func):
            read = self._as_values(arguments)
            result = _run(name, func, args, kwargs)

            def rerun(labels: torch.Tensor) -> Any:
                if "view" in name or "reshape" in name:
                    return labels.reshape(arguments["size"] if "size" in arguments else arguments["shape"])
                return func(labels, *tree_map(_to_cpu, args[1:]), **tree_map(_to_cpu, kwargs))

            self.see(name, torch.Tag.pointwise in func.tags, arguments, result, rerun)
            self._record(kind, name, read, result)
            return result
        if kind is OperationKind.UNKNOWN or not self._recording:
            with self:
                return func.decompose(*args, **kwargs)
        read = self._as_values(arguments)
        self._recording = False
        try:
            with self:
                result = func.decompose(*args, **kwargs)
        finally:
            self._recording = True
        self._record(kind, name, read, result)
        return result

    def _as_values(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not self._recording:
            return {}
        return {name: tree_map_only(torch.Tensor, lambda t: self._of(t).value, x) for name, x in arguments.items()}

    def _record(self, kind: OperationKind, name: str, read: dict[str, Any], result: Any) -> None:
        outputs = tuple(self._of(tensor).value for tensor in tensors([result]))
        if self._recording and any(value.flows or value.learned for value in outputs):
            self.operations.append(Operation(kind=kind, name=name, module=self.place, arguments=read, outputs=outputs))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs now is not looked at."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def marked(self, arguments: dict[str, Any], result: torch.Tensor) -> None:
        """A function outside torch that its author says is element by element."""
        read = self._as_values(arguments)
        self.see("elementwise", True, arguments, result, lambda labels: labels)
        self._record(OperationKind.ELEMENTWISE, "elementwise", read, result)

    def leave_torch(self, tensor: torch.Tensor, how: str) -> None:
        """The values of a tensor go where no rule can follow."""
        for array in () if self._paused else self._of(tensor).labels:
            why = "they leave torch; mark the code between with codesign.prune.elementwise if that is what it does"
            self.findings.relations.pin(array, Place(self.place, how), why)

    def see(
        self, name: str, pointwise: bool, arguments: dict[str, Any], result: Any, rerun: Callable[..., Any]
    ) -> None:
        """Apply the rule of one operation and remember what it says of the results."""
        outputs = list(tensors([result]))
        operands = list(tensors(arguments.values()))
        known = [self._of(tensor) for tensor in operands]
        for tensor in operands:
            if id(tensor) in self._names:
                self.reached.add(self._names[id(tensor)])
        place = Place(self.place, name)
        if any(module in self._opaque for module in self._inside):
            for one in known:
                for array in one.labels:
                    self.findings.relations.pin(array, place, "they enter a module that is said to be opaque")
            labels = []
        else:
            labels = self._followed(Call(name, pointwise, arguments, outputs, rerun, place), known)
        weight = all(one.weight for one in known)
        flows = name not in CREATION and any(one.value.flows for one in known)
        learned = name not in CREATION and any(one.value.learned for one in known)
        view = known and kind_of(name, pointwise=pointwise) is OperationKind.VIEW
        parameter = known[0].value.parameter if view else ""
        for i, tensor in enumerate(outputs):
            value = self._value(
                tensor, labels[i] if i < len(labels) else (), flows=flows, learned=learned, parameter=parameter
            )
            self._known[id(tensor)] = Traced(tensor, weight, value)

    def _followed(self, call: Call, operands: list[Traced]) -> list[Labels]:
        """Labels of the results; of an operation that no rule understands, the channels stay, and the error is kept."""
        try:
            return self._rules.apply(call)
        except ModelError as error:
            self.refusals.append(error)
            for one in operands:
                for array in one.labels:
                    self.findings.relations.pin(array, call.place, "what it does to channels is not understood")
            return []

    @contextmanager
    def modules_of(self, model: nn.Module) -> Iterator[None]:
        """Know which module's code is running."""
        hooks = []
        for path, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(partial(self._enter, path)))
            hooks.append(module.register_forward_hook(partial(self._leave, path)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, path: str, *_: Any) -> None:
        self._inside.append(path)

    def _leave(self, path: str, *_: Any) -> None:
        while self._inside.pop() != path:  # modules that were left by an exception, which the model then caught
            pass


def _is_composite(func: Any) -> bool:
    """Whether torch makes this operation of others."""
    key = torch._C.DispatchKey.CompositeImplicitAutograd
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key) or key in func.py_kernels


def _is_whole(name: str, arguments: dict[str, Any]) -> bool:
    """Composite operations that have a rule of their own."""
    if name == "scaled_dot_product_attention":
        return bool(arguments["query"].ndim == 4)
    return kind_of(name, pointwise=False) is OperationKind.DROPOUT


class _Exits(TorchFunctionMode):
    """Notices where tensors leave torch."""

    def __init__(self, watching: Watch) -> None:
        super().__init__()
        self._watching = watching

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("numpy", "__array__", "__dlpack__", "tolist", "data_ptr"):
            self._watching.leave_torch(args[0], func.__name__)
        return func(*args, **(kwargs or {}))


def watch(
    model: nn.Module,
    example: Example,
    stored: Mapping[str, tuple[np.ndarray, ...]],
    opaque: Collection[str],
    depthwise: Collection[str] | None = None,
    mode: Callable[[nn.Module], AbstractContextManager[None]] = evaluating,
) -> Watch:
    """Run `model` once on `example` and return what was seen; the model is left as it was, and so is all chance.

    depthwise : modules whose grouped convolutions lose whole groups, where an earlier pass has found them
    mode : evaluation, or training
    """
    watching = Watch(model, stored, opaque, depthwise)
    for tensor in _nested_tensors(example):
        watching.input(tensor)
    fast = torch.backends.mha.get_fastpath_enabled()
    _watching.append(watching)
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with (
            mode(model),
            all_prunable(model),
            chance_kept(),
            torch.no_grad(),
            torch._C._AutoDispatchBelowAutograd(),
            watching.modules_of(model),
            watching,
            _Exits(watching),
        ):
            outputs = call(model, example)
    except ModelError:
        raise
    except Exception as error:
        raise NetworkFailure(watching.place, error) from error
    finally:
        _watching.pop()
        torch.backends.mha.set_fastpath_enabled(fast)
    for tensor in _nested_tensors(outputs):
        watching.output(tensor)
    return watching


# The operations that take nearly all the time of a pass. Their values mean nothing to channels.
_HEAVY = re.compile("convolution|mm|bmm|addmm|baddbmm")
_DRAWS = re.compile("rand|rand_like|bernoulli")


def _run(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one operation.

    Of a large product only the shape is worked out, and the values are zeros. Nothing is dropped, and what is drawn is
    the highest number that can be drawn, so that a block which chance may skip is not skipped.
    """
    if kind_of(name, pointwise=False) is OperationKind.DROPOUT:
        return args[0] if func._schema.is_mutable else args[0].clone()
    if _DRAWS.fullmatch(name):
        drawn = func(*args, **kwargs)
        return drawn.fill_(1.0 if name == "bernoulli" else 1 - 2**-11)  # below 1 in float16 too
    if not _HEAVY.fullmatch(name):
        return func(*args, **kwargs)
    device = next(tensors(args)).device
    shape = func(*tree_map(_to_meta, args), **tree_map(_to_meta, kwargs))
    return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype, device=device).zero_()


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _labels(atoms: tuple[np.ndarray, ...]) -> tuple[torch.Tensor, ...]:
    ndim = len(atoms)
    return tuple(
        torch.from_numpy(along).reshape([-1 if e == d else 1 for e in range(ndim)])
        for d, along in enumerate(atoms)
        if len(along) > 1
    )


def _to_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value


def call(model: nn.Module, example: Example) -> Any:
    """The network's answer to an example: a tensor, a tuple of arguments or a dictionary of keyword arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def _nested_tensors(outputs: Any) -> Iterator[torch.Tensor]:
    """Tensors in whatever a model returns: lists, dictionaries, dataclasses."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        yield from _nested_tensors(list(outputs.values()))
    elif isinstance(outputs, (tuple, list)):
        for item in outputs:
            yield from _nested_tensors(item)
    elif hasattr(outputs, "__dict__"):
        yield from _nested_tensors(list(vars(outputs).values()))
