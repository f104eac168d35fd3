"""Covariance and channel counts: properties against numpy's two-pass covariance, and counts worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from codesign.errors import DataError, ModelError
from codesign.prune import (
    BatchNormMode,
    Spectrum,
    StreamingCovariance,
    StructureConfig,
    Tap,
    channel_groups,
    components,
    counts_from_spectra,
    layer_spectra,
    noise_batches,
    pca_channel_counts,
    plan_from_counts,
    prune,
)
from codesign.prune.features import moments
from tests.prune import networks

observations = st.tuples(st.integers(1, 40), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1e3, 1e3))
)


@given(observations, st.floats(-1e5, 1e5), st.lists(st.integers(0, 40), max_size=4), st.randoms())
def test_batches_and_workers_in_any_order_give_the_covariance_of_all_observations(x, offset, cuts, random):
    x = x + offset
    batches = np.split(x, sorted({cut for cut in cuts if cut < len(x)}))
    random.shuffle(batches)
    workers = [StreamingCovariance(x.shape[1]) for _ in range(2)]
    for batch in batches:
        random.choice(workers).observe(batch)
    workers[0].merge(workers[1])
    expected = np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], x.shape[1])
    assert workers[0].count == len(x)
    np.testing.assert_allclose(workers[0].mean, x.mean(0), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(workers[0].covariance(), expected, rtol=1e-6, atol=1e-4)


def test_a_large_mean_does_not_drown_a_small_variance():
    """Summing squares in float32 would leave nothing of a variance of 1 beside a mean of 1e4."""
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(20_000, 4, generator=generator, dtype=torch.float64)
        @ torch.diag(torch.tensor([1.0, 2, 3, 4.0])).double()
    )
    stored = (x + 1e4).float()
    count, mean, scatter = moments(stored)
    exact = stored.double().numpy()
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-9)
    np.testing.assert_allclose(scatter / count, np.cov(exact, rowvar=False, bias=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("variances", "alpha", "expected"),
    [
        ([6, 3, 1], 0.5, 1),  # 6 of 10 is enough
        ([6, 3, 1], 0.6, 1),  # exactly enough
        ([6, 3, 1], 0.61, 2),
        ([6, 3, 1], 0.9, 2),
        ([6, 3, 1], 0.91, 3),
        ([6, 3, 0, 0], 1.0, 2),
        ([0, 0], 0.99, 0),
    ],
)
def test_components_by_hand(variances, alpha, expected):
    assert components(np.array(variances, float), alpha) == expected


@given(
    arrays(np.float64, st.integers(1, 30), elements=st.floats(1e-3, 1e3)), st.floats(0.01, 1.0), st.floats(0.01, 1.0)
)
def test_the_count_is_the_smallest_that_holds_alpha_and_never_falls_with_it(variances, one, other):
    variances = np.sort(variances)[::-1]
    low, high = (components(variances, alpha) for alpha in sorted((one, other)))
    assert 1 <= low <= high <= len(variances)
    held = np.cumsum(variances) / variances.sum()
    assert held[low - 1] >= min(one, other) - 1e-9
    assert low == 1 or held[low - 2] < min(one, other) + 1e-9


class Plain(nn.Module):
    """A convolution of 6 channels that repeat 2 signals and their sum, so that 3 signals of rank 2 are to be found."""

    def __init__(self, activation: bool) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 6, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.activation = nn.ReLU(inplace=True) if activation else nn.Identity()
        self.head = nn.Conv2d(6, 2, 1)
        with torch.no_grad():
            rows = torch.tensor([[1, 0], [0, 1], [1, 1], [1, -1], [2, 0], [0, 3.0]])
            self.mix.weight.copy_(rows[:, :, None, None])

    def forward(self, x):
        return self.head(self.activation(self.norm(self.mix(x))))


def counts(model, **settings):
    batches = noise_batches((2, 8, 8), 200, torch.Generator().manual_seed(0), batch=50)
    config = StructureConfig(**({"alpha": 1 - 1e-6, "floor": 1} | settings))
    return pca_channel_counts(model, batches, config).counts


def test_the_count_before_the_activation_is_the_rank():
    assert counts(Plain(True), tap=Tap.BEFORE_ACTIVATION) == {"mix": 2}
    assert counts(Plain(False), tap=Tap.AFTER_ACTIVATION) == {"mix": 2}


def test_the_activation_raises_the_rank():
    """relu of a, b, a+b, a-b are four independent signals; those of 2a and 3b add nothing."""
    assert counts(Plain(True), tap=Tap.AFTER_ACTIVATION) == {"mix": 4}


def test_batch_statistics_are_used_and_nothing_is_left_behind():
    model = Plain(True).train()
    with torch.no_grad():
        model.norm.running_mean.fill_(100.0)  # in evaluation mode every relu is dead
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match="its feature map does not vary"):
        counts(model)
    assert counts(model, batch_norm=BatchNormMode.BATCH) == {"mix": 4}
    assert model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_floor_and_what_decided_are_told():
    model = Plain(True)
    batches = [torch.randn(200, 2, 8, 8)]
    found = pca_channel_counts(model, batches, StructureConfig(tap=Tap.BEFORE_ACTIVATION, alpha=0.999, floor=5))
    (layer,) = found.layers
    assert (layer.components, layer.count, layer.bound, layer.observations) == (2, 5, "floor", 12_800)
    assert layer.halves == (2, 2)
    assert "floor=5" in str(found)
    assert pca_channel_counts(model, batches, StructureConfig(floor=99)).counts == {"mix": 6}


def test_tied_layers_share_the_largest_count_and_units_are_whole():
    torch.manual_seed(0)
    model = networks.ResNet(networks.ResNeXtBlock, (2,), width=8, classes=4)
    found = pca_channel_counts(model, [torch.randn(64, 3, 32, 32)], StructureConfig(alpha=0.9, floor=1))
    by_name = {layer.layer: layer for layer in found.layers}
    groups = channel_groups(model, torch.randn(1, 3, 32, 32))
    for group in groups.groups:
        if group.units:
            kept = {by_name[name].count // unit for name, unit in zip(group.layers, group.unit_channels, strict=True)}
            assert len(kept) == 1
            need = [
                -(-by_name[n].components // unit) for n, unit in zip(group.layers, group.unit_channels, strict=True)
            ]
            assert kept == {max(need)}
    assert {layer.bound for layer in found.layers} >= {"tied", "unit"}
    plan = plan_from_counts(model, groups, found.counts)
    assert sum(p.numel() for p in prune(model, plan).parameters()) == plan.parameters


def spectrum_of(components: int, channels: int) -> Spectrum:
    variances = np.r_[np.ones(components), np.zeros(channels - components)]
    return Spectrum(variances=variances, halves=(variances, variances), observations=10**6)


def aligned(wanted: int, cost=None, align=None, **settings) -> int:
    model = nn.Sequential(nn.Conv2d(3, 128, 1), nn.ReLU(), nn.Conv2d(128, 2, 1))
    groups = channel_groups(model, torch.randn(1, 3, 2, 2))
    config = StructureConfig(alpha=1.0, floor=1, **settings)
    return counts_from_spectra(groups, {"0": spectrum_of(wanted, 128)}, config, cost=cost, align=align).counts["0"]


def array_of_16(layer: str, count: int) -> float:
    return -(-count // 16) * 1e-6


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (60, 64),  # the last columns of the array are free
        (49, 48),  # one channel of 49 for a quarter of the time
        (64, 64),
        (52, 64),  # 48 would lose 4/52 = 7.7 %, worth 31 % at 4 to 1, and save 25 %; 64 is free
        (33, 32),
        (127, 128),
    ],
)
def test_counts_go_where_the_array_is_full(wanted, expected):
    assert aligned(wanted, array_of_16) == expected


def test_counts_stay_where_time_is_proportional_to_channels():
    for wanted in (17, 60, 100):
        assert aligned(wanted, lambda layer, count: 1e-6 * count) == wanted
        assert aligned(wanted, lambda layer, count: 1e-6 * (50 + count)) == wanted


def test_alignment_by_a_function():
    assert aligned(60, align=lambda layer, count: count // 16 * 16) == 48
    with pytest.raises(ModelError, match="align asks for 160 channels, but at most 128"):
        aligned(60, align=lambda layer, count: 160)
    with pytest.raises(ModelError, match="give cost or align"):
        aligned(60, array_of_16, lambda layer, count: count)
    with pytest.raises(ModelError, match="cost must be positive"):
        aligned(60, lambda layer, count: 0.0)


def test_spectra_serve_for_many_alphas_and_follow_the_data_not_its_order():
    torch.manual_seed(0)
    model = networks.vgg((16, "M", 24, "M", "M"), classes=4)
    groups = channel_groups(model, torch.randn(1, 3, 8, 8))
    images = torch.randn(80, 3, 8, 8)
    config = StructureConfig(floor=1)
    one = layer_spectra(model, [images], config, ["0", "4"])
    many = layer_spectra(model, images.flip(0).split(7), config, ["0", "4"])
    for layer in one:
        np.testing.assert_allclose(one[layer].variances, many[layer].variances, rtol=1e-3, atol=1e-6)
        assert one[layer].observations == many[layer].observations == 80 * (64 if layer == "0" else 16)
    found = [
        counts_from_spectra(groups, one, StructureConfig(floor=1, alpha=alpha)).counts for alpha in (0.5, 0.9, 0.999)
    ]
    assert found[0]["0"] < found[1]["0"] <= found[2]["0"]


def test_too_few_observations_are_refused_before_any_eigenvalue_is_computed(monkeypatch):
    def too_early(self):
        raise AssertionError("eigenvalues of a covariance that is refused")

    monkeypatch.setattr(StreamingCovariance, "variances", too_early)
    model = networks.vgg((16, "M", 24, "M", "M"), classes=4)
    with pytest.raises(DataError, match="too few for 24 channels"):
        pca_channel_counts(model, [torch.randn(4, 3, 8, 8)], StructureConfig())


def test_images_of_infinity_are_refused_by_the_stream():
    with pytest.raises(DataError, match="infinite or undefined"):
        StreamingCovariance(2).observe(np.array([[1.0, np.inf]]))
