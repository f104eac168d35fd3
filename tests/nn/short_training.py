"""A network of three layers and a few steps of its training, a function of their numbers alone."""

import torch
from torch import nn
from torch.nn import functional


def small():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 5))


def train(network, optimizer, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x, target = torch.randn(4, 3, 4, 4, generator=generator), torch.randint(5, (4,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(network(x), target).backward()
        optimizer.step()
