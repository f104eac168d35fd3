"""Structures that the known networks lack."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class TorchTransformer(nn.Module):
    """torch's own encoder, decoder attention and a mask, with several norms."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), 2)
        self.query = nn.Parameter(torch.randn(1, 3, 32))
        self.cross = nn.MultiheadAttention(32, 4, kdim=32, vdim=32, batch_first=True)
        self.norm = nn.RMSNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.encoder(self.patches(x).flatten(2).transpose(1, 2))
        query = self.query.expand(len(x), -1, -1)
        x, _ = self.cross(query, x, x, need_weights=False)
        return self.head(self.norm(x).mean(1))


class ConvTransposeUNet(nn.Module):
    """Encoder and decoder with transposed convolutions, skip connections by concatenation, and pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU())
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.InstanceNorm2d(16, affine=True), nn.LeakyReLU())
        self.up1 = nn.ConvTranspose2d(16, 8, 2, 2)
        self.merge = nn.Conv2d(16, 12, 3, padding=1)
        self.wide = nn.ConvTranspose2d(12, 12, 4, 2, 1, groups=12)
        self.fine = nn.Conv2d(12, 16, 1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        skip = self.down1(x)
        x = F.relu(self.merge(torch.cat([self.up1(self.down2(skip)), skip], 1)))
        return self.last(F.relu(F.pixel_shuffle(self.fine(F.relu(self.wide(x))), 2)))


class GatedShuffle(nn.Module):
    """Squeeze and excitation, a gated linear unit, a split into halves, a channel shuffle, PReLU, shared weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.prelu = nn.PReLU(16)
        self.squeeze, self.excite = nn.Linear(16, 4), nn.Linear(4, 16)
        self.gated = nn.Conv2d(16, 24, 1)
        self.left, self.right = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(6, 8, 1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = self.prelu(self.stem(x))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))[:, :, None, None]
        a, b = F.glu(self.gated(x), 1).chunk(2, 1)
        x = torch.cat([F.relu(self.left(a)), F.relu(self.right(b))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = F.relu(self.grouped(x))
        x = F.relu(self.again(x)) + x
        x = F.relu(self.again(x))
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


class Windows(nn.Module):
    """Attention in shifted windows with a bias per head from a table, beside a depthwise block with channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.patches, self.depthwise = nn.Conv2d(3, 32, 4, 4), nn.Conv2d(32, 32, 7, padding=3, groups=32)
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.scale, self.table = nn.Parameter(torch.rand(32)), nn.Parameter(torch.rand(49, 4))
        self.qkv, self.proj, self.head = nn.Linear(32, 96), nn.Linear(32, 32), nn.Linear(32, 10)
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
        far = [axis.flatten()[:, None] - axis.flatten()[None, :] + 3 for axis in (rows, columns)]
        self.register_buffer("distance", far[0] * 7 + far[1])

    def forward(self, x):
        x = self.patches(x)
        y = self.down(F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))) * self.scale
        x = x.permute(0, 2, 3, 1) + y
        batch, height, width, _ = x.shape
        w = torch.roll(x, (-2, -2), (1, 2)).view(batch, height // 4, 4, width // 4, 4, -1)
        w = w.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, x.shape[-1])
        q, k, v = self.qkv(w).reshape(len(w), 16, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.table[self.distance.view(-1)].view(16, 16, -1).permute(2, 0, 1)
        w = ((q @ k.transpose(-2, -1) * 0.35 + bias).softmax(-1) @ v).transpose(1, 2).reshape(len(w), 16, -1)
        w = self.proj(w).view(batch, height // 4, width // 4, 4, 4, -1).permute(0, 1, 3, 2, 4, 5)
        return self.head((x + w.reshape(batch, height, width, -1)).mean((1, 2)))


class Generator(nn.Module):
    """A linear layer unfolded into maps, and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.norm = nn.Linear(3 * 32 * 32, 12 * 16), nn.BatchNorm2d(12)
        self.up, self.last = nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        x = self.into(x.flatten(1)).view(len(x), -1, 4, 4)
        return torch.tanh(self.last(F.relu(self.up(F.relu(self.norm(x))))))


class Tokens(nn.Module):
    """A language model: embeddings, tied to the head, norms of queries and keys, grouped queries, gates."""

    def __init__(self, words: int = 50, width: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(16, width)
        self.norm1, self.norm2, self.last = nn.LayerNorm(width), nn.RMSNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = nn.Linear(width, 32), nn.Linear(width, 16), nn.Linear(width, 16)
        self.query_norm, self.key_norm, self.proj = nn.LayerNorm(8), nn.RMSNorm(8), nn.Linear(32, width)
        self.up, self.gate, self.down = nn.Linear(width, 64), nn.Linear(width, 64), nn.Linear(64, width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.words.weight
        self.heads, self.shared = 4, 2

    def forward(self, words):
        batch, length = words.shape
        x = self.words(words) + self.places(torch.arange(length))
        y = self.norm1(x)
        q = self.query_norm(self.query(y).view(batch, length, self.heads, 8)).transpose(1, 2)
        k = self.key_norm(self.key(y).view(batch, length, self.shared, 8)).transpose(1, 2)
        v = self.value(y).view(batch, length, self.shared, 8).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, length, -1))
        y = self.norm2(x)
        return self.head(self.last(x + self.down(F.silu(self.gate(y)) * self.up(y))))
