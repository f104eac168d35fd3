"""Run a network and look at what its readers read: as a stream, or side by side with another network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread, get_ident
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from codesign.network import all_prunable, call, evaluating
from codesign.prune.features import inputs_of
from codesign.prune.readers import Reader, Readers

Look = Callable[[Reader, torch.Tensor], None]
_INPUTS = ("query", "key", "value")


@contextmanager
def looking(model: nn.Module, readers: Readers, look: Look) -> Iterator[None]:
    """While it lasts, `look` gets the observations of each reader just before its module runs."""

    def before(found: list[Reader], module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        for reader in found:
            i = reader.argument
            x = (
                args[i]
                if i < len(args)
                else named[_INPUTS[i] if isinstance(module, nn.MultiheadAttention) else "input"]
            )
            look(reader, reader.observations(x.detach(), isinstance(module, _ConvNd)))

    with ExitStack() as stack:
        for path, found in readers.by_module.items():
            hook = model.get_submodule(path).register_forward_pre_hook(partial(before, found), with_kwargs=True)
            stack.callback(hook.remove)
        yield


@contextmanager
def in_evaluation(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every attention in plain operations, so that its layers are called as modules."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        torch.backends.mha.set_fastpath_enabled(False)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        for model in models:
            stack.enter_context(evaluating(model))
            stack.enter_context(all_prunable(model))
        yield


@torch.no_grad()
def stream(model: nn.Module, batches: Iterable[Any], readers: Readers, look: Look) -> None:
    """Run each batch through the network once."""
    with in_evaluation(model), looking(model, readers, look):
        for batch in batches:
            call(model, inputs_of(batch))


class _Abandoned(Exception):
    """Nobody wants the rest of this pass."""


Stop = tuple[Reader, torch.Tensor]


class Pass:
    """One batch on its way through a network. It halts before each reader, until it is told to go on.

    It has a thread of its own, since a network is left and entered in the midst of its Python code; no two threads ever
    run at the same time.
    """

    def __init__(self, model: nn.Module, batch: Any) -> None:
        self._at: SimpleQueue[Stop | BaseException | None] = SimpleQueue()
        self._on: SimpleQueue[bool] = SimpleQueue()
        self._model, self._batch = model, batch
        self._thread = Thread(target=self._run, daemon=True)

    @property
    def ident(self) -> int | None:
        """Which thread it runs in."""
        return self._thread.ident

    def _run(self) -> None:
        try:
            with torch.no_grad():
                call(self._model, inputs_of(self._batch))
            self._at.put(None)
        except _Abandoned:
            pass
        except BaseException as error:
            self._at.put(error)

    def halt(self, reader: Reader, x: torch.Tensor) -> None:
        """Called in the pass's own thread, before a reader."""
        self._at.put((reader, x))
        if not self._on.get():
            raise _Abandoned

    def go(self) -> Stop | None:
        """On to the next reader, and what it reads; None at the end of the network."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._on.put(True)
        reached = self._at.get()
        if isinstance(reached, BaseException):
            raise reached
        return reached

    def end(self) -> None:
        """Give the rest of the pass up."""
        if self._thread.is_alive():
            self._on.put(False)
            self._thread.join()


@contextmanager
def halting(model: nn.Module, readers: Readers, batches: Iterable[Any]) -> Iterator[list[Pass]]:
    """A pass for each batch. What they hold at any time is what the network holds between two of its layers."""
    passes = [Pass(model, batch) for batch in batches]

    def look(reader: Reader, x: torch.Tensor) -> None:
        next(p for p in passes if p.ident == get_ident()).halt(reader, x)

    with looking(model, readers, look):
        try:
            yield passes
        finally:
            for each in passes:
                each.end()
