"""Numbers of many networks as data. `python -m tests.workload.frozen` writes tests/data/workloads.json.gz."""

import gzip
import json
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from codesign import Workload
from codesign.nn.networks import build
from codesign.workload import builtin_workload, workload_names
from tests.prune import networks as pruned
from tests.prune.pieces import ConvTransposeUNet, GatedShuffle, Generator, Tokens, TorchTransformer, Windows
from tests.workload import networks
from tests.workload.test_builtin import DEFINITIONS, built
from tests.workload.test_trace import Language, Odd, tied_network

PATH = Path(__file__).parents[1] / "data" / "workloads.json.gz"
NOT_NUMBERS = {"inputs", "outputs", "weights", "out_group", "extents", "vectors"}


class Weights(nn.Module):
    """Attention that returns its weights too, and a dropout of everything."""

    def __init__(self):
        super().__init__()
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(16, 3)
        self.attend = nn.MultiheadAttention(16, 4, dropout=0.1, batch_first=True)

    def forward(self, x):
        y, _ = self.attend(x, x, x)
        return self.out(self.drop(x + y))


class Two(nn.Module):
    """Two inputs, two outputs, a sum with a parameter, a product with itself, a stack, a pad, a resampling."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(1, 6, 3, padding=1)
        self.shift, self.norm = nn.Parameter(torch.zeros(1, 6, 1, 1)), nn.InstanceNorm2d(6, affine=True)
        self.slope, self.head, self.map = nn.PReLU(6), nn.Linear(6, 4), nn.Conv2d(6, 2, 1)

    def forward(self, x, y):
        a, b = self.a(x) + self.shift, self.norm(self.b(y))
        z = torch.stack([a * a, b]).sum(0) - 0.5 * self.slope(a)
        z = F.avg_pool2d(F.pad(z, (1, 1, 1, 1)), 2)
        up = F.interpolate(z, scale_factor=2, mode="bilinear")
        return self.head(z.amax((2, 3))), self.map(torch.sigmoid(up) / 2)


class Stochastic(nn.Module):
    """A block that a draw may skip in training mode."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.a(x))
        keep = torch.ones(x.shape[0], 1) * 0.5
        return self.head(x + self.b(x) * keep)


IMAGE32, IMAGE8 = torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 8, 8)


def cases():
    """Name -> (network, example); made when asked for."""
    found = {}
    for name in DEFINITIONS:
        found[f"definition {name}"] = partial(built, name)
    small = {
        "vgg16": partial(pruned.vgg, width=0.125),
        "resnet18": partial(pruned.resnet18, width=8, classes=10),
        "resnet50": partial(pruned.resnet50, width=8, classes=10),
        "resnext": partial(pruned.resnext, width=16, classes=10),
        "mobilenet": partial(pruned.mobilenet_v2, rows=((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 2, 1)), classes=10),
        "densenet": partial(pruned.densenet, depths=(3, 3), growth=8, classes=10),
        "vit": partial(pruned.ViT, image=32, patch=8, width=48, depth=2, heads=4, classes=10),
        "torch transformer": TorchTransformer,
        "u-net": ConvTransposeUNet,
        "shuffle and gates": GatedShuffle,
        "windows": Windows,
        "generator": Generator,
        "small vit": partial(networks.ViT, image=32, patch=8, width=48, heads=4, depth=2, classes=10),
    }
    for name, make in small.items():
        found[f"pruned {name}"] = lambda make=make: (make(), IMAGE32)
    for name in ("vgg:16 16 M 32 32 M 64", "vgg11", "vgg16", "resnet8", "resnet20", "resnet32"):
        for width in (0.25, 0.6, 1.0):
            size = 32 if name.startswith("vgg1") else 8
            found[f"{name} x {width}"] = lambda name=name, width=width, size=size: (
                build(name, (3, size, size), 10, width=width),
                torch.zeros(4, 3, size, size),
            )
    words = torch.zeros(2, 5, dtype=torch.long)
    sequence = torch.zeros(2, 5, 16)
    layer = partial(nn.TransformerEncoderLayer, 16, 4, 32, batch_first=True)
    found |= {
        "tied": lambda: (tied_network(), torch.zeros(1, 3, 8, 8)),
        "odd": lambda: (Odd(), torch.zeros(2, 3, 16, 16)),
        "language": lambda: (Language(), words),
        "tokens": lambda: (Tokens(), torch.zeros(2, 16, dtype=torch.long)),
        "small gpt": lambda: (networks.GPT(50, 16, 24, 4, 2), torch.zeros(3, 16, dtype=torch.long)),
        "encoder layer": lambda: (layer(), sequence),
        "encoder layer, norm first": lambda: (layer(norm_first=True, activation="gelu"), sequence),
        "encoder": lambda: (nn.TransformerEncoder(layer(), 2), sequence),
        "decoder layer": lambda: (nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), (sequence, sequence)),
        "transformer": lambda: (nn.Transformer(16, 4, 1, 1, 32, batch_first=True), (sequence, sequence)),
        "attention with weights": lambda: (Weights(), torch.zeros(2, 5, 16)),
        "two inputs": lambda: (Two(), (torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))),
        "stochastic": lambda: (Stochastic(), torch.zeros(2, 8)),
        "sequence": lambda: (
            nn.Sequential(nn.Conv1d(4, 6, 3), nn.GroupNorm(2, 6), nn.GELU(), nn.Conv1d(6, 6, 3, groups=3)),
            torch.zeros(2, 4, 12),
        ),
        "volume": lambda: (
            nn.Sequential(nn.Conv3d(1, 4, 3, padding="same"), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(32, 2)),
            torch.zeros(2, 1, 4, 4, 4),
        ),
        "perceptron": lambda: (
            nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3), nn.LogSoftmax(1)),
            torch.zeros(4, 6),
        ),
    }  # fmt: skip
    return found


def numbers(layer):
    """Everything that a layer says in numbers and names, without how it follows the channels."""
    said = {field.name: getattr(layer, field.name) for field in fields(layer) if field.name not in NOT_NUMBERS}
    counted = {name: getattr(layer, name) for name in ("macs", "parameters", "out_elements")}
    return json.loads(json.dumps({"type": type(layer).__name__, **said, **counted}))


def written_down(workload):
    """A workload as data: its layers, and each group as [name, channels, layers that produce them, why fixed]."""
    layers = [numbers(layer) for layer in workload.layers]
    groups = [[group.name, group.channels, list(group.producers), group.pinned] for group in workload.groups]
    return {"batch": workload.batch, "layers": layers, "groups": groups}


def freeze():
    """Everything that can be read, as data; of what cannot, the reason."""
    found = {f"builtin {name}": written_down(builtin_workload(name, batch=64)) for name in workload_names()}
    for name, make in cases().items():
        model, example = make()
        try:
            found[name] = written_down(Workload.from_torch(model, example))
        except Exception as error:
            found[name] = {"refused": str(error)}
    return found


if __name__ == "__main__":
    frozen = freeze()
    for name, one in frozen.items():
        if "refused" in one:
            print(name, one["refused"])
    PATH.write_bytes(gzip.compress(json.dumps(frozen).encode(), mtime=0))
