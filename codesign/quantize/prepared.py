"""Roundings that come back at every training step, prepared once: one call of machine code for each tensor.

Only a fast path to the bits of `round_to_format` and `round_scaled`: formats, scales and clips lie ready in one table, so
that a call costs a few lines of Python. What is not covered (other dtypes and devices, gaps between elements, formats
beyond the fast formula, channels on another axis than the first) takes the general path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from codesign.formats import FloatFormat, Rounding
from codesign.quantize.kernels import rows as loops
from codesign.quantize.kernels.compiled import machine_code
from codesign.quantize.kernels.constants import LIMIT, MODES, STOCHASTIC
from codesign.quantize.paths.layout import Constants, spread
from codesign.quantize.rounding import channel_formats, round_to_format, stochastic_key
from codesign.quantize.scales import round_scaled

_FLOAT32, _UINT8, _CHANNELS_LAST = torch.float32, torch.uint8, torch.channels_last


def _is_dense(x: torch.Tensor, in_order: bool) -> bool:
    """As `dense._is_dense`, for tensors; in_order: elements are counted, so that no other layout than C order will do."""
    return (
        x.dtype is _FLOAT32
        and x.is_cpu
        and (x.is_contiguous() or (not in_order and x.is_contiguous(memory_format=_CHANNELS_LAST)))
        and not x.is_neg()
    )


class ScaledRounding:
    """`round_scaled(x, fmt, rounding, axis=axis)`; with `scaled=False` `round_to_format(x, fmt, rounding)`."""

    def __init__(self, fmt: FloatFormat, rounding: Rounding, axis: int | None = None, *, scaled: bool = True) -> None:
        self.fmt, self.rounding, self.axis, self.scaled = fmt, rounding, axis, scaled
        mode = MODES[rounding]
        constants, use_fast = channel_formats(fmt).constants(mode)
        self._stochastic = mode == STOCHASTIC
        self._constants = np.ascontiguousarray(constants[0])
        covered = fmt.signed and axis in (None, 0) and (not scaled or (use_fast and fmt.max > 0))
        self._kernel = machine_code(loops.dense(mode, use_fast)) if covered else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _scaled_rounding, (self.fmt, self.rounding, self.axis, self.scaled)

    def __call__(self, x: torch.Tensor, seed: int | None = None, step: int = 0) -> torch.Tensor:
        """`x` rounded, in a new tensor."""
        if self._kernel is not None and _is_dense(x, self._stochastic):
            size = x.numel()
            rows = 1 if self.axis is None else x.size(0)
            key = stochastic_key(self.rounding, seed, step) if self._stochastic else (0, 0)
            out = torch.empty_like(x)
            if size and self._kernel(
                x.data_ptr(), out.data_ptr(), rows, size // rows, self._constants, self.scaled, key[0], key[1]
            ):
                return out
        if self.scaled:
            rounded: torch.Tensor = round_scaled(x, self.fmt, self.rounding, axis=self.axis, seed=seed, step=step)
            return rounded
        return round_to_format(x, self.fmt, self.rounding, seed=seed, step=step)


def _scaled_rounding(fmt: FloatFormat, rounding: Rounding, axis: int | None, scaled: bool) -> ScaledRounding:
    return ScaledRounding(fmt, rounding, axis, scaled=scaled)


class PreparedRounding:
    """`round_to_format(x, formats, rounding, scale=scale, axis=axis)`, and where it clips.

    formats : one, or one for each channel of `axis`
    scale : float32, a number or [channels]
    """

    def __init__(
        self,
        formats: FloatFormat | Sequence[FloatFormat],
        rounding: Rounding = Rounding.NEAREST_EVEN,
        *,
        scale: Any,
        axis: int | None = None,
    ) -> None:
        self.formats, self.rounding, self.axis = formats, rounding, axis
        self.scale = np.array(scale, dtype=np.float32).reshape(-1)  # a copy: what it came from may change
        chosen = channel_formats(formats)
        mode = MODES[rounding]
        self._stochastic = mode == STOCHASTIC
        constants, use_fast = chosen.constants(mode)
        most = np.array([fmt.max for fmt in chosen.distinct], dtype=np.float64)[chosen.chosen]
        with np.errstate(over="ignore"):  # what clips beyond float32 clips nothing
            self.clip = (self.scale * most).astype(np.float32)  # largest magnitude that is represented
        self._table, scaled = _table(constants, self.scale, self.clip, use_fast)
        self._address = self._table.ctypes.data
        self._rows = len(self._table)
        covered = use_fast and chosen.signed and axis in (None, 0) and (self._rows == 1 or axis == 0)
        self._kernel = machine_code(loops.given(mode, scaled)) if covered else None
        self._stop = machine_code(loops.stop_clipped)

    def __reduce__(self) -> tuple[Any, ...]:
        return _prepared_rounding, (self.formats, self.rounding, self.scale, self.axis)

    def __call__(
        self, x: torch.Tensor, seed: int | None = None, step: int = 0, *, watched: bool = True
    ) -> tuple[torch.Tensor | None, Clipped | None]:
        """`x` rounded, in a new tensor, or None where x holds NaN or infinity; and, where `watched`, what was clipped."""
        kernel, rows = self._kernel, self._rows
        if kernel is not None and _is_dense(x, self._stochastic) and (rows == 1 or x.size(0) == rows):
            key = stochastic_key(self.rounding, seed, step) if self._stochastic else (0, 0)
            out = torch.empty_like(x)
            length = x.numel() // rows
            flags = torch.empty(rows * -(-length // loops.FLAGGED), dtype=_UINT8) if watched else None
            seen = kernel(
                x.data_ptr(),
                out.data_ptr(),
                0 if flags is None else flags.data_ptr(),
                rows,
                length,
                self._address,
                *key,
            )
            if seen == loops.NOT_FINITE:
                return None, None
            return out, Clipped(self, flags) if watched and seen == loops.CLIPPED else None
        if not bool(torch.isfinite(x).all()):
            return None, None
        scale, axis = (self.scale, self.axis) if rows > 1 else (self.scale[0], None)
        rounded: torch.Tensor = round_to_format(
            x, self.formats, self.rounding, scale=scale, axis=axis, seed=seed, step=step
        )
        return rounded, Clipped(self, None) if watched else None


@dataclass(frozen=True, slots=True)
class Clipped:
    """That some elements of a tensor were clipped."""

    rounding: PreparedRounding
    flags: torch.Tensor | None  # as `loops.given` writes them; None where any may be clipped

    def stop(self, x: torch.Tensor, gradient: torch.Tensor) -> None:
        """Set `gradient`, of the shape of the tensor x that was rounded, to zero where x was clipped."""
        by = self.rounding
        if self.flags is not None and gradient.stride() == x.stride() and _is_dense(gradient, False):
            rows = by._rows
            by._stop(x.data_ptr(), gradient.data_ptr(), self.flags.data_ptr(), rows, x.numel() // rows, by._address)
            return
        clip = by.clip if by._rows == 1 else spread(by.clip, tuple(x.shape), (by.axis or 0) % x.ndim, None)
        gradient.masked_fill_(x.abs() > torch.from_numpy(clip).to(x.device), 0)


def _prepared_rounding(formats: Any, rounding: Rounding, scale: Any, axis: int | None) -> PreparedRounding:
    return PreparedRounding(formats, rounding, scale=scale, axis=axis)


def _table(constants: Constants, scale: np.ndarray, clip: np.ndarray, use_fast: bool) -> tuple[Constants, bool]:
    """[channels or 1, 4]: floor, limit, bits of the scale and of the clip; whether the scale is still to be applied."""
    table = np.empty((max(len(constants), len(scale)), 4), np.uint32)
    moved = np.empty((len(table), 2), np.uint32)
    done = use_fast and loops.move_constants(constants, scale, moved)
    table[:, :2] = moved if done else constants[:, : LIMIT + 1]
    table[:, 2], table[:, 3] = scale.view(np.uint32), clip.view(np.uint32)
    return table, not done
