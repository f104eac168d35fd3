"""One forward pass, watched: every stored tensor gets atoms, every operation its rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from codesign.errors import ModelError
from codesign.prune.attention import all_prunable
from codesign.prune.labels import Place
from codesign.prune.modes import evaluating
from codesign.prune.rules import Call, Findings, Rules, Traced, tensors

P = ParamSpec("P")
R = TypeVar("R")
Example = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A parameter, a buffer or a plain tensor attribute of a module.

    name : qualified, as in a state dict; module : name of the module that owns it
    aliases : other names of the same tensor (tied layers)
    atoms : one integer array per dimension; atom of each index
    """

    name: str
    module: str
    is_parameter: bool
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    atoms: tuple[np.ndarray, ...]


def stored_tensors(model: nn.Module) -> dict[str, tuple[str, torch.Tensor, list[str]]]:
    """Every tensor that modules hold: name -> (owning module, tensor, further names of the same tensor)."""
    found: dict[str, tuple[str, torch.Tensor, list[str]]] = {}
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, torch.Tensor)}
        for key, tensor in {**module._parameters, **module._buffers, **plain}.items():
            if tensor is None:
                continue
            name = f"{path}.{key}" if path else key
            if id(tensor) in names:
                found[names[id(tensor)]][2].append(name)
            else:
                names[id(tensor)] = name
                found[name] = (path, tensor, [])
    return found


def number(model: nn.Module) -> dict[str, Stored]:
    """Give every index of every dimension of every stored tensor an atom, counting from 1."""
    count, stored = 1, {}
    for name, (module, tensor, aliases) in stored_tensors(model).items():
        atoms = []
        for size in tensor.shape:
            atoms.append(np.arange(count, count + size))
            count += size
        stored[name] = Stored(
            name=name,
            module=module,
            is_parameter=isinstance(tensor, nn.Parameter),
            aliases=tuple(aliases),
            shape=tuple(tensor.shape),
            atoms=tuple(atoms),
        )
    return stored


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
            _watching[-1].see("elementwise", True, {"args": args, **kwargs}, result, lambda labels: labels)
        return result

    return marked


class NetworkFailure(ModelError):
    """The network itself fails on the example; `module` is where."""

    def __init__(self, module: str, error: Exception) -> None:
        super().__init__(f"module '{module or 'the network itself'}' fails on the example input: {error}")
        self.module = module


class Watch(TorchDispatchMode):
    """Follows a forward pass. `atoms` are those of the stored tensors, by name."""

    def __init__(
        self,
        model: nn.Module,
        stored: Mapping[str, tuple[np.ndarray, ...]],
        opaque: Collection[str],
        depthwise: Collection[str] | None,
    ) -> None:
        super().__init__()
        self.findings = Findings()
        self.reached: set[str] = set()
        self._rules = Rules(self.findings, self._of, depthwise)
        self._known: dict[int, Traced] = {}
        self._names: dict[int, str] = {}
        self._opaque = opaque
        self._inside: list[str] = []
        self._paused = False
        for name, (_, tensor, _) in stored_tensors(model).items():
            self._names[id(tensor)] = name
            self._known[id(tensor)] = Traced(tensor, _labels(stored[name]), True)

    @property
    def place(self) -> str:
        """Name of the module whose code is running."""
        return self._inside[-1] if self._inside else ""

    def _of(self, tensor: torch.Tensor) -> Traced:
        return self._known.get(id(tensor)) or Traced(tensor, (), True)

    def input(self, tensor: torch.Tensor) -> None:
        """An input of the network: it has no channels of ours, and it is no weight."""
        self._known[id(tensor)] = Traced(tensor, (), False)

    def output(self, tensor: torch.Tensor) -> None:
        """An output of the network: its shape must not change."""
        for array in self._of(tensor).labels:
            self.findings.relations.pin(array, Place("", "output"), "they are an output of the network")

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        schema = func._schema
        result = _run(func, args, kwargs)
        arguments = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
        for argument in schema.arguments:
            if argument.has_default_value():
                arguments.setdefault(argument.name, argument.default_value)
        name = schema.name.split("::")[1]
        name = name.rstrip("_") if not name.startswith("__") else name

        def rerun(labels: torch.Tensor) -> Any:
            if "view" in name or "reshape" in name:
                return labels.reshape(arguments["size"] if "size" in arguments else arguments["shape"])
            return func(labels, *tree_map(_to_cpu, args[1:]), **tree_map(_to_cpu, kwargs))

        self.see(name, torch.Tag.pointwise in func.tags, arguments, result, rerun)
        return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs now is not looked at."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

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
        for tensor in operands:
            if id(tensor) in self._names:
                self.reached.add(self._names[id(tensor)])
        place = Place(self.place, name)
        if any(module in self._opaque for module in self._inside):
            for tensor in operands:
                for array in self._of(tensor).labels:
                    self.findings.relations.pin(array, place, "they enter a module that is said to be opaque")
            labels = []
        else:
            labels = self._rules.apply(Call(name, pointwise, arguments, outputs, rerun, place))
        weight = all(self._of(tensor).weight for tensor in operands)
        for i, tensor in enumerate(outputs):
            self._known[id(tensor)] = Traced(tensor, labels[i] if i < len(labels) else (), weight)

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
) -> Watch:
    """Run `model` once on `example` in evaluation mode and return what was seen; the model is left as it was.

    depthwise : modules whose grouped convolutions lose whole groups, where an earlier pass has found them
    """
    watching = Watch(model, stored, opaque, depthwise)
    for tensor in _nested_tensors(example):
        watching.input(tensor)
    fast = torch.backends.mha.get_fastpath_enabled()
    _watching.append(watching)
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with (
            evaluating(model),
            all_prunable(model),
            torch.no_grad(),
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


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run one operation; of a large product only the shape is worked out, and the values are zeros."""
    if not _HEAVY.fullmatch(func._schema.name.split("::")[1]):
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
