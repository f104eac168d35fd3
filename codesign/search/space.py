"""What may be chosen: a channel level per decision group and a format option per layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from codesign.design import DesignPoint, LayerFormats, Role
from codesign.errors import ConfigError, did_you_mean
from codesign.formats import FloatFormat

Choice = tuple[int, ...]  # level of each group, then option of each layer, in the order of the space


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers whose output channels are cut together: one layer, or all layers that a residual sum or the user ties.

    levels : channels kept, strictly decreasing; the first is the full count
    """

    name: str
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.levels:
            raise ConfigError(f"group '{self.name}' has no level; give at least its full channel count")
        if any(a <= b for a, b in itertools.pairwise(self.levels)) or self.levels[-1] < 1:
            raise ConfigError(
                f"group '{self.name}': levels must be positive and strictly decreasing from the full count, "
                f"got {list(self.levels)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLayer:
    """A layer of the network with a choice to make.

    formats : name of each option to its formats; the first is the most precise one
    in_group, out_group : groups that its input and output channels belong to; None where they are never cut
    """

    name: str
    formats: Mapping[str, LayerFormats]
    in_group: str | None = None
    out_group: str | None = None

    def __post_init__(self) -> None:
        if not self.formats:
            raise ConfigError(f"layer '{self.name}' has no format option; give at least one")


@dataclass(frozen=True, kw_only=True)
class Space:
    """Every design that a search may propose.

    layers : in the order of the network; that order is the order of the dynamic program
    default : formats of everything that is not in `layers`
    """

    layers: tuple[SearchLayer, ...]
    groups: tuple[Group, ...] = ()
    default: LayerFormats

    def __post_init__(self) -> None:
        for kind, names in (("layer", [x.name for x in self.layers]), ("group", [x.name for x in self.groups])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"{kind} '{twice[0]}' appears twice in the search space")
        if not self.layers:
            raise ConfigError("the search space has no layers")
        known = {group.name for group in self.groups}
        for layer in self.layers:
            for name in (layer.in_group, layer.out_group):
                if name is not None and name not in known:
                    raise ConfigError(f"layer '{layer.name}': unknown group '{name}'{did_you_mean(name, known)}")
        for name in sorted(known - {layer.out_group for layer in self.layers}):
            raise ConfigError(f"group '{name}' is the output of no layer; name it as some layer's out_group")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each entry of a choice."""
        return tuple(len(g.levels) for g in self.groups) + tuple(len(x.formats) for x in self.layers)

    @property
    def log10_designs(self) -> float:
        """Decimal logarithm of the number of designs."""
        return sum(math.log10(size) for size in self.sizes)

    @cached_property
    def group_index(self) -> dict[str, int]:
        """Position of each group in `groups` and in a choice."""
        return {group.name: i for i, group in enumerate(self.groups)}

    @cached_property
    def _options(self) -> tuple[tuple[LayerFormats, ...], ...]:
        return tuple(tuple(layer.formats.values()) for layer in self.layers)

    def point(self, choice: Sequence[int]) -> DesignPoint:
        """The design that a choice stands for. A group at its full count names no channels."""
        if len(choice) != len(self.sizes) or any(not 0 <= c < n for c, n in zip(choice, self.sizes, strict=True)):
            raise ConfigError(f"a choice of this space has {len(self.sizes)} entries below {self.sizes}, got {choice}")
        cut = {g.name: g.levels[level] for g, level in zip(self.groups, choice, strict=False) if level}
        picked = choice[len(self.groups) :]
        return DesignPoint.of(
            channels={x.name: cut[x.out_group] for x in self.layers if x.out_group in cut},
            formats={x.name: options[i] for x, options, i in zip(self.layers, self._options, picked, strict=True)},
            default=self.default,
        )

    def choice(self, point: DesignPoint) -> Choice | None:
        """The choice that gives `point`; None if the point is not in this space."""
        if point.default != self.default:
            return None
        channels, formats = dict(point.channels), dict(point.formats)
        levels = [0] * len(self.groups)
        for layer in self.layers:
            if layer.out_group is None:
                continue
            i = self.group_index[layer.out_group]
            kept = channels.get(layer.name, self.groups[i].levels[0])
            if kept not in self.groups[i].levels:
                return None
            levels[i] = self.groups[i].levels.index(kept)
        picked = []
        for layer, options in zip(self.layers, self._options, strict=True):
            wanted = formats.get(layer.name, point.default)
            if wanted not in options:
                return None
            picked.append(options.index(wanted))
        choice = (*levels, *picked)
        return choice if self.point(choice) == point else None

    def uniform_choices(self) -> list[Choice]:
        """The same relative level everywhere crossed with the same option name everywhere, densest first.

        An option name that some layer lacks is left out; if no name is common, each layer takes the same relative
        position in its list.
        """
        depth = max((len(g.levels) for g in self.groups), default=1)
        common = [name for name in self.layers[0].formats if all(name in x.formats for x in self.layers)]
        if common:
            picks = [tuple(list(x.formats).index(name) for x in self.layers) for name in common]
        else:
            most = max(len(x.formats) for x in self.layers)
            picks = [tuple(_scaled(i, most, len(x.formats)) for x in self.layers) for i in range(most)]
        levels = [tuple(_scaled(i, depth, len(g.levels)) for g in self.groups) for i in range(depth)]
        return list(dict.fromkeys((*level, *pick) for level in levels for pick in picks))

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, for the fingerprint of a run."""
        return {
            "default": self.default.names(),
            "groups": [{"name": g.name, "levels": list(g.levels)} for g in self.groups],
            "layers": [
                {
                    "name": x.name,
                    "in_group": x.in_group,
                    "out_group": x.out_group,
                    "formats": {name: formats.names() for name, formats in x.formats.items()},
                }
                for x in self.layers
            ],
        }


def _scaled(index: int, of: int, into: int) -> int:
    """Position `index` of a list of `of` entries, moved to the same relative place of a list of `into` entries."""
    return round(index * (into - 1) / max(of - 1, 1))


def levels_from_ratios(channels: int, ratios: Iterable[float], *, multiple_of: int = 1) -> tuple[int, ...]:
    """Channels kept at each keep ratio, rounded up to a multiple, the full count always among them."""
    kept = {channels}
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise ConfigError(f"a keep ratio must be above 0 and at most 1, got {ratio:g}")
        kept.add(min(channels, multiple_of * math.ceil(ratio * channels / multiple_of - 1e-9)))
    return tuple(sorted(kept, reverse=True))


def levels_from_spectrum(
    eigenvalues: Sequence[float], thresholds: Iterable[float], *, multiple_of: int = 1
) -> tuple[int, ...]:
    """Channels kept at each cumulative contribution ratio of a PCA spectrum, rounded up to a multiple.

    eigenvalues : of the channel covariance, one per channel, any order; the full count is always among the levels
    """
    falling = np.sort(np.asarray(eigenvalues, dtype=float))[::-1]
    share = np.cumsum(falling) / falling.sum()
    return levels_from_ratios(
        len(falling),
        [min(len(falling), int(np.searchsorted(share, alpha - 1e-12)) + 1) / len(falling) for alpha in thresholds],
        multiple_of=multiple_of,
    )


def format_options(roles: Mapping[str, Sequence[str]]) -> dict[str, LayerFormats]:
    """Every combination of the formats listed for each role, named by its parts; the first is made of the firsts.

    A role that is left out is float32 if it is `accumulator` or `optimizer_state`, an error otherwise.
    """
    for role, names in roles.items():
        if role not in set(Role):
            raise ConfigError(f"unknown role '{role}'{did_you_mean(role, set(Role))}")
        if not names:
            raise ConfigError(f"role '{role}' has no format; give at least one")
    return {
        "/".join(names): LayerFormats.parse(dict(zip(roles, names, strict=True)))
        for names in itertools.product(*roles.values())
    }


def format_grid(exponent_bits: Iterable[int], mantissa_bits: Iterable[int]) -> dict[str, LayerFormats]:
    """One option per exponent and mantissa width, the same for weight, activation, error and gradient; widest first."""
    grid = [(e, m) for e in sorted(exponent_bits, reverse=True) for m in sorted(mantissa_bits, reverse=True)]
    return {
        f"e{e}m{m}": LayerFormats.parse(dict.fromkeys(("weight", "activation", "error", "gradient"), f"e{e}m{m}"))
        for e, m in grid
    }


def widths(options: Sequence[LayerFormats]) -> list[list[tuple[int, int]]]:
    """(exponent bits, mantissa bits) per option and role; roles in which all options agree are left out."""
    columns = [[getattr(formats, role) for formats in options] for role in Role]
    varied: list[list[FloatFormat]] = [column for column in columns if len(set(column)) > 1]
    distinct = list(dict.fromkeys(tuple(column) for column in varied))  # roles that always move together count once
    return [[(f.exponent_bits, f.mantissa_bits) for f in row] for row in zip(*distinct, strict=True)] or [
        [] for _ in options
    ]
