"""Transforms of a pipeline: values, seeded by torch, safe in workers, made from configuration tables."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from codesign.errors import ConfigError
from codesign.preprocess import (
    BilateralFilter,
    BoxBlur,
    GaussianBlur,
    GuidedFilter,
    box_blur,
    gaussian_blur,
    transform_from_config,
)

BATCH = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 3, 20, 24), dtype=np.uint8))


@pytest.mark.parametrize(
    "transform",
    [
        GaussianBlur(p=1.0),
        GaussianBlur(per_sample=False),
        BoxBlur(2),
        BilateralFilter(1.0, 20.0),
        GuidedFilter(2, 90.0),
    ],
)
def test_a_transform_is_a_picklable_value(transform):
    copy = pickle.loads(pickle.dumps(transform))
    assert copy == transform
    torch.manual_seed(1)
    first = transform(BATCH)
    torch.manual_seed(1)
    assert torch.equal(copy(BATCH), first)
    assert first.shape == BATCH.shape
    assert first.dtype == BATCH.dtype


def test_each_sample_is_drawn_for_itself():
    torch.manual_seed(0)
    result = GaussianBlur(p=0.5)(BATCH)
    kept = [bool(torch.equal(a, b)) for a, b in zip(result, BATCH, strict=True)]
    assert 0 < sum(kept) < len(kept)
    torch.manual_seed(4)
    chances, places = torch.rand(8, dtype=torch.float64), torch.rand(8, dtype=torch.float64)
    assert (chances < 1).all()
    torch.manual_seed(4)
    expected = gaussian_blur(BATCH, 0.1 + 1.9 * places)
    assert torch.equal(GaussianBlur(p=1.0)(BATCH), expected)


def test_never_and_always():
    assert GaussianBlur(p=0.0, per_sample=False)(BATCH) is BATCH
    assert torch.equal(GaussianBlur(p=0.0)(BATCH), BATCH)
    assert BoxBlur(2, p=0.0)(BATCH) is BATCH
    assert torch.equal(BoxBlur(2)(BATCH), box_blur(BATCH, 2))
    assert torch.equal(GaussianBlur(1.5, p=1.0)(BATCH[0]), gaussian_blur(BATCH[0], 1.5))


class Images(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.transform(BATCH[index])


def test_forked_workers_filter_and_follow_the_seed():
    BilateralFilter(1.0, 20.0)(BATCH)  # the parent has filtered before it forks

    def epoch():
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(
            Images(GaussianBlur()),
            batch_size=4,
            num_workers=2,
            generator=generator,
            multiprocessing_context="fork",
            timeout=60,
        )
        return torch.cat(list(loader))

    first = epoch()
    assert torch.equal(first, epoch())
    assert not torch.equal(first, BATCH)


def test_transforms_come_from_tables():
    table = {"name": "gaussian_blur", "sigma": [0.1, 2.0], "p": 0.5}
    assert transform_from_config(table) == GaussianBlur(sigma=(0.1, 2.0), p=0.5)
    assert transform_from_config({"name": "box_blur", "radius": 3}) == BoxBlur(3)
    bilateral = {"name": "bilateral_filter", "sigma_space": 2, "sigma_range": 25.0, "distance": "l2", "exact": False}
    assert transform_from_config(bilateral) == BilateralFilter(2, 25.0, "l2", exact=False)
    assert transform_from_config({"name": "guided_filter", "radius": 2, "eps": 50}) == GuidedFilter(2, 50)


@pytest.mark.parametrize(
    "table,message",
    [
        ({}, "transform without a name"),
        ({"name": "gausian_blur"}, "unknown transform 'gausian_blur'; did you mean 'gaussian_blur'"),
        ({"name": "gaussian_blur", "sgima": 2}, "unknown parameter 'sgima'; did you mean 'sigma'"),
        ({"name": ["gaussian_blur"]}, r"unknown transform \['gaussian_blur'\]"),
        ({"name": "gaussian_blur", "per_sample": 1}, "GaussianBlur: per_sample must be true or false, got 1"),
        ({"name": "box_blur"}, "transform 'box_blur': parameter 'radius' is missing"),
        ({"name": "box_blur", "radius": -1}, "BoxBlur: radius must not be negative, got -1"),
        ({"name": "gaussian_blur", "sigma": [2.0, 0.1]}, r"GaussianBlur: sigma must be \(least, largest\)"),
        ({"name": "gaussian_blur", "sigma": [1, 2, 3]}, "must be a number or"),
        ({"name": "gaussian_blur", "kernel_size": 4}, "GaussianBlur: kernel_size must be odd and positive, got 4"),
        ({"name": "gaussian_blur", "p": 1.5}, "GaussianBlur: p must be a probability, 0 to 1, got 1.5"),
        ({"name": "gaussian_blur", "border": "wrap"}, "GaussianBlur: unknown border 'wrap'"),
        ({"name": "bilateral_filter", "sigma_space": 1, "sigma_range": 2, "distance": "l3"}, "unknown distance 'l3'"),
        ({"name": "guided_filter", "radius": 1, "eps": 0}, "GuidedFilter: eps must be positive and finite, got 0"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(table, message):
    with pytest.raises(ConfigError, match=message):
        transform_from_config(table)
