"""A pruned network on disk: its structure as JSON, its tensors as safetensors, no pickled classes.

A folder holds `structure.json` and `weights.safetensors`. The network is rebuilt from its dense definition, that is
from the same Python code that made the network before it was pruned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from codesign.errors import ModelError, did_you_mean
from codesign.network import HeadPrunedAttention, make_prunable, stored_tensors
from codesign.prune.attributes import sizes_of
from codesign.prune.slicing import replace_data

SCHEMA = "codesign.structure/1"


def structure_of(model: nn.Module) -> dict[str, Any]:
    """Everything by which a pruned network may differ from its dense definition, apart from values: plain JSON.

    tensors : shape of each parameter, buffer and plain tensor attribute
    modules : attributes that state sizes: those of torch's own layers, and whole numbers in modules of the user's
    attentions : names of the `nn.MultiheadAttention` modules that are `HeadPrunedAttention` now
    """
    modules = {name: _sizes(module) for name, module in model.named_modules()}
    return {
        "schema": SCHEMA,
        "tensors": {name: list(tensor.shape) for name, (_, tensor, _) in stored_tensors(model).items()},
        "modules": {name: sizes for name, sizes in modules.items() if sizes},
        "attentions": [name for name, module in model.named_modules() if isinstance(module, HeadPrunedAttention)],
    }


def rebuild(dense: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """Give a freshly made dense network the structure of a pruned one, in place; its values are zeros until loaded.

    `rebuild(make(), structure_of(pruned)).load_state_dict(pruned.state_dict())` is the pruned network. The dense
    network may be on the meta device.
    """
    if structure.get("schema") != SCHEMA:
        raise ModelError(f"structure: schema must be '{SCHEMA}', got {structure.get('schema')!r}")
    if any(tensor.is_meta for _, tensor, _ in stored_tensors(dense).values()):
        dense = dense.to_empty(device="cpu")
    held = stored_tensors(dense)
    shapes = structure["tensors"]
    for name in sorted(held.keys() ^ shapes.keys()):
        where = "the dense network" if name in held else "the structure"
        raise ModelError(
            f"tensor '{name}' is only in {where}{did_you_mean(name, held.keys() & shapes.keys() or [name])}"
        )
    for name, (_, tensor, _) in held.items():
        if len(shapes[name]) != tensor.ndim or any(n > m for n, m in zip(shapes[name], tensor.shape, strict=True)):
            raise ModelError(
                f"tensor '{name}' of the dense network is {list(tensor.shape)}, cannot become {shapes[name]}"
            )
    for name, (_, tensor, _) in held.items():
        if list(tensor.shape) != shapes[name]:
            replace_data(tensor, torch.zeros(shapes[name], dtype=tensor.dtype, device=tensor.device), None, [])
    modules = dict(dense.named_modules())
    for name in structure["attentions"]:
        attention = modules[name]
        if not isinstance(attention, nn.MultiheadAttention):
            raise ModelError(f"module '{name}' must be an nn.MultiheadAttention, got {type(attention).__name__}")
        make_prunable(attention, name)
    for name, sizes in structure["modules"].items():
        for attribute, value in sizes.items():
            setattr(modules[name], attribute, tuple(value) if isinstance(value, list) else value)
    return dense


def save_pruned(model: nn.Module, folder: str | Path) -> None:
    """Write `structure.json` and `weights.safetensors` into `folder`, which is made if need be."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "structure.json").write_text(json.dumps(structure_of(model), indent=1) + "\n")
    tensors = {name: tensor.detach().contiguous() for name, (_, tensor, _) in stored_tensors(model).items()}
    save_file(tensors, folder / "weights.safetensors")


def load_pruned(dense: nn.Module, folder: str | Path) -> nn.Module:
    """Rebuild a network that `save_pruned` wrote from its dense definition; `dense` itself becomes it."""
    folder = Path(folder)
    for name in ("structure.json", "weights.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: no such file; {folder} is no folder that save_pruned wrote")
    model = rebuild(dense, json.loads((folder / "structure.json").read_text()))
    values = load_file(folder / "weights.safetensors")
    with torch.no_grad():
        for name, (_, tensor, _) in stored_tensors(model).items():
            tensor.copy_(values[name])
    return model


def _sizes(module: nn.Module) -> dict[str, Any]:
    if type(module).__module__.startswith("torch.nn.") or isinstance(module, HeadPrunedAttention):
        return sizes_of(module)
    own = {name: value for name, value in vars(module).items() if type(value) is int and not name.startswith("_")}
    return own | sizes_of(module)
