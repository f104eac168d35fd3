"""Checkpoints in short formats: tensors with two or more dimensions as dense codes, the rest as they are.

A packed file is a safetensors file. Of a quantized tensor `w` it holds `w.codes` (`pack`ed, C order), `w.scale` (float32)
and `w.exponent_bits` (uint8, one for each channel); shapes and widths stand in its metadata as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.errors import DataError, located
from codesign.formats import Reserved
from codesign.quantize.allocate import Allocation, allocate, compare, split
from codesign.quantize.codes import decode, encode, pack, unpack
from codesign.quantize.layout import spread
from codesign.quantize.rounding import round_to_format
from codesign.quantize.scales import ScaleRule

if TYPE_CHECKING:
    import torch

SCHEMA = "codesign.quantized/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedTensor:
    """One tensor of a checkpoint: what was chosen for it, and how every method does on it."""

    name: str
    values: npt.NDArray[np.float32]
    chosen: Allocation
    sqnr_db: dict[str, float]  # of the whole tensor, by method


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of a torch file that holds a state dictionary (on top, or as `state_dict`,
    `model` or `network`). Nothing in it is executed."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataError(f"checkpoint '{path}' is not there; pass a .safetensors or .pt file")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise DataError(f"checkpoint '{path}' cannot be read: {error}") from error
    except Exception as error:  # what torch.load raises is not documented; pickle's own errors are among it
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"checkpoint '{path}' cannot be read without running code from it: {reason}") from error
    for key in ("state_dict", "model", "network"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping):
        raise DataError(f"checkpoint '{path}' holds a {type(found).__name__}, not a state dictionary")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not any(map(is_quantized, tensors.values())):
        raise DataError(f"checkpoint '{path}' holds no floating-point tensor with two or more dimensions")
    return tensors


def is_quantized(tensor: torch.Tensor) -> bool:
    """Whether a tensor is one that gets short numbers: weights, but no biases, norms or counters."""
    return tensor.ndim >= 2 and tensor.is_floating_point() and tensor.numel() > 0


def quantize_tensors(
    tensors: Mapping[str, torch.Tensor],
    bits: int,
    *,
    method: str = "empirical",
    scale: ScaleRule = ScaleRule.REAL,
    allow_zeros: bool = False,
) -> Iterator[QuantizedTensor]:
    """Every weight tensor with its first axis as channels, one after the other."""
    for name, tensor in tensors.items():
        if is_quantized(tensor):
            values = tensor.detach().float().numpy()
            with located(f"tensor '{name}'"):
                found = compare(values, bits, scale=scale, allow_zeros=allow_zeros)
                chosen = found.get(method) or allocate(
                    values, bits, method=method, scale=scale, allow_zeros=allow_zeros
                )
            sqnr = {each: allocation.total_sqnr_db for each, allocation in found.items()}
            yield QuantizedTensor(name=name, values=values, chosen=chosen, sqnr_db=sqnr)


def save_packed(path: Path, tensors: Mapping[str, torch.Tensor], quantized: list[QuantizedTensor]) -> int:
    """Write the packed file; returns its size in bytes. Tensors that are not quantized are stored as they are."""
    import torch
    from safetensors.torch import save_file

    stored: dict[str, torch.Tensor] = {}
    described: dict[str, Any] = {}
    for each in quantized:
        formats, allocation = each.chosen.formats, each.chosen
        codes = _codes(each)
        stored[f"{each.name}.codes"] = torch.from_numpy(pack(codes, formats[0]))
        stored[f"{each.name}.scale"] = torch.from_numpy(np.ascontiguousarray(allocation.scale))
        stored[f"{each.name}.exponent_bits"] = torch.tensor([f.exponent_bits for f in formats], dtype=torch.uint8)
        described[each.name] = {
            "shape": list(each.values.shape),
            "bits": formats[0].bits,
            "reserved": formats[0].reserved.value,
            "axis": allocation.axis,
            "block": allocation.block,
            "method": allocation.method,
        }
    stored |= {name: t.detach().contiguous() for name, t in tensors.items() if name not in described}
    temporary = path.with_name(path.name + ".tmp")
    save_file(stored, temporary, {"codesign": json.dumps({"schema": SCHEMA, "tensors": described})})
    temporary.replace(path)
    return path.stat().st_size


def load_packed(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a packed file, quantized ones as float32 with the very values that were rounded to."""
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("codesign")
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it has no iterator)
    record = json.loads(text) if text else {}
    if record.get("schema") != SCHEMA:
        raise DataError(f"'{path}' is no packed checkpoint of schema {SCHEMA}")
    found = {}
    for name, info in record["tensors"].items():
        shape, bits, reserved = tuple(info["shape"]), info["bits"], Reserved(info["reserved"])
        widths = stored.pop(f"{name}.exponent_bits").tolist()
        formats = [split(bits, e, reserved) for e in widths]
        scale = stored.pop(f"{name}.scale").numpy()
        codes = unpack(stored.pop(f"{name}.codes").numpy(), formats[0], shape)
        values = np.empty(shape, np.float32)
        for fmt in dict.fromkeys(formats):
            rows = [i for i, own in enumerate(formats) if own == fmt]
            values[rows] = decode(codes[rows], fmt)
        found[name] = torch.from_numpy(values * spread(scale, shape, info["axis"], info["block"]))
    return found | stored


def _codes(each: QuantizedTensor) -> npt.NDArray[Any]:
    """Codes of a tensor, each row in its own format; scaled back they are the rounded tensor."""
    allocation, shape = each.chosen, each.values.shape
    assert allocation.axis is not None  # channels are the first axis of every tensor of a checkpoint
    scaled = each.values / spread(allocation.scale, shape, allocation.axis, allocation.block)
    codes: npt.NDArray[Any] | None = None
    for fmt in dict.fromkeys(allocation.formats):
        rows = [i for i, own in enumerate(allocation.formats) if own == fmt]
        own_codes = encode(round_to_format(scaled[rows], fmt), fmt)
        codes = np.empty(shape, own_codes.dtype) if codes is None else codes
        codes[rows] = own_codes
    assert codes is not None  # there is at least one channel
    return codes
