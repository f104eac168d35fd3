"""A training run that can be killed: network, optimizer and order of the images in one file, replaced as a whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from codesign.errors import RunDirectoryError
from codesign.network import stored_tensors
from codesign.nn.lowp import Formats, convert
from codesign.nn.recipe import Recipe
from codesign.nn.stage import TrainingState, make_optimizer
from codesign.prune import rebuild, structure_of

_KEY = "codesign.checkpoint/2"  # of the text beside the tensors: structure and progress as JSON


def save_checkpoint(state: TrainingState, progress: dict[str, Any], path: Path) -> None:
    """Write `path` between two passes over the images: a killed process leaves the old file or the new one.

    progress : whatever the caller needs to go on, as plain JSON
    """
    tensors = {"generator": state.generator.get_state()}
    with state.plain() as network:
        structure = structure_of(network)
        tensors |= {f"network/{name}": tensor for name, (_, tensor, _) in stored_tensors(network).items()}
    for name, parameter in state.network.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{name}/{key}"] = value
    text = json.dumps({"structure": structure, "progress": progress})
    temporary = path.with_name(path.name + ".tmp")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, {_KEY: text})
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def load_checkpoint(
    path: Path, build: Callable[[], nn.Module], recipe: Recipe, formats: Formats | None, device: torch.device
) -> tuple[TrainingState, dict[str, Any]]:
    """What `save_checkpoint` wrote; the network computes in `formats` again.

    build : makes the network as it was before any cut
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
    except (OSError, SafetensorError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}); start over with --fresh") from error
    if text is None:
        raise RunDirectoryError(f"{path} is no checkpoint of this version; start over with --fresh")
    record = json.loads(text)
    network = rebuild(build(), record["structure"])
    with torch.no_grad():
        for name, (_, tensor, _) in stored_tensors(network).items():
            tensor.copy_(tensors[f"network/{name}"])
    network.to(device)
    optimizer = make_optimizer(network, recipe)
    parameters = dict(network.named_parameters())
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            owner, _, key = rest.rpartition("/")
            parameter = parameters[owner]
            optimizer.state[parameter][key] = tensor.to(device) if tensor.shape == parameter.shape else tensor
    generator = torch.Generator()
    generator.set_state(tensors["generator"])
    if formats is not None:
        convert(network, formats)
    state = TrainingState(network=network, optimizer=optimizer, generator=generator, formats=formats)
    return state, record["progress"]
