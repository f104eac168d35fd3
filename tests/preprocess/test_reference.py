"""Independent oracle: stored exact results, and tests/reference/filters.py (every tap, float64) on drawn images."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.preprocess import bilateral_filter, box_blur, gaussian_blur, guided_filter, instruction_sets
from codesign.testing import borders, images
from tests.reference import filters as oracle

STORED = np.load(Path(__file__).parents[1] / "data" / "filters_reference.npz")
CASES = json.loads(str(STORED["manifest_json"]))
ISAS = instruction_sets()
ROUNDED = 0.501  # of a level: rounding to nearest, and a thousandth for float32
FLOAT = 2e-6  # of the range


def apply(case, image, isa):
    border = case["border"]
    match case["op"]:
        case "gauss":
            return gaussian_blur(image, case["sigma"], kernel_size=2 * case["radius"] + 1, border=border, isa=isa)
        case "gauss_per_sample":
            return gaussian_blur(image, STORED["par/batch_sigma"], border=border, isa=isa)
        case "box":
            return box_blur(image, case["radius"], border=border, isa=isa)
        case "bilateral":
            return bilateral_filter(
                image,
                case["sigma_space"],
                case["sigma_range"],
                radius=case["radius"],
                distance=case.get("distance", "l1"),
                border=border,
                isa=isa,
            )
        case "guided":
            return guided_filter(image, case["radius"], case["eps"], border=border, isa=isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["key"])
def test_stored_results(case, isa):
    image, exact = STORED[case["image"]], STORED[case["key"]]
    error = np.abs(apply(case, image, isa).astype(np.float64) - exact).max()
    assert error <= (ROUNDED if image.dtype == np.uint8 else FLOAT)


def planes_of(x):
    return x.reshape(-1, *x.shape[-2:])


def assert_near(result, planes, dtype):
    tolerance = ROUNDED if dtype == np.uint8 else FLOAT
    assert np.abs(planes_of(result).astype(np.float64) - np.array(planes)).max() <= tolerance


@settings(max_examples=60)
@given(images(), st.floats(0.3, 7), borders(), st.sampled_from(ISAS))
def test_gaussian_is_the_direct_sum(x, sigma, border, isa):
    result = gaussian_blur(x, sigma, border=border, isa=isa)
    radius = oracle.default_radius(sigma)
    assert_near(result, [oracle.gaussian(plane, sigma, radius, border) for plane in planes_of(x)], x.dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("height,width", [(8, 128), (128, 8), (9, 101), (70, 65), (128, 128), (129, 64)])
def test_gaussian_of_planes_filtered_as_a_whole(height, width, isa):
    x = np.random.default_rng(height).integers(0, 256, (height, width), dtype=np.uint8)
    for border in ("reflect101", "reflect", "replicate", "constant"):
        result = gaussian_blur(x, 1.7, border=border, exact=True, isa=isa)
        assert_near(result, [oracle.gaussian(x, 1.7, 6, border)], np.uint8)


@settings(max_examples=60)
@given(images(), st.integers(0, 12), borders(), st.sampled_from(ISAS))
def test_box_is_the_mean(x, radius, border, isa):
    result = box_blur(x, radius, border=border, isa=isa)
    assert_near(result, [oracle.box(plane, radius, border) for plane in planes_of(x)], x.dtype)


@settings(max_examples=60)
@given(images(), st.floats(0.5, 3), st.floats(2, 150), borders(), st.sampled_from(["l1", "l2"]), st.sampled_from(ISAS))
def test_bilateral_is_the_direct_sum(x, sigma_space, sigma_range, border, distance, isa):
    if x.dtype == np.float32:
        sigma_range /= 255
    radius = oracle.default_radius(sigma_space)
    result = bilateral_filter(x, sigma_space, sigma_range, distance=distance, border=border, isa=isa)
    joint = x.ndim > 2 and x.shape[-3] == 3
    samples = x.reshape(-1, 3 if joint else 1, *x.shape[-2:])
    exact = [oracle.bilateral(s, sigma_space, sigma_range, radius, distance, border) for s in samples]
    tolerance = ROUNDED if x.dtype == np.uint8 else 2e-3 / 255
    assert np.abs(result.reshape(samples.shape).astype(np.float64) - np.array(exact)).max() <= tolerance


@settings(max_examples=30)
@given(images(), st.integers(0, 5), st.floats(0.01, 1), borders())
def test_guided_follows_the_paper(x, radius, eps, border):
    eps *= 1000 if x.dtype == np.uint8 else 1
    exact = [oracle.guided(plane, radius, eps, border) for plane in planes_of(x)]
    tolerance = 0.51 if x.dtype == np.uint8 else 2e-5  # a quotient of differences loses digits of float32
    assert np.abs(planes_of(guided_filter(x, radius, eps, border=border)) - np.array(exact)).max() <= tolerance


@pytest.mark.skipif("vbmi" not in ISAS, reason="this processor has no byte permutes")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma_space,sigma_range", [(1.5, 20), (3, 30), (3, 60)])
def test_eight_bit_weights_keep_58_decibels(channels, sigma_space, sigma_range):
    y, x = np.mgrid[0:48, 0:70]
    edges = 80 * ((x // 13 + y // 9) % 2) + 60 + 40 * np.sin(x / 9)
    image = np.random.default_rng(5).normal(edges, 12, (channels, 48, 70)).clip(0, 255).astype(np.uint8)
    radius = oracle.default_radius(sigma_space)
    fast = bilateral_filter(image, sigma_space, sigma_range, exact=False)
    error = fast - oracle.bilateral(image, sigma_space, sigma_range, radius, "l1", "reflect101")
    assert 10 * np.log10(255**2 / np.mean(error**2)) >= 58.5
