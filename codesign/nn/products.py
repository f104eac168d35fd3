"""Products whose operands, errors and weight gradients are rounded, as autograd functions.

Rounding passes gradients on unchanged where it did not clip, and stops them where it did (the straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from codesign.formats import FloatFormat
from codesign.nn.policy import Memory, Rounder
from codesign.prune import elementwise
from codesign.quantize import matmul, prepared

_Apply = Callable[..., torch.Tensor]  # of an autograd function, which torch leaves without types


@elementwise  # what a cut of channels needs to know of it
def _there(
    x: torch.Tensor, rule: Rounder, memory: Memory | None, step: int, clips: list[prepared.Clipped | None]
) -> torch.Tensor:
    y, clip = rule.forward(x, memory, step)
    clips.append(clip)
    return y


class _Layer(torch.autograd.Function):
    """A layer's product with all its roundings: one node of the graph, as each costs some 50 microseconds a step."""

    @staticmethod
    def forward(
        ctx: Any, layer: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Any
    ) -> torch.Tensor:
        rules = layer.rounders
        step, memories = layer._now()
        clips: list[prepared.Clipped | None] = []
        a = _there(x, rules.activation, memories[1], step, clips)
        w = _there(weight, rules.weight, memories[0], step, clips)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            a, w, bias = a.to(dtype), w.to(dtype), None if bias is None else bias.to(dtype)
        ctx.save_for_backward(a, w, x if clips[0] else None, weight if clips[1] else None)
        ctx.known = layer, how, rules, step, memories, clips, x.dtype, weight.dtype
        product: torch.Tensor = layer._product(a, w, bias, how)
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        layer, how, rules, step, memories, clips, x_dtype, weight_dtype = ctx.known
        a, w, x, weight = ctx.saved_tensors
        _, for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        e = rules.error(gradients[0], memories[2], step)
        dx, dw, db = layer._gradients(e, a, w, [for_x, for_weight, for_bias], how)  # new tensors, written to below
        if for_x:
            dx = dx if dx.dtype is x_dtype else dx.to(x_dtype)
            if clips[0]:
                clips[0].stop(x, dx)
        if for_weight:
            dw = dw if dw.dtype is weight_dtype else dw.to(weight_dtype)
            if clips[1]:
                clips[1].stop(weight, dw)
            dw = rules.gradient(dw, memories[3], step)
        return None, dx, dw, db, None


def layer_product(layer: Any, x: torch.Tensor, how: Any = None) -> torch.Tensor:
    """`layer._product(A(x), W(weight), bias, how)`, whose gradients are `layer._gradients` of the rounded error."""
    apply: _Apply = _Layer.apply
    return apply(layer, x, layer.weight, layer.bias, how)


class _Rounded(torch.autograd.Function):
    """Identity with rounding on the way forward, on the way back, or on both."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, there: Rounder | None, back: Rounder | None, memories: tuple[Any, Any], step: int
    ) -> torch.Tensor:
        ctx.back, ctx.memory, ctx.step, ctx.clip = back, memories[1], step, None
        if there is None:
            return x.view_as(x)
        y, ctx.clip = there.forward(x, memories[0], step)
        if ctx.clip is not None:
            ctx.save_for_backward(x)
        return y.view_as(x) if y is x else y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        (gradient,) = gradients
        if ctx.clip is not None:
            gradient = gradient.clone()  # others may hold it too
            ctx.clip.stop(ctx.saved_tensors[0], gradient)
        return (ctx.back(gradient, ctx.memory, ctx.step) if ctx.back else gradient), None, None, None, None


@elementwise
def rounded(
    x: torch.Tensor,
    *,
    there: Rounder | None = None,
    back: Rounder | None = None,
    memories: tuple[Memory | None, Memory | None] = (None, None),
    step: int = 0,
) -> torch.Tensor:
    """`x` rounded by `there`; its gradient, rounded by `back`. Memories of both, where they remember."""
    apply: _Apply = _Rounded.apply
    return apply(x, there, back, memories, step)


class _Accumulated(torch.autograd.Function):
    """a [m, k] times b [k, n] and both gradients, with partial sums rounded."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, fmt: FloatFormat, chunk: int) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        ctx.fmt, ctx.chunk = fmt, chunk
        result: torch.Tensor = matmul(a, b, fmt, chunk=chunk)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        (e,) = gradients
        a, b = ctx.saved_tensors
        e = e.contiguous()
        return (
            matmul(e, b.t().contiguous(), ctx.fmt, chunk=ctx.chunk),
            matmul(a.t().contiguous(), e, ctx.fmt, chunk=ctx.chunk),
            None,
            None,
        )


def accumulated(a: torch.Tensor, b: torch.Tensor, fmt: FloatFormat, chunk: int) -> torch.Tensor:
    """a [m, k] times b [k, n], partial sums rounded to `fmt` after every `chunk` products; gradients likewise."""
    apply: _Apply = _Accumulated.apply
    return apply(a, b, fmt, chunk)
