"""Known networks cut to given counts: exact widths, exact sizes, the same answer, trainable, and back from a file.

The oracle of parameters and of multiply-accumulates is the smaller network itself, counted by torch.
"""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from codesign.prune import (
    channel_groups,
    load_pruned,
    plan_from_counts,
    prune,
    rebuild,
    save_pruned,
    structure_of,
)
from tests.prune import networks
from tests.prune.cutting import dead, scramble, share
from tests.prune.pieces import ConvTransposeUNet, GatedShuffle, Generator, Tokens, TorchTransformer, Windows

SMALL = {
    "vgg16": (partial(networks.vgg, width=0.125), 32),
    "resnet18": (partial(networks.resnet18, width=8, classes=10), 32),
    "resnet50": (partial(networks.resnet50, width=8, classes=10), 32),
    "resnext": (partial(networks.resnext, width=16, classes=10), 32),
    "mobilenet_v2": (partial(networks.mobilenet_v2, rows=((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 2, 1)), classes=10), 32),
    "densenet": (partial(networks.densenet, depths=(3, 3), growth=8, classes=10), 32),
    "vit": (partial(networks.ViT, image=32, patch=8, width=48, depth=2, heads=4, classes=10), 32),
    "vit, as many heads as channels": (partial(networks.ViT, image=32, patch=8, width=64, depth=2, heads=8), 32),
    "torch transformer": (TorchTransformer, 32),
    "u-net": (ConvTransposeUNet, 32),
    "shuffle and gates": (GatedShuffle, 32),
    "windows": (Windows, 32),
    "generator": (Generator, 32),
}


@pytest.fixture(params=SMALL, scope="module")
def case(request):
    make, size = SMALL[request.param]
    model = scramble(make())
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    groups = channel_groups(model, image[:1])
    return make, model, image, groups


def test_counts_are_exact_and_the_plan_predicts_the_size(case):
    _, model, image, groups = case
    counts = share(groups, 0.6)
    assert counts
    plan = plan_from_counts(model, groups, counts)
    smaller = prune(model, plan)
    assert {layer: plan.counts[layer] for layer in counts} == counts
    assert sum(p.numel() for p in smaller.parameters()) == plan.parameters < groups.parameters()
    for network, macs in ((model, groups.macs()), (smaller, plan.macs)):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it skips the fused kernel
            network(image[:1])
        assert counter.get_total_flops() == 2 * macs


def test_what_is_removed_was_dead(case):
    _, model, image, groups = case
    plan = plan_from_counts(model, groups, share(groups, 0.6, exact_only=True))
    expected = dead(model, plan)(image)
    assert not torch.allclose(expected, model(image))
    torch.testing.assert_close(prune(model, plan)(image), expected, rtol=1e-4, atol=1e-4)


def test_forward_and_backward_work_after_each_of_two_cuts(case):
    _, model, image, groups = case
    once = prune(model, plan_from_counts(model, groups, share(groups, 0.7)))
    again = channel_groups(once, image[:1])
    twice = prune(once, plan_from_counts(once, again, share(again, 0.5)))
    for network in (once, twice):
        network.train()
        network(image).sum().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in network.parameters())


def test_a_pruned_network_comes_back_from_its_dense_definition(case, tmp_path):
    make, model, image, groups = case
    smaller = prune(model, plan_from_counts(model, groups, share(groups, 0.6)))
    save_pruned(smaller, tmp_path)
    again = load_pruned(make(), tmp_path).eval()
    assert torch.equal(again(image), smaller(image))
    blank = rebuild(make(), structure_of(smaller))
    blank.load_state_dict(smaller.state_dict())
    assert torch.equal(blank.eval()(image), smaller(image))
    assert str(again) == str(smaller)


def test_modules_print_and_hold_the_sizes_that_they_have(case):
    _, model, _, groups = case
    smaller = prune(model, plan_from_counts(model, groups, share(groups, 0.6)))
    for module in smaller.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.shape == (module.num_features,)


def test_a_language_model_with_grouped_queries_loses_heads_and_hidden_channels():
    model, words = scramble(Tokens()), torch.randint(0, 50, (2, 16))
    groups = channel_groups(model, words)
    assert groups.group_of("query").layers == ("query", "key", "value")
    assert groups.group_of("query").unit_channels == (16, 8, 8)  # one head of keys serves two of queries
    assert "norm1" in groups.group_of("proj").approximate
    assert "rows of an embedding" in groups.group_of("words").why_fixed
    plan = plan_from_counts(model, groups, {"query": 16, "up": 20})
    smaller = prune(model, plan)
    assert (smaller.heads, smaller.shared) == (2, 1)
    assert smaller.head.weight is smaller.words.weight
    torch.testing.assert_close(smaller(words), dead(model, plan)(words), rtol=1e-4, atol=1e-4)
    assert prune(model, plan_from_counts(model, groups, {"proj": 24}))(words).shape == (2, 16, 50)


def test_spectral_norm_is_followed():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 2))
    for i in (0, 2):
        nn.utils.parametrizations.spectral_norm(model[i])
    image = torch.randn(1, 3, 8, 8)
    groups = channel_groups(model, image)
    smaller = prune(model, plan_from_counts(model, groups, {"0": 5, "2": 4}))
    assert smaller[2].weight.shape == (4, 5, 3, 3)
    smaller.train()(image).sum().backward()
