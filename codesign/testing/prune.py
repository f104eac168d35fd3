"""Random networks and random cuts of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn

from codesign.prune import ChannelGroups, PrunePlan, plan_from_indices

EPS = 2.0**-10  # with a running variance of 1 - EPS a batch norm divides by exactly 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a `DrawnNetwork` on earlier maps, by their numbers; the result is a new map (`split`: two)."""

    kind: str
    sources: tuple[int, ...]
    out: int = 0
    kernel: int = 1
    groups: int = 1
    norm: bool = False


class Block(nn.Module):
    """A convolution, perhaps a batch norm, and a ReLU."""

    def __init__(self, convolution: nn.Module, channels: int, norm: bool) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(channels, eps=EPS) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A map of the same size."""
        return torch.relu(self.norm(self.convolution(x)))


class DrawnNetwork(nn.Module):
    """Runs `steps` on an image [batch, 3, 4, 4] and a linear layer on the last map, flattened.

    All values are small integers in float64, so that every sum is exact in any order.
    """

    def __init__(self, steps: tuple[Step, ...], seed: int) -> None:
        super().__init__()
        self.steps = steps
        widths = [3]
        blocks: list[nn.Module] = []
        for step in steps:
            into = [widths[source] for source in step.sources]
            block, out = _build(step, into)
            blocks.append(block)
            widths += out
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(widths[-1] * 16, 5)
        self.double().eval()
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            if tensor.is_floating_point():
                whole = torch.randint(-2, 3, tensor.shape, generator=generator).double()
                tensor.data = torch.full_like(tensor, 1 - EPS) if name.endswith("running_var") else whole

    def __repr__(self) -> str:
        return f"DrawnNetwork{self.steps}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [batch, 5]."""
        maps = [x]
        for step, block in zip(self.steps, self.blocks, strict=True):
            maps += _run(step, block, [maps[source] for source in step.sources])
        scores: torch.Tensor = self.head(maps[-1].flatten(1))
        return scores


def _build(step: Step, into: list[int]) -> tuple[nn.Module, list[int]]:
    """The module of one step and the widths of the maps it makes."""
    padding = step.kernel // 2
    match step.kind:
        case "convolution" | "twice":
            same = nn.Conv2d(into[0], step.out, step.kernel, padding=padding, groups=step.groups)
            return Block(same, step.out, step.norm), [step.out]
        case "transposed":
            turned = nn.ConvTranspose2d(into[0], step.out, step.kernel, padding=padding, groups=step.groups)
            return Block(turned, step.out, step.norm), [step.out]
        case "add":
            return Block(nn.Conv2d(into[1], into[0], 1), into[0], step.norm), [into[0]]
        case "cat":
            return nn.Identity(), [sum(into)]
        case "split":
            return nn.Identity(), [into[0] // 2, into[0] // 2]
        case "shuffle":
            return nn.Identity(), [into[0]]
    raise ValueError(step.kind)


def _run(step: Step, block: nn.Module, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    x = maps[0]
    match step.kind:
        case "convolution" | "transposed":
            return [block(x)]
        case "twice":
            return [block(block(x))]
        case "add":
            return [x + block(maps[1])]
        case "cat":
            return [torch.cat(maps, 1)]
        case "split":
            return list(x.chunk(2, 1))
    batch, channels, height, width = x.shape  # shuffle
    return [x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)]


@st.composite
def prunable_networks(draw: st.DrawFn) -> DrawnNetwork:
    """Networks of convolutions (plain, grouped, depthwise, transposed, applied twice), residual adds, concatenations,
    splits and channel shuffles, in any order; run them on integers of shape [batch, 3, 4, 4].
    """
    widths = [3]
    steps: list[Step] = []
    for number in range(draw(st.integers(2, 7))):
        kinds = ["convolution"] if number == 0 else ["convolution", "depthwise", "transposed", "twice", "add", "cat"]
        source = draw(st.integers(0 if number == 0 else 1, len(widths) - 1))
        into = widths[source]
        if number and into % 2 == 0 and into > 2:
            kinds += ["split", "shuffle"]
        kind = draw(st.sampled_from(kinds))
        sources: tuple[int, ...] = (source,)
        out, groups = draw(st.integers(1, 4)) * 2, 1
        if kind in ("add", "cat"):
            sources = (source, draw(st.integers(1, len(widths) - 1)))
        elif kind == "depthwise":
            kind, groups, out = (
                draw(st.sampled_from(["convolution", "transposed"])),
                into,
                into * draw(st.integers(1, 2)),
            )
        elif kind == "twice":
            out = into
        if kind in ("convolution", "transposed", "twice") and groups == 1 and into % 2 == 0:
            groups = draw(st.sampled_from([1, 2]))
        kernel, norm = draw(st.sampled_from([1, 3])), draw(st.booleans())
        step = Step(kind=kind, sources=sources, out=out, kernel=kernel, groups=groups, norm=norm)
        steps.append(step)
        widths += _build(step, [widths[s] for s in sources])[1]
    return DrawnNetwork(tuple(steps), draw(st.integers(0, 2**31)))


@st.composite
def cuts(draw: st.DrawFn, groups: ChannelGroups) -> PrunePlan:
    """Plans that remove some channels; the plan that removes none when nothing can leave."""
    removed: set[int] = set()
    for group in groups.groups:
        units = sorted({unit for layer in group.layers for unit in groups.classes_of(layer).tolist()})
        units = [unit for unit in units if unit != groups.classes.fixed] if group.units else []
        leaving = draw(st.lists(st.booleans(), min_size=len(units), max_size=len(units)))
        removed |= {unit for unit, leaves in zip(units, leaving, strict=True) if leaves}
    for layer in groups.layers:
        classes = groups.classes_of(layer).tolist()
        if removed.issuperset(classes):
            removed.discard(classes[0])
    keep = {}
    for layer in groups.layers:
        classes = groups.classes_of(layer).tolist()
        if not removed.isdisjoint(classes):
            keep[layer] = [i for i, unit in enumerate(classes) if unit not in removed]
    return plan_from_indices(groups, keep)
