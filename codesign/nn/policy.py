"""How a tensor of a training step is rounded: format, rounding, granularity, scale. A policy has one such rule per role.

A rule whose scale is remembered (delayed, empirical) keeps it in buffers of its layer, so that a checkpoint holds it and
a cut of channels cuts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from codesign.design import LayerFormats
from codesign.errors import ConfigError, ModelError, did_you_mean
from codesign.formats import FLOAT32, FloatFormat
from codesign.quantize import Rounding, absmax_scale, allocate, round_scaled, round_to_format
from codesign.quantize.allocate import split

_SAMPLED = 1 << 13  # numbers of a channel or tensor by which its format is chosen: their error is known within 2 %


class Scaling(StrEnum):
    """Where the scale of a tensor comes from."""

    ABSMAX = "absmax"  # the power of two at which nothing clips, anew at every call
    DELAYED = "delayed"  # the same, of the `every` calls before this one; may clip
    EMPIRICAL = "empirical"  # split of the format's width and real scale by `allocate` of a sample, every `every` steps
    FIXED = "fixed"  # `scale`, always; for errors and gradients the same as a loss multiplied by 1 / scale


@dataclass(frozen=True, slots=True)
class Rounder:
    """Rounds a tensor to `fmt`.

    fmt : the format; where the split is allocated, only its width counts
    axis : axis of the channels that have their own scale (and split); None: one for the tensor
    block : neighbours on `axis` that share a scale, instead of a channel; with `Scaling.ABSMAX` only
    every : calls that a delayed scale looks back, training steps between two allocations
    seed : of stochastic rounding; `convert` mixes in the layer and the role
    """

    fmt: FloatFormat
    axis: int | None = None
    rounding: Rounding = Rounding.NEAREST_EVEN
    scaling: Scaling = Scaling.ABSMAX
    block: int | None = None
    every: int = 16
    scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every must be 1 or more, got {self.every}")
        if self.block is not None and (self.scaling is not Scaling.ABSMAX or self.axis is None):
            raise ConfigError("block= goes with axis= and scaling 'absmax'")
        if self.scaling is Scaling.FIXED and not self.scale > 0:
            raise ConfigError(f"a fixed scale must be positive, got {self.scale}")
        if self.scaling is Scaling.EMPIRICAL and not 2 <= self.fmt.bits <= 16:
            raise ConfigError(f"empirical allocation covers 2 to 16 bits, '{self.fmt}' has {self.fmt.bits}")

    @property
    def remembers(self) -> bool:
        """Whether the rule has a state of its own."""
        return self.scaling in (Scaling.DELAYED, Scaling.EMPIRICAL)

    def __call__(self, x: torch.Tensor, memory: Memory | None = None) -> torch.Tensor:
        """`x` rounded; see `with_mask`."""
        return self.with_mask(x, memory, wanted=False)[0]

    def with_mask(
        self, x: torch.Tensor, memory: Memory | None = None, *, wanted: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`x` rounded, and where it was not clipped; None where nothing can clip, or where it is not wanted.

        A tensor without a finite number passes as it is, and with any other scaling than by its own largest magnitude one
        that holds a number that is not finite: its training has blown up, and its loss will say so.
        """
        if self.fmt == FLOAT32 and self.scaling is not Scaling.EMPIRICAL:
            return x, None
        step = memory.step if memory else 0
        seed = self.seed if self.rounding is Rounding.STOCHASTIC else None
        if self.scaling is Scaling.ABSMAX:
            return self._by_absmax(x, seed, step), None
        if not _all_finite(x):
            return x, None
        wide = x.float()
        formats: Any = self.fmt
        axis = self.axis
        if self.scaling is Scaling.FIXED:
            scale: Any = self.scale
            axis = None
        elif memory is None:
            raise ModelError(f"scaling '{self.scaling}' remembers; use the rule in a converted layer")
        elif self.scaling is Scaling.DELAYED:
            scale = memory.delayed_scale(self, wide)
        else:
            formats, scale = memory.allocation(self, wide)
        rounded = round_to_format(wide, formats, self.rounding, scale=scale, axis=axis, seed=seed, step=step)
        mask = wide.abs() <= self._clip(formats, scale, wide, axis) if wanted else None
        return rounded.to(x.dtype), mask

    def _by_absmax(self, x: torch.Tensor, seed: int | None, step: int) -> torch.Tensor:
        narrow = x.dtype not in (torch.float32, torch.float64)  # under autocast
        wide = x.float() if narrow else x
        if self.fmt.exponent_bits == 8 and self.block is None:  # float32's own range needs no scale
            rounded: torch.Tensor = round_to_format(wide, self.fmt, self.rounding, seed=seed, step=step)
            return rounded.to(x.dtype)
        try:
            if self.block is None:
                rounded = round_scaled(wide, self.fmt, self.rounding, axis=self.axis, seed=seed, step=step)
            else:
                scale = absmax_scale(wide, self.fmt, axis=self.axis, block=self.block)
                rounded = round_to_format(
                    wide, self.fmt, self.rounding, scale=scale, axis=self.axis, block=self.block, seed=seed, step=step
                )
        except ModelError:
            if torch.isfinite(x).any():
                raise
            return x
        return rounded.to(x.dtype)

    @staticmethod
    def _clip(formats: Any, scale: Any, x: torch.Tensor, axis: int | None) -> Any:
        """Largest magnitude that is represented, shaped to be compared with `x`."""
        if axis is None:
            return float(scale) * formats.max
        most = [fmt.max for fmt in formats] if isinstance(formats, list) else formats.max
        clip = torch.as_tensor(scale, device=x.device) * torch.as_tensor(most, device=x.device)
        return clip.float().reshape([-1 if d == axis % x.ndim else 1 for d in range(x.ndim)])


