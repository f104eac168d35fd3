"""Properties: on random networks and random cuts, removing channels is the same as setting them to zero."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codesign.prune import channel_groups, plan_from_indices, prune
from codesign.testing import cuts, prunable_networks
from codesign.testing.prune import Block

SETTINGS = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def image(seed: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(-3, 4, (batch, 3, 4, 4), generator=torch.Generator().manual_seed(seed)).double()


def masked(network, plan):
    """The dense network with the output of every cut channel's block set to zero: knows nothing of tracing."""
    network = copy.deepcopy(network)
    kept = dict(plan.keep)
    for name, module in network.named_modules():
        if isinstance(module, Block) and f"{name}.convolution" in kept:
            stays = torch.zeros(module.convolution.out_channels, dtype=torch.float64)
            stays[list(kept[f"{name}.convolution"])] = 1
            module.register_forward_hook(lambda _m, _x, y, stays=stays: y * stays[:, None, None])
    return network


@pytest.mark.exact_products("whole numbers far below 2^53")
@SETTINGS
@given(st.data())
def test_removed_channels_are_dead_channels_bit_by_bit(data):
    network = data.draw(prunable_networks())
    groups = channel_groups(network, image(0, 1))
    plan = data.draw(cuts(groups))
    smaller = prune(network, plan)
    x = image(data.draw(st.integers(0, 9)))
    assert torch.equal(smaller(x), masked(network, plan)(x))
    assert sum(p.numel() for p in smaller.parameters()) == plan.parameters
    for layer, count in plan.counts.items():
        module = smaller.get_submodule(layer)
        assert getattr(module, "out_channels", getattr(module, "out_features", None)) == count


@SETTINGS
@given(st.data())
def test_what_is_left_can_be_trained(data):
    network = data.draw(prunable_networks())
    smaller = prune(network, data.draw(cuts(channel_groups(network, image(0, 1)))))
    for trained in (network, smaller):
        trained.train()
        trained(image(1)).sum().backward()
    for (name, whole), part in zip(network.named_parameters(), smaller.parameters(), strict=True):
        assert (whole.grad is None) == (part.grad is None), name  # None: nothing reads that map
        assert part.grad is None or part.grad.shape == part.shape


@SETTINGS
@given(prunable_networks())
def test_pruning_nothing_changes_nothing(network):
    same = prune(network, plan_from_indices(channel_groups(network, image(0, 1)), {}))
    assert same is not network
    x = image(1)
    assert torch.equal(same(x), network(x))
    for (name, one), other in zip(network.state_dict().items(), same.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
