"""Importance, masks at initialization and controls: oracles are autograd by hand, brute force, and the cut itself."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from codesign.errors import ConfigError, DataError, ModelError
from codesign.prune import (
    apply_masks,
    batch_norm_importance,
    channel_groups,
    grasp_masks,
    l1_importance,
    l2_importance,
    magnitude_masks,
    plan_from_counts,
    prune,
    random_importance,
    random_masks,
    reinitialized,
    snip_masks,
    synflow_masks,
    taylor_importance,
    uniform_counts,
)
from tests.prune import networks
from tests.prune.cutting import scramble

IMAGE = torch.randn(1, 3, 8, 8)


def vgg():
    return scramble(networks.vgg((8, "M", 12, "M", 16, "M"), classes=4))


def batches(count=2, images=6):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(images, 3, 8, 8, generator=generator), torch.randint(0, 4, (images,), generator=generator))
        for _ in range(count)
    ]


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def test_norms_of_filters_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 2, (1, 2)), nn.ConvTranspose2d(2, 4, 1, groups=2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[3.0, -4]]], [[[1, 0]]]]))
        model[1].weight.copy_(torch.tensor([[[[1.0]], [[-2]]], [[[3.0]], [[-4]]]]))  # [in 2, out per group 2]
    assert l1_importance(model)["0"].tolist() == [7, 1]
    assert l2_importance(model)["0"].tolist() == [5, 1]
    assert l1_importance(model)["1"].tolist() == [1, 2, 3, 4]


def test_the_largest_l1_norm_stays():
    model = vgg()
    plan = plan_from_counts(model, channel_groups(model, IMAGE), {"4": 5})
    norms = model[4].weight.abs().sum((1, 2, 3))
    assert dict(plan.keep)["4"] == tuple(sorted(norms.topk(5).indices.tolist()))


def test_tied_layers_are_ranked_together_and_no_layer_outweighs_the_others():
    model = networks.ResNet(networks.Basic, (1,), width=4, classes=2)
    groups = channel_groups(model, torch.randn(1, 3, 16, 16))
    scores = {"stem.0": torch.tensor([100.0, 200, 300, 400]), "blocks.0.two.0": torch.tensor([0.5, 0.2, 0.2, 0.1])}
    # scaled to a mean of 1: .4 .8 1.2 1.6 and 2 .8 .8 .4, together 2.4 1.6 2.0 2.0
    assert dict(plan_from_counts(model, groups, {"stem.0": 3}, scores).keep)["stem.0"] == (0, 2, 3)
    assert dict(plan_from_counts(model, groups, {"stem.0": 2}, scores).keep)["stem.0"] == (0, 2)  # a tie: the earlier


def test_random_ranking_follows_its_generator():
    model = vgg()
    one, same, other = (random_importance(model, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one["4"], same["4"])
    assert not torch.equal(one["4"], other["4"])


def test_batch_norm_scale():
    model = vgg()
    groups = channel_groups(model, IMAGE)
    scores = batch_norm_importance(model, groups)
    assert set(scores) == {"0", "4", "8"}
    torch.testing.assert_close(scores["4"].float(), model[5].weight.abs())
    bare = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    with pytest.raises(ModelError, match="no layer is followed by a batch norm"):
        batch_norm_importance(bare, channel_groups(bare, IMAGE))


def test_taylor_is_the_first_order_change_of_the_loss_and_leaves_no_trace():
    model = vgg().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores = taylor_importance(model, batches(), loss)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    expected = torch.zeros(12)
    for batch in batches():
        model.zero_grad()
        loss(model, batch).backward()
        expected += (model[4].weight * model[4].weight.grad).sum((1, 2, 3)).square() / 2
    torch.testing.assert_close(scores["4"].float(), expected)


def test_rankings_by_gradient_refuse_what_has_none():
    model = vgg()
    model[4].weight.requires_grad_(False)
    with pytest.raises(ModelError, match="layer '4': its weight is frozen"):
        taylor_importance(model, batches(), loss)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(ModelError, match="'1': its weight takes no part in the loss"):
        taylor_importance(model, [torch.randn(2, 4)], lambda m, x: m[0](x).sum())
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(ModelError, match="'0': its weight is computed from other parameters"):
        taylor_importance(model, [torch.randn(2, 4)], lambda m, x: m(x).sum())
    with pytest.raises(DataError, match="batches is empty"):
        taylor_importance(vgg(), [], loss)


def share(masks):
    return sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


METHODS = {
    "random": lambda model, keep: random_masks(model, keep, torch.Generator().manual_seed(0)),
    "magnitude": magnitude_masks,
    "snip": lambda model, keep: snip_masks(model, batches(), loss, keep),
    "grasp": lambda model, keep: grasp_masks(model, batches(), loss, keep),
    "synflow": lambda model, keep: synflow_masks(model, (3, 8, 8), keep, rounds=10),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_mask_keeps_exactly_its_share_and_leaves_the_network_alone(method):
    model = vgg().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks = method(model, 0.1)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert set(masks) == {"0.weight", "4.weight", "8.weight", "13.weight"}
    total = sum(mask.numel() for mask in masks.values())
    assert share(masks) == round(0.1 * total) / total
    with pytest.raises(ConfigError, match="keep must be above 0 and at most 1"):
        method(model, 0.0)


def test_snip_ranks_by_the_change_of_the_loss():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2], [3, 4]]))
    x = torch.tensor([[1.0, 10.0]])
    # loss = sum of outputs: dL/dw = x; |w x| = [1, 20], [3, 40]
    assert snip_masks(model, [x], lambda m, x: m(x).sum(), 0.5)["0.weight"].tolist() == [[False, True], [False, True]]


def test_grasp_ranks_by_weight_times_hessian_times_gradient():
    """Oracle: the Hessian of a small network in full."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False)).double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1])

    def flat_loss(w):
        h = torch.tanh(x @ w[:9].reshape(3, 3).T)
        return F.cross_entropy(h @ w[9:].reshape(2, 3).T, y)

    w = torch.cat([p.detach().flatten() for p in model.parameters()])
    gradient = torch.autograd.functional.jacobian(flat_loss, w)
    scores = w * (torch.autograd.functional.hessian(flat_loss, w) @ gradient)
    masks = grasp_masks(model, [(x, y)], loss, 0.4)
    got = torch.cat([masks["0.weight"].flatten(), masks["2.weight"].flatten()])
    assert set(got.nonzero().flatten().tolist()) == set(scores.topk(6).indices.tolist())


