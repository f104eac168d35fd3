"""Layouts, results handed in, and bad input; properties that hold for every image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import ConfigError
from codesign.preprocess import bilateral_filter, box_blur, gaussian_blur, guided_filter, instruction_sets
from codesign.testing import borders, images

FILTERS = {
    "gaussian": lambda x, **more: gaussian_blur(x, 1.5, **more),
    "box": lambda x, **more: box_blur(x, 2, **more),
    "large box": lambda x, **more: box_blur(x, 9, **more),
    "bilateral": lambda x, **more: bilateral_filter(x, 1.5, 40.0, **more),
    "guided": lambda x, **more: guided_filter(x, 2, 50.0, **more),
}
every_filter = pytest.mark.parametrize("name", FILTERS)


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8).astype(dtype)


@every_filter
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_layout_does_not_change_the_result(name, dtype):
    x = noise(2, 3, 21, 34, dtype=dtype)
    expected = FILTERS[name](x)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    flipped = np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]
    padded = noise(2, 3, 40, 80, dtype=dtype)
    padded[:, :, 5:26, 3:71:2] = x
    for view in (last, flipped, padded[:, :, 5:26, 3:71:2], np.asfortranarray(x)):
        result = FILTERS[name](view)
        assert result.shape == x.shape
        np.testing.assert_array_equal(result, expected)
    assert FILTERS[name](last).strides == last.strides


@every_filter
def test_tensors_keep_their_memory_format(name):
    x = torch.from_numpy(noise(2, 3, 21, 34)).contiguous(memory_format=torch.channels_last)
    result = FILTERS[name](x)
    assert isinstance(result, torch.Tensor)
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(result.numpy(), FILTERS[name](x.numpy()))


@every_filter
def test_out_is_written_and_given_back(name):
    x = noise(3, 21, 34)
    room = np.full((3, 25, 70), 7, np.uint8)
    out = room[:, 2:23, 1:69:2]
    assert FILTERS[name](x, out=out) is out
    np.testing.assert_array_equal(out, FILTERS[name](x))
    out[...] = 7
    assert (room == 7).all()


@every_filter
def test_a_large_batch_equals_its_images(name):
    """Large results are streamed past the caches: another way to the same bytes."""
    x = noise(24, 3, 230, 231)  # 3.8 MB: rows do not end on cache lines
    result = FILTERS[name](x)
    for sample in (0, 11, 23):
        np.testing.assert_array_equal(result[sample], FILTERS[name](x[sample]))


@settings(max_examples=40)
@given(images(), st.sampled_from(sorted(FILTERS)), borders(), st.integers(0, 255))
def test_a_constant_stays_constant(x, name, border, level):
    flat = np.full_like(x, level if x.dtype == np.uint8 else level / 255)
    if border != "constant":
        np.testing.assert_allclose(FILTERS[name](flat, border=border), flat, rtol=2e-6)


@settings(max_examples=40)
@given(images(), st.floats(0.3, 6), borders(), st.sampled_from(instruction_sets()))
def test_gaussian_is_linear(x, sigma, border, isa):
    x = x.astype(np.float32)
    y = np.roll(x, 1, axis=-1)

    def blur(image):
        return gaussian_blur(image, sigma, border=border, isa=isa)

    np.testing.assert_allclose(blur(2 * x - y), 2 * blur(x) - blur(y), atol=4e-6 * max(1, np.abs(x).max()))


@settings(max_examples=20)
@given(st.lists(st.floats(0.2, 4), min_size=4, max_size=4), st.sampled_from([None, 5]), borders())
def test_a_sigma_for_each_sample_is_a_loop(sigmas, kernel_size, border):
    x = noise(4, 3, 19, 27)
    result = gaussian_blur(x, np.array(sigmas), kernel_size=kernel_size, border=border)
    loop = [gaussian_blur(s, sigma, kernel_size=kernel_size, border=border) for s, sigma in zip(x, sigmas, strict=True)]
    np.testing.assert_array_equal(result, np.array(loop))
    as_tensor = gaussian_blur(
        torch.from_numpy(x), torch.tensor(sigmas, dtype=torch.float64), kernel_size=kernel_size, border=border
    )
    np.testing.assert_array_equal(as_tensor.numpy(), result)


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("sigma", [0.4, 1, 2, 2.1, 3, 3.01, 3.5, 5, 12])
def test_fixed_point_and_sliding_sums_stay_within_two_thirds_of_a_level(sigma, isa):
    y, x = np.mgrid[:130, :170]
    pictures = {
        "noise": noise(130, 170),
        "corner": np.where((x < 97) & (y < 80), 0, 255),
        "squares": (x // 20 + y // 20) % 2 * 255,
        "waves": np.rint(127.5 + 127.5 * np.cos((x**2 + y**2) / 200)),
    }
    for border in ("reflect101", "reflect", "replicate", "constant"):
        for name, picture in pictures.items():
            exact = gaussian_blur(picture.astype(np.float32), sigma, border=border, exact=True, isa=isa)
            image = picture.astype(np.uint8)
            fast = gaussian_blur(image, sigma, border=border, isa=isa)
            assert np.abs(fast - exact).max() <= 0.65, (name, border)
            assert np.abs(gaussian_blur(image, sigma, border=border, exact=True, isa=isa) - exact).max() <= 0.501
            smooth = gaussian_blur(picture.astype(np.float32), sigma, border=border, exact=False, isa=isa)
            assert np.abs(smooth - exact).max() <= 0.15, (name, border)
    flat = np.full((130, 170), 255, np.uint8)
    assert (gaussian_blur(flat, sigma, isa=isa) == 255).all()


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("height,width", [(1, 48), (3, 49), (40, 63), (2, 1100), (40, 5), (37, 2049)])
def test_fixed_point_has_the_borders_of_float32(height, width, isa):
    image = noise(height, width)
    for sigma in (0.3, 1, 2, 3):
        for border in ("reflect101", "reflect", "replicate", "constant"):
            exact = gaussian_blur(image.astype(np.float32), sigma, border=border)
            fast = gaussian_blur(image, sigma, border=border, exact=False, isa=isa)
            assert np.abs(fast - exact).max() <= 0.65, (sigma, border)
    for level in (0, 1, 127, 128, 255):
        flat = np.full((height, width), level, np.uint8)
        assert (gaussian_blur(flat, 2, exact=False, isa=isa) == level).all()


def test_an_empty_batch_is_an_empty_batch():
    for call in FILTERS.values():
        assert call(np.empty((0, 3, 5, 6), np.uint8)).shape == (0, 3, 5, 6)


X = noise(2, 3, 8, 9)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: gaussian_blur(X, float("nan")), "gaussian_blur: sigma must be positive and finite, got nan"),
        (lambda: gaussian_blur(X, 0), "gaussian_blur: sigma must be positive and finite, got 0"),
        (lambda: gaussian_blur(X, [1.0, float("inf")]), "sigma must be positive and finite, got inf"),
        (lambda: gaussian_blur(X, [1.0, 2.0, 3.0]), r"one per sample, shape \[2\]; got \[3\]"),
        (lambda: gaussian_blur(X, "wide"), "sigma must be a number or numbers, got 'wide'"),
        (lambda: gaussian_blur(X, 1, kernel_size=4), "gaussian_blur: kernel_size must be odd and positive, got 4"),
        (lambda: gaussian_blur(X, 1, kernel_size=-3), "kernel_size must be odd and positive, got -3"),
        (lambda: gaussian_blur(X, 1, kernel_size=3.0), "kernel_size must be an odd integer, got 3.0"),
        (lambda: gaussian_blur(X, 1, border="mirror"), "gaussian_blur: unknown border 'mirror'"),
        (lambda: gaussian_blur(X, 1, isa="mmx"), "isa 'mmx' is not to be had here; known: portable"),
        (lambda: gaussian_blur(X.astype(np.float64), 1), "x must be uint8 or float32, got float64"),
        (lambda: gaussian_blur(X.tolist(), 1), "x must be a numpy array or a torch tensor, got list"),
        (lambda: gaussian_blur(X[..., :0], 1), r"x has images without pixels, shape \[2, 3, 8, 0\]"),
        (lambda: gaussian_blur(X[0, 0, 0], 1), r"x must have shape \[..., channels, height, width\], got \[9\]"),
        (lambda: gaussian_blur(X, 1, out=X), "out must not share memory with x"),
        (lambda: gaussian_blur(X, 1, out=X[:1]), "out must have the shape and dtype of x"),
        (lambda: gaussian_blur(X, 1, out=torch.from_numpy(X)), "out must be of the same kind as x, got Tensor"),
        (lambda: gaussian_blur(torch.ones(1, 4, 4, requires_grad=True), 1), "x requires a gradient"),
        (lambda: gaussian_blur(torch.ones(1, 4, 4, device="meta"), 1), "x must be on the CPU, got a tensor on meta"),
        (lambda: gaussian_blur(torch.ones(1, 4, 4, dtype=torch.half), 1), "got torch.float16"),
        (lambda: box_blur(X, -1), "box_blur: radius must not be negative, got -1"),
        (lambda: box_blur(X, 1.5), "box_blur: radius must be an integer, got 1.5"),
        (lambda: bilateral_filter(X, -1, 3), "bilateral_filter: sigma_space must be positive and finite, got -1"),
        (lambda: bilateral_filter(X, 1, float("nan")), "sigma_range must be positive and finite, got nan"),
        (lambda: bilateral_filter(X, 1, 3, distance="l3"), "unknown distance 'l3'; known: l1, l2"),
        (lambda: bilateral_filter(X, 1, 3, radius=-2), "radius must not be negative, got -2"),
        (lambda: guided_filter(X, 2, 0), "guided_filter: eps must be positive and finite, got 0"),
    ],
)
def test_bad_input_names_the_argument(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
