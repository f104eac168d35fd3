"""A plan: which output channels each layer keeps, checked against everything that depends on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from codesign.errors import ModelError
from codesign.prune.groups import ChannelGroups
from codesign.prune.importance import l1_importance


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class PrunePlan:
    """Kept output channels of every layer that loses some, tied layers included.

    keep : (layer name, kept channel indices in rising order), in the order in which the network runs the layers
    removed : the classes of channels that leave
    """

    keep: tuple[tuple[str, tuple[int, ...]], ...]
    removed: frozenset[int]
    groups: ChannelGroups

    @property
    def counts(self) -> dict[str, int]:
        """Output channels of every layer after the cut."""
        kept = dict(self.keep)
        return {name: len(kept.get(name, atoms)) for name, atoms in self.groups.layers.items()}

    @property
    def parameters(self) -> int:
        """Parameters after the cut."""
        return self.groups.parameters(self.removed)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one example's forward pass after the cut."""
        return self.groups.macs(self.removed)

    def to_json(self) -> dict[str, list[int]]:
        """Layer name -> kept channels; `plan_from_indices` reads it back."""
        return {name: list(indices) for name, indices in self.keep}

    def __repr__(self) -> str:
        return f"<PrunePlan {dict(self.keep)}>"

    def __str__(self) -> str:
        lines = [f"{name}: {len(kept)} of {self.groups.width(name)} channels" for name, kept in self.keep]
        before, after = self.groups.parameters(), self.parameters
        lines.append(f"parameters: {before:,} -> {after:,} ({after / before - 1:+.1%})")
        before, after = self.groups.macs(), self.macs
        return "\n".join([*lines, f"multiply-accumulates: {before:,} -> {after:,} ({after / before - 1:+.1%})"])


def plan_from_indices(groups: ChannelGroups, keep: Mapping[str, Iterable[int]]) -> PrunePlan:
    """The plan that keeps these output channels of these layers. Layers tied to them follow; the others stay whole.

    An empty mapping is the plan that changes nothing.
    """
    removed: dict[int, str] = {}
    kept: dict[int, str] = {}
    for layer, indices in keep.items():
        classes = groups.classes_of(layer)
        wanted = sorted(set(indices))
        if not wanted:
            raise ModelError(
                f"layer '{layer}': a layer cannot lose all its channels; keep at least 1 of {len(classes)}"
            )
        if wanted[0] < 0 or wanted[-1] >= len(classes):
            bad = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise ModelError(f"layer '{layer}' has channels 0 to {len(classes) - 1}, got {bad}")
        staying = np.isin(np.arange(len(classes)), wanted)
        kept |= dict.fromkeys(classes[staying].tolist(), layer)
        removed |= dict.fromkeys(classes[~staying].tolist(), layer)
    if groups.classes.fixed in removed:
        layer = removed[groups.classes.fixed]
        fixed = groups.atoms(layer)[groups.classes_of(layer) == groups.classes.fixed]
        raise ModelError(f"layer '{layer}' cannot lose these channels: {groups.classes.why_fixed(fixed)}")
    for name in removed.keys() & kept.keys():
        raise ModelError(_torn(groups, removed[name], kept[name], name))
    return _plan(groups, set(removed), asked=bool(keep))


def plan_from_counts(
    model: nn.Module,
    groups: ChannelGroups,
    counts: Mapping[str, int],
    importance: Mapping[str, torch.Tensor] | None = None,
) -> PrunePlan:
    """The plan that keeps exactly `counts` output channels in the named layers: the most important ones.

    Importance of tied channels is the sum over the layers of their group, each scaled to a mean of 1, so that no layer
    outweighs the others. Of equals, the earlier channel stays.

    Parameters
    ----------
    counts : layer name -> output channels to keep. Tied layers must agree, or only one of them be named; layers that
        are not named stay whole unless they are tied to one that is
    importance : layer name -> a score per output channel, higher stays; default `l1_importance(model)`
    """
    scores = l1_importance(model) if importance is None else importance
    return plan_from_ranking(groups, counts, lambda layers: ranked(groups, layers, scores))


def plan_from_ranking(
    groups: ChannelGroups, counts: Mapping[str, int], ranking: Callable[[tuple[str, ...]], Sequence[int]]
) -> PrunePlan:
    """The plan that keeps exactly `counts` output channels in the named layers; see `plan_from_counts`.

    Parameters
    ----------
    ranking : the classes of layers that are tied to each other, those that stay first
    """
    for layer, count in counts.items():
        width = groups.width(layer)
        if not 1 <= count <= width:
            raise ModelError(f"layer '{layer}': cannot keep {count} of {width} channels; keep 1 to {width}")
    removed: set[int] = set()
    for layers in dict.fromkeys(groups.tied_to(layer) for layer in counts):
        named = {layer: counts[layer] for layer in layers if layer in counts}
        if any(count < groups.width(layer) for layer, count in named.items()):
            removed |= _removed(groups, layers, named, ranking(layers))
    return _plan(groups, removed, asked=bool(counts))


