"""Tensors that a network holds, and a number for every index of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


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
