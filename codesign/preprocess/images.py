"""Images as the C core sees them: planes of rows of pixels, wherever they lie in memory."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.errors import ConfigError, did_you_mean
from codesign.native import ffi, lib

_BORDERS = {
    "reflect101": lib.CS_BORDER_REFLECT101,
    "reflect": lib.CS_BORDER_REFLECT,
    "replicate": lib.CS_BORDER_REPLICATE,
    "constant": lib.CS_BORDER_CONSTANT,
}
BORDERS = tuple(_BORDERS)
_ISAS = {
    "portable": lib.CS_ISA_PORTABLE,
    "avx2": lib.CS_ISA_AVX2,
    "avx512": lib.CS_ISA_AVX512,
    "vbmi": lib.CS_ISA_VBMI,
}


def instruction_sets() -> tuple[str, ...]:
    """Names of the instruction sets that this processor has kernels for, the best one last."""
    return tuple(_ISAS)[: lib.cs_best_isa() + 1]


def pointer(array: np.ndarray, ctype: str) -> Any:
    """The address of the first element of `array`."""
    return ffi.cast(ctype, array.__array_interface__["data"][0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Input and result of one filter call, with the C description that keeps both alive.

    source, result : uint8 or float32, shape [..., channels, height, width] or [height, width]
    answer : `result` as the caller will get it: a numpy array or a torch tensor on the same memory
    """

    source: np.ndarray
    result: np.ndarray
    answer: Any
    border: str
    isa: str | None

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.source.shape[-2])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.source.shape[-1])

    @property
    def samples(self) -> tuple[int, ...]:
        """Shape of everything before [channels, height, width]."""
        return self.source.shape[:-3]

    @property
    def channels(self) -> int:
        """Channels of one sample; an array of two dimensions has one."""
        return int(self.source.shape[-3]) if self.source.ndim > 2 else 1

    @property
    def planes(self) -> int:
        """How many height x width planes there are."""
        return math.prod(self.source.shape[:-2])

    @property
    def suffix(self) -> str:
        """The pixel type as the C functions are named by it."""
        return "u8" if self.source.dtype == np.uint8 else "f32"

    @property
    def ctype(self) -> str:
        """Pointer to one pixel, in C."""
        return "uint8_t *" if self.source.dtype == np.uint8 else "float *"

    @property
    def chosen_isa(self) -> int:
        """The cs_isa to use."""
        return int(lib.cs_best_isa() if self.isa is None else _ISAS[self.isa])

    def describe(self, *, joint_channels: bool = False) -> tuple[Any, list[Any]]:
        """A `cs_images *` and what must outlive it. With `joint_channels`, a plane is the first channel of a sample."""
        leading = slice(None, -3) if joint_channels else slice(None, -2)
        src_plane, dst_plane = (_offsets(a, leading) for a in (self.source, self.result))
        images = ffi.new("cs_images *")
        images.planes, images.height, images.width = len(src_plane), self.height, self.width
        images.src_plane, images.dst_plane = pointer(src_plane, "int64_t *"), pointer(dst_plane, "int64_t *")
        size = self.source.itemsize
        images.src_row, images.src_column = (stride // size for stride in self.source.strides[-2:])
        images.dst_row, images.dst_column = (stride // size for stride in self.result.strides[-2:])
        images.border = _BORDERS[self.border]
        images.isa = self.chosen_isa
        return images, [src_plane, dst_plane]


def _offsets(array: np.ndarray, leading: slice) -> np.ndarray:
    """Pixels from the first one of `array` to the first one of each plane, in C order of the leading axes."""
    offsets = np.zeros(1, np.int64)
    for length, stride in zip(array.shape[leading], array.strides[leading], strict=True):
        if length != 1:
            offsets = np.add.outer(offsets, np.arange(length, dtype=np.int64) * (stride // array.itemsize)).ravel()
    return offsets


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _as_numpy(where: str, name: str, value: Any) -> np.ndarray:
    """`value` on the same memory, checked: type, device, dtype, size."""
    if _is_tensor(value):
        if value.device.type != "cpu":
            raise ConfigError(f"{where}: {name} must be on the CPU, got a tensor on {value.device}; pass {name}.cpu()")
        if value.requires_grad:
            raise ConfigError(f"{where}: {name} requires a gradient, filters have none; pass {name}.detach()")
        if str(value.dtype) not in ("torch.uint8", "torch.float32"):
            raise ConfigError(f"{where}: {name} must be uint8 or float32, got {value.dtype}")
        value = value.numpy()
    if not isinstance(value, np.ndarray):
        raise ConfigError(f"{where}: {name} must be a numpy array or a torch tensor, got {type(value).__name__}")
    if value.dtype not in (np.uint8, np.float32) or not value.dtype.isnative:
        raise ConfigError(f"{where}: {name} must be uint8 or float32, got {value.dtype}")
    if value.ndim < 2:
        raise ConfigError(f"{where}: {name} must have shape [..., channels, height, width], got {list(value.shape)}")
    if 0 in value.shape[-2:]:
        raise ConfigError(f"{where}: {name} has images without pixels, shape {list(value.shape)}")
    if not value.flags.aligned or any(stride % value.itemsize for stride in value.strides):
        raise ConfigError(f"{where}: {name} has strides that are not whole pixels; pass a copy")
    return value


def check_border(where: str, border: str) -> None:
    """Refuse a border that is none."""
    if border not in _BORDERS:
        raise ConfigError(f"{where}: unknown border {border!r}{did_you_mean(str(border), _BORDERS)}")


def look_at(where: str, x: Any, out: Any, border: str, isa: str | None) -> Images:
    """Check `x`, `out`, `border` of the function called `where`; without `out`, make one of the same layout as `x`."""
    check_border(where, border)
    if isa is not None and isa not in instruction_sets():
        raise ConfigError(f"{where}: isa {isa!r} is not to be had here; known: {', '.join(instruction_sets())}")
    source = _as_numpy(where, "x", x)
    if out is None:
        out = sys.modules["torch"].empty_like(x) if _is_tensor(x) else np.empty_like(source)
    elif _is_tensor(out) != _is_tensor(x):
        raise ConfigError(f"{where}: out must be of the same kind as x, got {type(out).__name__}")
    result = _as_numpy(where, "out", out)
    if result.shape != source.shape or result.dtype != source.dtype:
        raise ConfigError(
            f"{where}: out must have the shape and dtype of x, {list(source.shape)} {source.dtype}; "
            f"got {list(result.shape)} {result.dtype}"
        )
    if not result.flags.writeable:
        raise ConfigError(f"{where}: out is read-only")
    if np.may_share_memory(source, result) and np.shares_memory(source, result):
        raise ConfigError(f"{where}: out must not share memory with x; a filter reads pixels after their neighbours")
    return Images(source=source, result=result, answer=out, border=border, isa=isa)


def run(name: str, images: Images, scratch_bytes: int, *arguments: Any, joint_channels: bool = False) -> Any:
    """Call the C filter `cs_<name>_<pixel type>` with its scratch memory; the answer is what the caller will get."""
    described, kept = images.describe(joint_channels=joint_channels)
    scratch = np.empty(scratch_bytes, np.uint8)
    status = getattr(lib, f"cs_{name}_{images.suffix}")(
        described,
        pointer(images.source, images.ctype),
        *arguments,
        pointer(scratch, "void *"),
        scratch_bytes,
        pointer(images.result, images.ctype),
    )
    del kept
    if status != lib.CS_FILTER_OK:
        raise RuntimeError(f"cs_{name}_{images.suffix} answered status {status}: a bug, its arguments had been checked")
    return images.answer