def _removed(
    groups: ChannelGroups, layers: tuple[str, ...], counts: Mapping[str, int], ranking: Sequence[int]
) -> set[int]:
    """Classes of layers tied to each other that leave so that each layer of `counts` keeps its count."""
    sizes = {layer: _sizes(groups, layer) for layer in layers}
    decided: dict[int, bool] = {groups.classes.fixed: True}
    for layer in sorted(counts, key=lambda name: len(sizes[name])):
        own = sizes[layer]
        room = counts[layer] - sum(size for name, size in own.items() if decided.get(name))
        open_units = [name for name in ranking if name in own and name not in decided]
        for name in open_units:
            decided[name] = own[name] <= room
            room -= own[name] if decided[name] else 0
        if room:
            raise ModelError(_unreachable(groups, layer, counts, counts[layer] - room, bool(open_units)))
    return {name for name, stays in decided.items() if not stays}


def _sizes(groups: ChannelGroups, layer: str) -> dict[int, int]:
    """Channels of one layer in each class."""
    found, counts = np.unique(groups.classes_of(layer), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def ranked(groups: ChannelGroups, layers: tuple[str, ...], scores: Mapping[str, torch.Tensor]) -> list[int]:
    """Classes of layers tied to each other, the most important first."""
    total: dict[int, float] = {}
    scored = [layer for layer in layers if layer in scores]
    if not scored:
        raise ModelError(f"layer '{layers[0]}': importance has no score for it nor for a layer tied to it")
    for layer in layers:
        classes = groups.classes_of(layer)
        found, where, counts = np.unique(classes, return_inverse=True, return_counts=True)
        sums: np.ndarray = np.zeros(len(found))
        if layer in scores:
            own = scores[layer].detach().double().cpu().numpy()
            if own.shape != classes.shape or not np.isfinite(own).all():
                raise ModelError(
                    f"layer '{layer}': importance must be {len(classes)} finite scores, got shape {list(own.shape)}"
                )
            sums = np.bincount(where, own / (np.abs(own).mean() or 1.0))
        for name, score in zip(found.tolist(), (sums / counts).tolist(), strict=True):
            total[name] = total.get(name, 0.0) + score
    return sorted(total, key=lambda name: -total[name])


def _unreachable(groups: ChannelGroups, layer: str, counts: Mapping[str, int], reached: int, free: bool) -> str:
    asked, group = counts[layer], groups.group_of(layer)
    if not free and group.units and len(counts) > 1:
        others = ", ".join(f"'{name}' keeps {count}" for name, count in counts.items() if name != layer)
        return f"layer '{layer}' is tied to others: it keeps {reached} channels, not {asked}, where {others}"
    if not group.units:
        return f"layer '{layer}' cannot lose channels: {group.why_fixed}"
    unit = group.unit_channels[group.layers.index(layer)]
    if unit > 1:
        return f"layer '{layer}': channels leave {unit} at a time, so it cannot keep {asked}; keep {reached or unit}"
    fixed = groups.atoms(layer)[groups.classes_of(layer) == groups.classes.fixed]
    if len(fixed) > asked:
        return f"layer '{layer}' cannot keep {asked}: {len(fixed)} stay because {groups.classes.why_fixed(fixed)}"
    return f"layer '{layer}' cannot keep exactly {asked} channels, since some leave together; keep {reached}"


def _torn(groups: ChannelGroups, removing: str, keeping: str, name: int) -> str:
    one = int(np.flatnonzero(groups.classes_of(removing) == name)[0])
    other = int(np.flatnonzero(groups.classes_of(keeping) == name)[-1])
    return (
        f"layer '{removing}' loses channel {one}, which is tied to channel {other} of layer '{keeping}' that stays; "
        "keep both or none, or name only one of the layers"
    )


def _plan(groups: ChannelGroups, removed: set[int], *, asked: bool) -> PrunePlan:
    """The plan that removes these classes; refused when it would empty a tensor, or cut nothing although asked to."""
    if asked and not removed:
        raise ModelError(
            "the plan removes nothing: every layer it names keeps all its channels (an empty plan is allowed)"
        )
    for name, shape in groups.sizes(removed).items():
        if 0 in shape and 0 not in groups.stored[name].shape:
            raise ModelError(f"tensor '{name}' would be left with shape {list(shape)}; keep at least one channel")
    gone = groups.gone(removed)
    keep = {layer: np.flatnonzero(~gone[atoms]) for layer, atoms in groups.layers.items() if gone[atoms].any()}
    return PrunePlan(
        keep=tuple((layer, tuple(indices.tolist())) for layer, indices in keep.items()),
        removed=frozenset(removed),
        groups=groups,
    )