class Memory:
    """What a rule remembers in one layer: buffers `lowp_<role>_*` of the module, with a row for each channel."""

    def __init__(self, module: nn.Module, role: str, step: int) -> None:
        self.module, self.role, self.step = module, role, step

    def _buffer(self, name: str) -> torch.Tensor:
        return self.module.get_buffer(f"lowp_{self.role}_{name}")

    def delayed_scale(self, rule: Rounder, x: torch.Tensor) -> Any:
        """The scale by the largest magnitudes so far; then this tensor's is written down."""
        largest = x.abs().amax() if rule.axis is None else x.abs().movedim(rule.axis, 0).flatten(1).amax(1)
        history = self._buffer("absmax")  # [channels, every], or [1, every]
        known = history.amax(1)
        known = torch.where(known > 0, known, largest)
        if self.module.training:
            history[:, self.step % rule.every] = largest
        return absmax_scale(known, rule.fmt, axis=0) if rule.axis is not None else absmax_scale(known, rule.fmt)

    def allocation(self, rule: Rounder, x: torch.Tensor) -> tuple[Any, Any]:
        """Formats and scales; estimated anew when their time has come."""
        exponents, scale = self._buffer("exponent_bits"), self._buffer("scale")
        if bool((scale <= 0).any()) or (self.module.training and self.step % rule.every == 0):
            found = allocate(_sample(x, rule.axis), rule.fmt.bits, None if rule.axis is None else 0)
            exponents.copy_(torch.tensor([fmt.exponent_bits for fmt in found.formats]))
            scale.copy_(torch.from_numpy(found.scale))
        formats = [split(rule.fmt.bits, e) for e in exponents.tolist()]
        return (formats[0], float(scale[0])) if rule.axis is None else (formats, scale)


def _all_finite(x: torch.Tensor) -> bool:
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())


def _sample(x: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Evenly spaced numbers of each channel, at most `_SAMPLED`; channels come first."""
    if axis is None:
        return x.reshape(-1)[:: -(-x.numel() // _SAMPLED)]
    rows = x.movedim(axis, 0).flatten(1)
    return rows[:, :: -(-rows.shape[1] // _SAMPLED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A rule for each tensor of a layer's training step; master weights, biases and norms stay float32.

    accumulator, chunk : partial sums are rounded to this format after every `chunk` products (slow: an emulation);
        None: summed in float32
    """

    weight: Rounder
    activation: Rounder
    error: Rounder
    gradient: Rounder
    accumulator: FloatFormat | None = None
    chunk: int = 32

    @classmethod
    def of(cls, formats: LayerFormats) -> Policy:
        """Formats as a design point has them, by largest magnitude: one scale per output channel for the weight and its
        gradient, one per tensor for activation and error; nearest-even. Sums in float32 are torch's; those in another
        format are emulated."""
        return cls(
            weight=Rounder(formats.weight, 0),
            activation=Rounder(formats.activation),
            error=Rounder(formats.error),
            gradient=Rounder(formats.gradient, 0),
            accumulator=None if formats.accumulator == FLOAT32 else formats.accumulator,
        )

    @classmethod
    def parse(cls, roles: Mapping[str, Any], *, seed: int = 0) -> Policy:
        """From format names, `{"weight": "e2m3", ...}`, or rules in their place; `accumulator` and `chunk` as they are."""
        known = ("weight", "activation", "error", "gradient")
        for name in roles:
            if name not in (*known, "accumulator", "chunk"):
                raise ConfigError(f"unknown role '{name}'{did_you_mean(name, known)}")
        rules = {}
        for name in known:
            if name not in roles:
                raise ConfigError(f"role '{name}' has no format; write for example {name}=\"e4m3\"")
            rule = roles[name]
            axis = 0 if name in ("weight", "gradient") else None
            rules[name] = rule if isinstance(rule, Rounder) else Rounder(FloatFormat.parse(rule), axis, seed=seed)
        accumulator = roles.get("accumulator")
        return cls(
            **rules,
            accumulator=None if accumulator is None else FloatFormat.parse(str(accumulator)),
            chunk=int(roles.get("chunk", 32)),
        )
