"""Multi-head attention whose heads need not add up to the width of its input, as `nn.MultiheadAttention` demands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from codesign.errors import ModelError


class HeadPrunedAttention(nn.MultiheadAttention):
    """An `nn.MultiheadAttention` that has lost heads or input channels; it takes and returns the same.

    Made from an `nn.MultiheadAttention` in place by `prune`: the parameters keep their names. `num_heads` heads of
    `head_dim` each; the width of the input is that of the weights.
    """

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `nn.MultiheadAttention.forward`: shapes, masks and results are the same."""
        batched = query.ndim == 3
        if not batched:
            query, key, value = (x.unsqueeze(0 if self.batch_first else 1) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (self._heads(x, part) for part, x in enumerate((query, key, value)))
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:  # as torch writes it: products of matrices in one batch of examples and heads
            q, k, v = (x.flatten(0, 1) for x in (q * self.head_dim**-0.5, k, v))
            scores = torch.bmm(q, k.transpose(-2, -1))
            scores = scores if mask is None else (torch.unflatten(scores, 0, (len(query), -1)) + mask).flatten(0, 1)
            weights = F.softmax(scores, -1)
            weights = F.dropout(weights, dropout) if dropout > 0 else weights
            mixed = torch.unflatten(torch.bmm(weights, v), 0, (len(query), -1))
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        result = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if weights is not None:
            weights = torch.unflatten(weights, 0, (len(query), -1))
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        result = result if self.batch_first else result.transpose(0, 1)
        return result if batched else result.squeeze(0 if self.batch_first else 1), weights

    def _heads(self, x: torch.Tensor, part: int) -> torch.Tensor:
        """Query (part 0), key (1) or value (2): [batch, heads, length, head size]."""
        if self.in_proj_weight is not None:
            weight = self.in_proj_weight.chunk(3)[part]
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[part]
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[part]
        return torch.unflatten(F.linear(x, weight, bias), -1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(
        self, attn: torch.Tensor | None, padding: torch.Tensor | None, q: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor | None:
        """Both masks as one that is added to the scores, [batch or 1, heads or 1, length, source length]."""
        total = None
        if attn is not None:
            total = _additive(attn, q)
            if attn.ndim == 3:  # [batch * heads, ...]; a mask of the dense network has more heads than are left
                if attn.shape[0] != q.shape[0] * self.num_heads:
                    raise ModelError(
                        f"attn_mask has {attn.shape[0]} rows, but {q.shape[0]} x {self.num_heads} heads are left after "
                        "pruning; give a mask of shape [length, length], or one row per head that is left"
                    )
                total = torch.unflatten(total, 0, (q.shape[0], self.num_heads))
        if padding is not None:
            hidden = _additive(padding, q)[:, None, None, :]
            total = hidden if total is None else total + hidden
        return total


def _additive(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))


@contextmanager
def all_prunable(model: nn.Module) -> Iterator[None]:
    """For a while every `nn.MultiheadAttention` (no subclass of it) runs as the `HeadPrunedAttention` it may become."""
    before = [
        (module, *make_prunable(module, name))
        for name, module in model.named_modules()
        if type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn
    ]
    try:
        yield
    finally:
        for module, kind, same_widths in before:
            become(module, kind, same_widths)


def make_prunable(module: nn.MultiheadAttention, name: str) -> tuple[type[nn.MultiheadAttention], bool]:
    """Turn an attention into a `HeadPrunedAttention` in place; returns what `become` needs to turn it back."""
    if module.bias_k is not None or module.add_zero_attn:
        raise ModelError(f"module '{name}': attention with add_bias_kv or add_zero_attn cannot be pruned")
    before = (type(module), module._qkv_same_embed_dim)
    # Not the same widths: keeps torch's fused encoder layer, which knows only dense shapes, off the weights.
    become(module, HeadPrunedAttention, False)
    return before


def become(module: nn.MultiheadAttention, kind: type[nn.MultiheadAttention], same_widths: bool) -> None:
    """Change the class of an attention in place."""
    module.__class__ = kind
    module._qkv_same_embed_dim = same_widths