def test_synflow_scores_paths_through_absolute_weights():
    """Oracle: the sum over all paths through a small linear network, one round."""
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).double()
    one, two = (model[i].weight.detach().abs() for i in (0, 2))
    first, second = torch.zeros(3, 2, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for into, middle, out in itertools.product(range(2), range(3), range(2)):
        path = one[middle, into] * two[out, middle]
        first[middle, into] += path
        second[out, middle] += path
    order = torch.cat([first.flatten(), second.flatten()]).topk(5).indices
    masks = synflow_masks(model, (2,), 5 / 12, rounds=1)
    got = torch.cat([masks["0.weight"].flatten(), masks["2.weight"].flatten()])
    assert set(got.nonzero().flatten().tolist()) == set(order.tolist())


def test_synflow_in_rounds_leaves_no_layer_without_weights():
    """Layer collapse, which ranking once by magnitude runs into (Tanaka et al. 2020, figure 1)."""
    model = networks.vgg((4, 64, 64, 4, "M", "M", "M"), classes=4)
    keep = 0.004
    collapsed = [name for name, mask in magnitude_masks(model, keep).items() if not mask.any()]
    assert collapsed
    assert all(mask.any() for mask in synflow_masks(model, (3, 8, 8), keep).values())


def test_masked_weights_stay_zero_in_training():
    model = vgg().train()
    masks = snip_masks(model, batches(), loss, 0.2)
    handles = apply_masks(model, masks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for batch in batches(4):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    for name, mask in masks.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
        assert (model.get_parameter(name)[mask] != 0).any()
    for handle in handles:
        handle.remove()
    optimizer.zero_grad()
    loss(model, batches()[0]).backward()
    assert (model[4].weight.grad[~masks["4.weight"]] != 0).any()


def test_masks_that_cannot_be():
    model = vgg()
    with pytest.raises(ModelError, match=r"no parameter '4\.wight'; did you mean '4\.weight'"):
        apply_masks(model, {"4.wight": torch.ones(1)})
    with pytest.raises(ModelError, match=r"mask '4\.weight' has shape \[1\]"):
        apply_masks(model, {"4.weight": torch.ones(1)})
    model[4].weight.requires_grad_(False)
    with pytest.raises(ModelError, match=r"parameter '4\.weight' is frozen"):
        apply_masks(model, magnitude_masks(model, 0.5))


@pytest.mark.parametrize("make", [vgg, lambda: networks.resnet18(width=8, classes=10)])
def test_uniform_widths_come_close_to_their_target(make):
    model = make()
    groups = channel_groups(model, torch.randn(1, 3, 32, 32) if isinstance(model, networks.ResNet) else IMAGE)
    for target in (0.3, 0.6):
        goal = int(groups.parameters() * target)
        plan = plan_from_counts(model, groups, uniform_counts(groups, parameters=goal))
        assert abs(plan.parameters / goal - 1) < 0.2
        assert sum(p.numel() for p in prune(model, plan).parameters()) == plan.parameters
        ratios = [count / groups.width(layer) for layer, count in plan.counts.items() if layer in groups.channels]
        assert max(ratios) - min(ratios) < 0.2
        macs = int(groups.macs() * target)
        assert abs(plan_from_counts(model, groups, uniform_counts(groups, macs=macs)).macs / macs - 1) < 0.25
    only = uniform_counts(groups, parameters=groups.parameters() - 50, layers=[next(iter(groups.channels))])
    assert list(only) == [next(iter(groups.channels))]
    with pytest.raises(ModelError, match="a uniform width reaches"):
        uniform_counts(groups, parameters=1)
    with pytest.raises(ModelError, match="needs one target"):
        uniform_counts(groups)


def test_the_same_structure_from_scratch():
    model = vgg()
    smaller = prune(model, plan_from_counts(model, channel_groups(model, IMAGE), {"4": 5}))
    fresh = reinitialized(smaller)
    assert fresh[4].weight.shape == smaller[4].weight.shape
    assert not torch.equal(fresh[4].weight, smaller[4].weight)
    assert torch.equal(fresh[5].running_mean, torch.zeros(5))
    with pytest.raises(ModelError, match=r"module '' \(ViT\) has no reset_parameters"):
        reinitialized(networks.ViT(image=16, patch=8, width=16, depth=1, heads=2, classes=2))
