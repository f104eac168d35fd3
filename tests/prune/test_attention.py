"""The attention that may lose heads is torch's own as long as it has them all (oracle: nn.MultiheadAttention)."""

import copy

import pytest
import torch
from torch import nn

from codesign.errors import ModelError
from codesign.network.attention import HeadPrunedAttention, all_prunable, make_prunable
from codesign.prune import channel_groups, plan_from_counts, plan_from_indices, prune
from tests.prune.cutting import scramble

CASES = {
    "plain": ({}, {}),
    "batch first": ({"batch_first": True}, {}),
    "no bias": ({"bias": False}, {}),
    "other widths of key and value": ({"kdim": 12, "vdim": 20}, {}),
    "weights per head": ({}, {"average_attn_weights": False}),
    "no weights": ({}, {"need_weights": False}),
}


def inputs(batch_first=False, kdim=16, vdim=16, **_):
    generator = torch.Generator().manual_seed(3)
    shapes = ((5, 2, 16), (7, 2, kdim), (7, 2, vdim))
    found = [torch.randn(shape, generator=generator) for shape in shapes]
    return [x.transpose(0, 1) for x in found] if batch_first else found


@pytest.mark.parametrize(("options", "call"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("mask", ["none", "causal", "per head", "padding", "both"])
def test_with_all_heads_it_is_torchs_attention(options, call, mask):
    torch.manual_seed(0)
    theirs = scramble(nn.MultiheadAttention(16, 4, **options))
    ours = copy.deepcopy(theirs)
    make_prunable(ours, "")
    masks = {}
    if mask in ("causal", "both"):
        masks["attn_mask"] = torch.ones(5, 7, dtype=torch.bool).triu(1)
    if mask == "per head":
        masks["attn_mask"] = torch.randn(2 * 4, 5, 7)
    if mask in ("padding", "both"):
        masks["key_padding_mask"] = torch.arange(7)[None, :] >= torch.tensor([[4], [6]])
    expected, expected_weights = theirs(*inputs(**options), **masks, **call)
    got, weights = ours(*inputs(**options), **masks, **call)
    torch.testing.assert_close(got, expected)
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights)


def test_without_a_batch_it_is_torchs_attention_too():
    theirs = scramble(nn.MultiheadAttention(16, 4))
    ours = copy.deepcopy(theirs)
    make_prunable(ours, "")
    q, k, v = (x[:, 0] for x in inputs())
    for got, expected in zip(ours(q, k, v), theirs(q, k, v), strict=True):
        torch.testing.assert_close(got, expected)


def test_attention_runs_as_before_once_the_pass_is_over():
    model = nn.Sequential(nn.MultiheadAttention(16, 4))
    with all_prunable(model):
        assert type(model[0]) is HeadPrunedAttention
    assert type(model[0]) is nn.MultiheadAttention
    assert model[0]._qkv_same_embed_dim


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


def test_a_removed_head_is_a_head_of_zeros():
    model = scramble(Encoder())
    x = torch.randn(2, 6, 16)
    plan = plan_from_indices(channel_groups(model, x), {"layer.self_attn": range(4, 12)})  # heads 1 and 2 of 4
    smaller = prune(model, plan)
    assert type(smaller.layer.self_attn) is HeadPrunedAttention
    assert smaller.layer.self_attn.num_heads == 2
    masked = copy.deepcopy(model)
    with torch.no_grad():
        masked.layer.self_attn.out_proj.weight[:, :4] = 0
        masked.layer.self_attn.out_proj.weight[:, 12:] = 0
    # Also on torch's fused path, which evaluation without gradients would take.
    with torch.no_grad():
        torch.testing.assert_close(smaller(x), masked(x))


def test_a_mask_of_the_dense_networks_heads_is_refused():
    ours = scramble(nn.MultiheadAttention(16, 4))
    make_prunable(ours, "")
    with pytest.raises(ModelError, match="attn_mask has 6 rows, but 2 x 4 heads are left"):
        ours(*inputs(), attn_mask=torch.zeros(6, 5, 7))


def test_attention_with_extra_keys_cannot_be_cut():
    class Extra(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.attention = nn.Linear(16, 16), nn.MultiheadAttention(16, 4, add_bias_kv=True)
            self.head = nn.Linear(16, 2)

        def forward(self, x):
            x = self.into(x)
            return self.head(self.attention(x, x, x, need_weights=False)[0])

    model = Extra()
    groups = channel_groups(model, torch.randn(3, 2, 16))
    with pytest.raises(ModelError, match="module 'attention': attention with add_bias_kv"):
        prune(model, plan_from_counts(model, groups, {"into": 8}))
