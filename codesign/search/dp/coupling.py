"""Couplings between channel groups that the dynamic program cannot hold at once are cut, and named."""

from __future__ import annotations

from dataclasses import replace

from codesign.search.dp.solve import MOST_STATES, widest_state
from codesign.search.space import Space
from codesign.search.tables import CostTables


def loosened(space: Space) -> tuple[Space, tuple[str, ...]]:
    """The space with as many input couplings cut as the dynamic program needs, and the layers that lost theirs.

    A coupling is cut where the joint levels of open groups would exceed `MOST_STATES`: the layer that holds a group
    open the longest is then priced as if its input had the densest level.
    """
    layers = list(space.layers)
    cut: list[str] = []
    levels = [len(g.levels) for g in space.groups]
    while True:
        uses = [sorted({space.group_index[n] for n in (x.in_group, x.out_group) if n is not None}) for x in layers]
        widest, where = widest_state(uses, levels)
        if widest <= MOST_STATES:
            return replace(space, layers=tuple(layers)), tuple(cut)
        last = max(
            t
            for t, x in enumerate(layers)
            if x.in_group is not None
            and x.in_group != x.out_group
            and any(space.group_index[x.in_group] in uses[s] for s in range(where + 1))
        )
        cut.append(layers[last].name)
        layers[last] = replace(layers[last], in_group=None)


def sliced(space: Space, loose: Space, tables: CostTables) -> CostTables:
    """Tables for a space of which some input couplings are cut: those layers have the densest input."""
    pairs = zip(space.layers, loose.layers, tables.layers, strict=True)
    layers = tuple(t if a.in_group == b.in_group else t[:1] for a, b, t in pairs)
    return replace(tables, layers=layers)
