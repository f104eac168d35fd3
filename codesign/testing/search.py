"""Strategies for the search: small spaces of every structure."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from codesign.design import uniform
from codesign.search import Group, SearchLayer, Space, format_grid

_FORMATS = format_grid((2, 3, 4, 5), (1, 2, 3))


@st.composite
def spaces(draw: Any, *, most_layers: int = 4, most_levels: int = 4, most_options: int = 4) -> Space:
    """Chains, residual sums, depthwise layers, layers without groups: any layer may read and write any group."""
    count = draw(st.integers(1, most_layers))
    names = [f"group{i}" for i in range(draw(st.integers(0, count)))]
    outputs = [
        *names,
        *(draw(st.none() | st.sampled_from(names)) if names else None for _ in range(count - len(names))),
    ]
    outputs = draw(st.permutations(outputs))
    inputs = [draw(st.none() | st.sampled_from(names)) if names else None for _ in range(count)]
    counts = st.lists(st.integers(1, 64), min_size=1, max_size=most_levels, unique=True)
    options = st.lists(st.sampled_from(sorted(_FORMATS)), min_size=1, max_size=most_options, unique=True)
    return Space(
        groups=tuple(Group(name=name, levels=tuple(sorted(draw(counts), reverse=True))) for name in names),
        layers=tuple(
            SearchLayer(
                name=f"layer{i}",
                formats={name: _FORMATS[name] for name in draw(options)},
                in_group=inputs[i],
                out_group=outputs[i],
            )
            for i in range(count)
        ),
        default=uniform("fp32"),
    )
