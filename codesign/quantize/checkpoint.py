"""Checkpoints in low precision: tensors with two or more dimensions as dense codes, the rest as they are.

A packed file is a safetensors file. Of a quantized tensor `w` it holds `w.codes` (`pack`ed, C order; channels of the same
width together, the narrowest first), `w.scale` (float32) and `w.exponent_bits` (uint8, one for each channel); shapes and
widths stand in its metadata as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from codesign.errors import DataError, located
from codesign.formats import FloatFormat, Reserved
from codesign.quantize.allocate import Allocation, allocate, compare, split
from codesign.quantize.budget import WATER_FILLING, allocate_mean
from codesign.quantize.codes import decode, encode, pack, unpack
from codesign.quantize.paths.layout import spread
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
    """Whether a tensor is one that is stored in low precision: weights, but no biases, norms or counters."""
    return tensor.ndim >= 2 and tensor.is_floating_point() and tensor.numel() > 0


def quantize_tensors(
    tensors: Mapping[str, torch.Tensor],
    bits: float,
    *,
    method: str = "empirical",
    scale: ScaleRule = ScaleRule.REAL,
    allow_zeros: bool = False,
) -> Iterator[QuantizedTensor]:
    """Every weight tensor with its first axis as channels, one after the other.

    method : of `allocate`; with "water-filling", of `allocate_mean`, `bits` is a mean, and the methods are compared at the
        next whole width below it
    """
    for name, tensor in tensors.items():
        if is_quantized(tensor):
            values = tensor.detach().float().numpy()
            with located(f"tensor '{name}'"):
                found = compare(values, int(bits), scale=scale, allow_zeros=allow_zeros)
                if method == WATER_FILLING:
                    chosen = allocate_mean(values, bits, scale=scale, allow_zeros=allow_zeros)[0]
                else:
                    chosen = found.get(method) or allocate(
                        values, int(bits), method=method, scale=scale, allow_zeros=allow_zeros
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
        widths = [fmt.bits for fmt in formats]
        stored[f"{each.name}.codes"] = torch.from_numpy(_packed(each))
        stored[f"{each.name}.scale"] = torch.from_numpy(np.ascontiguousarray(allocation.scale))
        stored[f"{each.name}.exponent_bits"] = torch.tensor([f.exponent_bits for f in formats], dtype=torch.uint8)
        described[each.name] = {
            "shape": list(each.values.shape),
            "bits": widths if len(set(widths)) > 1 else widths[0],
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
        exponents = stored.pop(f"{name}.exponent_bits").tolist()
        widths = bits if isinstance(bits, list) else [bits] * len(exponents)
        formats = [split(width, e, reserved) for width, e in zip(widths, exponents, strict=True)]
        scale = stored.pop(f"{name}.scale").numpy()
        packed = stored.pop(f"{name}.codes").numpy()
        values = np.empty(shape, np.float32)
        for rows in _rows_by_width(formats):
            own_shape, own = (len(rows), *shape[1:]), [formats[row] for row in rows]
            size = -(-math.prod(own_shape) * own[0].bits // 8)
            codes, packed = unpack(packed[:size], own[0], own_shape), packed[size:]
            for fmt in dict.fromkeys(own):
                chosen = [i for i, each in enumerate(own) if each == fmt]
                values[[rows[i] for i in chosen]] = decode(codes[chosen], fmt)
        found[name] = torch.from_numpy(values * spread(scale, shape, info["axis"], info["block"]))
    return found | stored


def _rows_by_width(formats: Sequence[FloatFormat]) -> list[list[int]]:
    """Channels that share a width, the narrowest first."""
    widths = [fmt.bits for fmt in formats]
    return [[row for row, own in enumerate(widths) if own == width] for width in sorted(set(widths))]


def _packed(each: QuantizedTensor) -> npt.NDArray[np.uint8]:
    """Codes of a tensor, each channel in its own format; scaled back they are the rounded tensor."""
    allocation, shape = each.chosen, each.values.shape
    assert allocation.axis is not None  # channels are the first axis of every tensor of a checkpoint
    scaled = each.values / spread(allocation.scale, shape, allocation.axis, allocation.block)
    streams = []
    for rows in _rows_by_width(allocation.formats):
        own = [allocation.formats[row] for row in rows]
        codes = np.empty((len(rows), *shape[1:]), np.min_scalar_type((1 << own[0].bits) - 1))
        for fmt in dict.fromkeys(own):
            chosen = [i for i, each in enumerate(own) if each == fmt]
            codes[chosen] = encode(round_to_format(scaled[[rows[i] for i in chosen]], fmt), fmt)
        streams.append(pack(codes, own[0]))
    return np.concatenate(streams)
