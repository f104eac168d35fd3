"""How a tensor of a training step is rounded: format, rounding, granularity, scale. A policy has one such rule per role.

A rule whose scale is remembered (delayed, empirical) keeps it in buffers of its layer, so that a checkpoint holds it and
a cut of channels cuts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import torch
from torch import nn

from codesign.design import LayerFormats
from codesign.errors import ConfigError, ModelError, did_you_mean
from codesign.formats import FLOAT32, FloatFormat
from codesign.quantize import Rounding, absmax_scale, allocate, prepared, round_to_format, split

_SAMPLED = 1 << 13  # numbers of a channel or tensor by which its format is chosen: their error is known within 2 %
_CLIPS = 16  # tried with each split, and the best refined: at most 0.01 dB (4 bits), 0.1 dB (8 bits) below `allocate`'s own 64


class Scaling(StrEnum):
    """Where the scale of a tensor comes from."""

    ABSMAX = "absmax"  # the power of two at which nothing clips, anew at every call
    DELAYED = "delayed"  # the same, of the `every` calls before this one; may clip
    EMPIRICAL = "empirical"  # split of the format's width and real scale by `allocate` of a sample, every `every` steps
    FIXED = "fixed"  # `scale`, always; for errors and gradients the same as a loss multiplied by 1 / scale


@dataclass(frozen=True)
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

    def __call__(self, x: torch.Tensor, memory: Memory | None = None, step: int = 0) -> torch.Tensor:
        """`x` rounded; see `forward`."""
        return self.forward(x, memory, step, watched=False)[0]

    def forward(
        self, x: torch.Tensor, memory: Memory | None = None, step: int = 0, *, watched: bool = True
    ) -> tuple[torch.Tensor, prepared.Clipped | None]:
        """`x` rounded, and, where `watched`, what of it was clipped; None where nothing was.

        step : of the training, for rules that are stochastic or remember

        A tensor without a finite number passes as it is, and with any other scaling than by its own largest magnitude one
        that holds a number that is not finite: its training has blown up, and its loss will say so.
        """
        if self._passes:
            return x, None
        seed = self.seed if self.rounding is Rounding.STOCHASTIC else None
        if self.scaling is Scaling.ABSMAX:
            return self._by_absmax(x, seed, step), None
        wide = x if x.dtype is torch.float32 else x.float()
        rounding: prepared.PreparedRounding | None
        if self.scaling is Scaling.FIXED:
            rounding = self._fixed
        elif memory is None:
            raise ModelError(f"scaling '{self.scaling}' remembers; use the rule in a converted layer")
        elif self.scaling is Scaling.EMPIRICAL:
            rounding = memory.allocated(self, wide, step)
        else:
            rounding = memory.delayed(self, wide, step)
        if rounding is None:
            return x, None
        rounded, clipped = rounding(wide, seed, step, watched=watched)
        if rounded is None:
            return x, None
        return rounded if wide is x else rounded.to(x.dtype), clipped

    @cached_property
    def _passes(self) -> bool:
        return self.fmt == FLOAT32 and self.scaling is not Scaling.EMPIRICAL

    @cached_property
    def _fixed(self) -> prepared.PreparedRounding:
        return prepared.PreparedRounding(self.fmt, self.rounding, scale=self.scale)

    @cached_property
    def _scaled(self) -> prepared.ScaledRounding:
        own_range = self.fmt.exponent_bits == 8  # float32's own: it needs no scale
        return prepared.ScaledRounding(self.fmt, self.rounding, None if own_range else self.axis, scaled=not own_range)

    def _by_absmax(self, x: torch.Tensor, seed: int | None, step: int) -> torch.Tensor:
        narrow = x.dtype is not torch.float32 and x.dtype is not torch.float64  # under autocast
        wide = x.float() if narrow else x
        try:
            if self.block is None:
                rounded = self._scaled(wide, seed, step)
            else:
                scale = absmax_scale(wide, self.fmt, axis=self.axis, block=self.block)
                rounded = round_to_format(
                    wide, self.fmt, self.rounding, scale=scale, axis=self.axis, block=self.block, seed=seed, step=step
                )
        except ModelError:
            if torch.isfinite(x).any():
                raise
            return x
        return rounded.to(x.dtype) if narrow else rounded


class Memory:
    """What a rule remembers in one layer: buffers `lowp_<role>_*` of the module, with a row for each channel."""

    __slots__ = ("_kept", "_names", "module", "role")

    def __init__(self, module: nn.Module, role: str) -> None:
        self.module, self.role = module, role
        self._names = f"lowp_{role}_exponent_bits", f"lowp_{role}_scale", f"lowp_{role}_absmax"
        self._kept: _Kept | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.module, self.role)  # a copy finds out by itself what is kept

    def delayed(self, rule: Rounder, x: torch.Tensor, step: int) -> prepared.PreparedRounding | None:
        """By the largest magnitudes so far; then those of x are written down. None where x is not finite."""
        largest = x.abs().amax() if rule.axis is None else x.abs().movedim(rule.axis, 0).flatten(1).amax(1)
        if not bool(torch.isfinite(largest).all()):
            return None
        history = self.module.get_buffer(self._names[2])  # [channels, every], or [1, every]
        known = history.amax(1)
        known = torch.where(known > 0, known, largest)
        if self.module.training:
            history[:, step % rule.every] = largest
        scale = absmax_scale(known, rule.fmt, axis=None if rule.axis is None else 0)
        return prepared.PreparedRounding(rule.fmt, rule.rounding, scale=scale.cpu().numpy(), axis=rule.axis)

    def allocated(self, rule: Rounder, x: torch.Tensor, step: int) -> prepared.PreparedRounding | None:
        """By `allocate`, anew when its time has come. None where x is then not finite."""
        due = self.module.training and step % rule.every == 0
        buffers = self.module._buffers
        exponents, scale = buffers[self._names[0]], buffers[self._names[1]]
        assert exponents is not None and scale is not None
        kept = self._kept
        if kept is not None and not due and kept.rule is rule and kept.is_of(exponents, scale):
            return kept.rounding
        if due or bool((scale <= 0).any()):
            if not _all_finite(x):
                return None
            axis = None if rule.axis is None else 0
            sample = _sample(x, rule.axis)  # of which channels may be zeros: dead units are part of a training
            found = allocate(sample, rule.fmt.bits, axis, clips=_CLIPS, assumed=False, allow_zeros=True)
            exponents.copy_(torch.tensor([fmt.exponent_bits for fmt in found.formats]))
            scale.copy_(torch.from_numpy(found.scale))
        formats: Any = tuple(split(rule.fmt.bits, e) for e in exponents.tolist())
        formats = formats[0] if rule.axis is None else formats
        rounding = prepared.PreparedRounding(formats, rule.rounding, scale=scale.cpu().numpy(), axis=rule.axis)
        self._kept = _Kept(rule, rounding, exponents, scale, _looks(exponents, scale))
        return rounding


@dataclass(frozen=True, slots=True)
class _Kept:
    """A rounding, and the two buffers from which it was made."""

    rule: Rounder
    rounding: prepared.PreparedRounding
    exponents: torch.Tensor
    scale: torch.Tensor
    looks: tuple[int, ...]

    def is_of(self, exponents: torch.Tensor, scale: torch.Tensor) -> bool:
        """Whether the buffers are still these, and unchanged."""
        return self.exponents is exponents and self.scale is scale and self.looks == _looks(exponents, scale)


def _looks(exponents: torch.Tensor, scale: torch.Tensor) -> tuple[int, ...]:
    """What changes with a buffer: what is written in place counts a version, what is cut has another memory or length."""
    return exponents._version, scale._version, scale.data_ptr(), scale.numel()


def _all_finite(x: torch.Tensor) -> bool:
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())


def _sample(x: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Evenly spaced numbers of each channel, at most `_SAMPLED`; channels come first."""
    if axis is not None:
        rows = x.movedim(axis, 0).flatten(1)
        return rows[:, :: _spacing(rows.shape[1])]
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # as it lies in memory
    return x.reshape(-1)[:: _spacing(x.numel())]


def _spacing(count: int) -> int:
    """The least that leaves `_SAMPLED` of `count` and, where it leaves any out, meets every row, column and channel."""
    spacing = -(-count // _SAMPLED)
    while spacing > 1 and math.gcd(spacing, count) > 1:
        spacing += 1
    return spacing


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
