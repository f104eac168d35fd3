"""Tables of a cost from its differences: exact for sums over layers, and honest about everything else."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import uniform
from codesign.errors import CostError
from codesign.search import Group, SearchLayer, Space
from codesign.search.dp.coupling import loosened, sliced
from codesign.search.dp.solve import MOST_STATES, widest_state
from codesign.search.tables import shape_of, tabulate
from codesign.testing import spaces


def cost_of(space, tables, constant=1.0):
    def cost(point):
        choice = space.choice(point)
        total = constant
        for i, (layer, table) in enumerate(zip(space.layers, tables, strict=True)):
            at = [0 if g is None else choice[space.group_index[g]] for g in (layer.in_group, layer.out_group)]
            total += table[at[0], at[1], choice[len(space.groups) + i]]
        return total

    return cost


def drawn_tables(space, seed):
    rng = np.random.default_rng(seed)
    return [rng.random(shape_of(space, layer)) for layer in space.layers]


@settings(max_examples=60)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_differences_give_every_design_its_cost(space, seed):
    cost = cost_of(space, drawn_tables(space, seed))
    tables = tabulate(space, cost)
    assert tables.worst_error == 0
    choices = list(itertools.islice(itertools.product(*map(range, space.sizes)), 300))
    expected = [cost(space.point(choice)) for choice in choices]
    np.testing.assert_allclose(tables.of_all(space, choices), expected, rtol=1e-12)


def test_tables_that_are_handed_over_are_used_with_the_constant_that_is_missing():
    space = chain(2)
    tables = drawn_tables(space, 0)
    by_name = {layer.name: table for layer, table in zip(space.layers, tables, strict=True)}
    found = tabulate(space, cost_of(space, tables, constant=5.0), lambda layer: by_name[layer.name])
    assert found.constant == pytest.approx(5.0)
    assert found.worst_error == 0


def test_a_coupling_that_no_table_can_hold_is_measured():
    space = chain(2)
    tables = drawn_tables(space, 0)
    plain = cost_of(space, tables)
    narrow = dict(space.layers[0].formats)["e4m3"]
    # Designs with both layers in e4m3 cost a fifth more than their layers do; no table of one layer can say that.
    found = tabulate(space, lambda p: plain(p) * (1.2 if all(f == narrow for _, f in p.formats) else 1.0))
    assert 0.05 < found.worst_error < 0.3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((1, 2, 3)), r"layer 'a': its table must have shape \(1, 2, 2\) .* got \(1, 2, 3\)"),
        (np.full((1, 2, 2), np.inf), "layer 'a': its table holds values that are not finite"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, message):
    space = Space(layers=chain(1).layers, groups=chain(1).groups, default=uniform("fp32"))
    with pytest.raises(CostError, match=message):
        tabulate(space, lambda point: 1.0, lambda layer: table)


def chain(groups, levels=2):
    formats = {"bf16": uniform("bf16"), "e4m3": uniform("e4m3")}
    names = "abcdefghij"[:groups]
    return Space(
        layers=tuple(
            SearchLayer(name=n, formats=formats, in_group=names[i - 1] if i else None, out_group=n)
            for i, n in enumerate(names)
        ),
        groups=tuple(Group(name=n, levels=tuple(range(levels, 0, -1))) for n in names),
        default=uniform("fp32"),
    )


def test_a_chain_keeps_all_of_its_couplings():
    space = chain(8, levels=8)
    loose, cut = loosened(space)
    assert (loose.layers, cut) == (space.layers, ())


def test_groups_that_stay_open_too_long_lose_couplings_and_the_layers_are_named():
    # Every late layer reads an early group: eight groups of eight levels would be open at once, 8^8 joint levels.
    space = chain(8, levels=8)
    late = tuple(SearchLayer(name=f"late_{n}", formats=space.layers[0].formats, in_group=n) for n in "abcdefgh")
    space = replace(space, layers=tuple(replace(x, in_group=None) for x in space.layers) + late)
    loose, cut = loosened(space)
    assert cut
    assert all(name.startswith("late_") for name in cut)
    uses = [[loose.group_index[n] for n in (x.in_group, x.out_group) if n is not None] for x in loose.layers]
    assert widest_state(uses, [8] * 8)[0] <= MOST_STATES
    tables = tabulate(space, cost_of(space, drawn_tables(space, 0)))
    trimmed = sliced(space, loose, tables)
    for layer, table in zip(loose.layers, trimmed.layers, strict=True):
        assert table.shape == shape_of(loose, layer)
