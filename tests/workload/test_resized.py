"""Properties: a workload resized to a cut is the workload of the network that is cut, and prune counts the same."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign import Workload
from codesign.errors import ModelError
from codesign.prune import channel_groups, prune
from codesign.testing import cuts, prunable_networks
from tests.workload.frozen import numbers

SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
IMAGE = torch.zeros(1, 3, 4, 4, dtype=torch.float64)


def classes_of(groups, group):
    """The classes of a group: those that its layers hold as often as it says, and no other layer holds."""
    held = {layer: groups.classes_of(layer).tolist() for layer in groups.layers}
    wanted = dict(zip(group.layers, group.unit_channels, strict=True))
    return {c for c in held[group.layers[0]] if all(held[name].count(c) == wanted.get(name, 0) for name in held)}


def counts_of(workload: Workload, groups, plan) -> dict[str, int]:
    """Channels left of each group of the workload, counted in its first layer."""
    left = {group.name: group.channels for group in workload.groups}
    for group in groups.groups:
        if group.units:
            left[group.name] = len(classes_of(groups, group) - plan.removed) * group.unit
    return left


def free(groups, known):
    """The groups that can lose channels; a layer that runs twice has one name in `known`."""
    return sorted(
        [(layer, unit) for layer, unit in zip(group.layers, group.unit_channels, strict=True) if layer in known]
        + [("units", group.units)]
        for group in groups
        if group.units
    )


def sizes(layer):
    """All numbers of a layer. The owner is left out: work on several tensors belongs to a layer whose channels can still
    leave, and a cut to one channel leaves none that can."""
    return {key: value for key, value in numbers(layer).items() if key != "owner"}


@SETTINGS
@given(st.data())
def test_a_resized_workload_is_the_workload_of_the_cut_network(data):
    network = data.draw(prunable_networks())
    groups = channel_groups(network, IMAGE)
    plan = data.draw(cuts(groups))
    try:
        workload = Workload.from_torch(network, IMAGE)
    except ModelError as error:
        assert "took no part" in str(error) or "no convolution" in str(error)
        return
    assert free(groups.groups, groups.layers) == free(workload.groups, groups.layers)
    resized = workload.resized(counts_of(workload, groups, plan))
    cut = Workload.from_torch(prune(network, plan), IMAGE)
    assert [sizes(layer) for layer in resized.layers] == [sizes(layer) for layer in cut.layers]
    assert resized.macs == cut.macs == groups.macs(plan.removed)
    assert resized.parameters == cut.parameters == groups.parameters(plan.removed)
