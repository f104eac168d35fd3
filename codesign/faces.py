"""Faces of rooms that load torch: a name of `__all__` loads the file that has it when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazy(room: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """The `__getattr__` of a room. homes : file of the room, without its ending -> names of the face that it has."""

    def attribute(name: str) -> object:
        """A name of the face from its file."""
        for home, names in homes.items():
            if name in names:
                return getattr(import_module(f"{room}.{home}"), name)
        raise AttributeError(f"module {room!r} has no attribute {name!r}")

    return attribute
