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
