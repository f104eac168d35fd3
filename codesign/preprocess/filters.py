"""Gaussian, box, bilateral and guided filters of uint8 and float32 images, one thread, on the C core.

All take a numpy array or a CPU torch tensor of shape [..., channels, height, width] or [height, width], of any strides
(channels-last is read and written in place), and give back the same kind, shape, dtype and layout, or `out`.
Images smaller than the radius are fine: a reflection goes on reflecting. uint8 results are rounded to nearest.
Not a number, infinity: float32 pixels are not checked; a filter spreads them over the window.

`border`, the pixels outside of the image: reflect101 (dcb|abcd|cba), reflect (cba|abcd|dcb), replicate (aaa|abcd|ddd),
constant (zeros, and the kernel is not renormalised).
`isa`: an instruction set of `instruction_sets()`; None is the best one. Results differ by float32 rounding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codesign.errors import ConfigError, did_you_mean
from codesign.native import ffi, lib
from codesign.preprocess.images import Images, look_at, run
from codesign.preprocess.kernels import (
    Taps,
    checked_kernel_size,
    checked_positive,
    checked_radius,
    gaussian_taps,
    gaussian_waves,
    sample_sigmas,
)
from codesign.preprocess.tables import LARGEST_RADIUS, bilateral_tables

# The radius where sliding sums overtake taps, by cs_isa, by measurement: docs/decisions/0037.
_SLIDING_RADIUS = {"u8": (15, 10, 6, 6), "f32": (9, 6, 9, 9)}
_LARGE_SIDE = 96

_DISTANCES = {"l1": lib.CS_DISTANCE_L1, "l2": lib.CS_DISTANCE_L2}


def gaussian_blur(
    x: Any,
    sigma: Any,
    *,
    kernel_size: int | None = None,
    exact: bool | None = None,
    border: str = "reflect101",
    out: Any = None,
    isa: str | None = None,
) -> Any:
    """Convolve with exp(-(dy^2 + dx^2) / (2 sigma^2)), cut to `kernel_size`, then normalised to sum 1.

    Parameters
    ----------
    sigma : standard deviation in pixels, positive; a number, or one per sample, shape `x.shape[:-3]`
    kernel_size : odd width of the window in pixels; None is 2 ceil(3 sigma) + 1, for each sample its own
    exact : True sums every tap in float32: uint8 within 0.501 of a level, float32 within 2e-6 of the range.
        False may take what is faster: for uint8 16-bit fixed point (a narrow window), for both sliding sums of three
        cosines (a wide window on a large image with one sigma, as fast at every sigma). On photographs and noise that
        is within 0.65 of a level; float32 is off by 1.3e-3 of the range at worst per axis. None, the default, is False
        for uint8 with both sides of at least 96, True otherwise.

    References
    ----------
    The sliding sums: Sugimoto and Kamata, ITE MTA 3(1), 2015 (csrc/filters/slide.h).
    """
    images = look_at("gaussian_blur", x, out, border, isa)
    radius = checked_kernel_size("gaussian_blur", kernel_size)
    sigmas = sample_sigmas("gaussian_blur", sigma, images)
    if exact is None:
        exact = images.suffix == "f32" or _least_side(images) < _LARGE_SIDE
    if len(sigmas) == 1 and not exact:
        wide = math.ceil(3 * sigmas[0]) if radius is None else radius
        if _slides(images, sigmas[0], wide):
            waves = gaussian_waves(sigmas[0], wide)
            return run("slide", images, lib.cs_slide_scratch_bytes(images.width, wide), waves.describe())
    taps = gaussian_taps(sigmas, radius, images)
    return _separable(images, taps, fixed=not exact and _fixed_point_does(images, taps))


def box_blur(x: Any, radius: int, *, border: str = "reflect101", out: Any = None, isa: str | None = None) -> Any:
    """Mean over the (2 radius + 1)^2 pixels around each one; radius 0 copies."""
    images = look_at("box_blur", x, out, border, isa)
    return _box(images, checked_radius("box_blur", radius))


def bilateral_filter(
    x: Any,
    sigma_space: float,
    sigma_range: float,
    *,
    radius: int | None = None,
    distance: str = "l1",
    exact: bool = True,
    border: str = "reflect101",
    out: Any = None,
    isa: str | None = None,
) -> Any:
    """Mean over the circle dy^2 + dx^2 <= radius^2 with the weights
    exp(-(dy^2 + dx^2) / (2 sigma_space^2) - distance^2 / (2 sigma_range^2)).

    Three channels are a colour: one weight for all of them. With any other number, each channel is a grey image.

    Parameters
    ----------
    sigma_space : in pixels, positive
    sigma_range : in units of the pixel values, positive
    radius : None is ceil(3 sigma_space)
    distance : of two colours: "l1", sum of the absolute differences, or "l2", root of the sum of squares
    exact : False rounds the weights of uint8 images to eight bits where the processor then has a faster way: grey, and
        colour with "l1" and sigma_range up to 71

    References
    ----------
    Tomasi and Manduchi, "Bilateral filtering for gray and color images", ICCV 1998.
    """
    where = "bilateral_filter"
    images = look_at(where, x, out, border, isa)
    check_distance(where, distance)
    how = ffi.new("cs_bilateral *")
    how.sigma_space = checked_positive(where, "sigma_space", sigma_space)
    how.sigma_range = checked_positive(where, "sigma_range", sigma_range)
    how.radius = math.ceil(3 * sigma_space) if radius is None else checked_radius(where, radius)
    how.distance = _DISTANCES[distance]
    joint = images.channels == 3
    how.channels = 3 if joint else 1
    if joint:
        how.src_channel = images.source.strides[-3] // images.source.itemsize
        how.dst_channel = images.result.strides[-3] // images.result.itemsize
    if planes := _table_planes(images, how, exact):
        how.distance = lib.CS_DISTANCE_L1  # of one channel, both are the same
        tables = bilateral_tables(how.sigma_space, how.sigma_range, how.radius, planes)
        scratch_bytes = lib.cs_bilateral_table_scratch_bytes(
            images.height, images.width, how.radius, how.channels, tables.described.quads
        )
        return run("bilateral_table", images, scratch_bytes, how, tables.described, joint_channels=joint)
    scratch_bytes = lib.cs_bilateral_scratch_bytes(images.height, images.width, how.radius, how.channels)
    return run("bilateral", images, scratch_bytes, how, joint_channels=joint)


def guided_filter(
    x: Any, radius: int, eps: float, *, border: str = "reflect101", out: Any = None, isa: str | None = None
) -> Any:
    """Guided filter with each channel as its own guide: smooths, and keeps edges.

    In each box: mean m, variance v, a = v / (v + eps), b = (1 - a) m; the result is box(a) x + box(b).

    Parameters
    ----------
    radius : of the box, at least 0
    eps : in squared units of the pixel values, positive

    References
    ----------
    He, Sun and Tang, "Guided image filtering", TPAMI 35(6), 2013, section 3.
    """
    images = look_at("guided_filter", x, out, border, isa)
    radius = checked_radius("guided_filter", radius)
    eps = checked_positive("guided_filter", "eps", eps)
    for sample in np.ndindex(images.source.shape[:-3]):
        guide = images.source[sample].astype(np.float32)
        result = images.result[sample]
        # A filter that keeps constants commutes with adding one: near zero, squares lose fewer digits.
        offset = np.float32(0 if border == "constant" else guide.mean())
        guide -= offset
        mean = box_blur(guide, radius, border=border, isa=isa)
        variance = np.maximum(box_blur(guide * guide, radius, border=border, isa=isa) - mean * mean, 0)
        slope = variance / (variance + np.float32(eps))
        level = mean - slope * mean
        filtered = box_blur(slope, radius, border=border, isa=isa) * guide
        filtered += box_blur(level, radius, border=border, isa=isa) + offset
        result[...] = np.clip(np.rint(filtered), 0, 255) if result.dtype == np.uint8 else filtered
    return images.answer


def check_distance(where: str, distance: str) -> None:
    """Refuse a distance of colours that is none."""
    if distance not in _DISTANCES:
        raise ConfigError(f"{where}: unknown distance {distance!r}{did_you_mean(str(distance), _DISTANCES)}")


def _slides(images: Images, sigma: float, radius: int) -> bool:
    """Whether sliding sums are faster than taps, and three cosines a fair likeness of the kernel."""
    if radius < _SLIDING_RADIUS[images.suffix][images.chosen_isa] or _least_side(images) < _LARGE_SIDE:
        return False
    # Three cosines fit a window of about 3 sigma; a wider one is mostly zeros, a narrower one has steep ends.
    if not 2.5 * sigma <= radius <= 3.5 * sigma or not _contiguous(images):
        return False
    error = 127.5 * gaussian_waves(sigma, radius).error  # of a level, at worst, along one axis: docs/decisions/0037
    return error <= min(0.33, 0.1 * math.sqrt(sigma))


def _fixed_point_does(images: Images, taps: Taps) -> bool:
    """Whether 16-bit fixed point can do this and is faster than float32."""
    radius = int(taps.radius.max(initial=0))
    suited = images.suffix == "u8" and images.chosen_isa >= lib.CS_ISA_AVX2 and _contiguous(images)
    return suited and images.width >= lib.CS_LEAST_FIXED_WIDTH and radius <= lib.CS_LARGEST_FIXED


def _contiguous(images: Images) -> bool:
    return images.source.strides[-1] == images.result.strides[-1] == images.source.itemsize


def _least_side(images: Images) -> int:
    return min(images.height, images.width)


def _table_planes(images: Images, how: Any, exact: bool) -> int:
    """Bytes per weight of the table that does this job, 0 when none does."""
    if images.suffix != "u8" or images.chosen_isa != lib.CS_ISA_VBMI or not 1 <= how.radius <= LARGEST_RADIUS:
        return 0
    if how.channels == 1:
        return 3 if exact else 1
    # A colour's difference saturates at 255: there an eight-bit weight must have gone to nothing.
    fades = 255 * math.exp(-(255**2) / (2 * how.sigma_range**2)) < 0.5
    return 1 if not exact and how.distance == lib.CS_DISTANCE_L1 and fades else 0


def _box(images: Images, radius: int) -> Any:
    if images.suffix == "u8" and 1 <= radius <= lib.CS_LARGEST_BOX:
        return run("box", images, lib.cs_box_scratch_bytes(images.width, radius), radius)
    if images.suffix == "f32" and 1 <= radius <= lib.CS_LARGEST_FLOAT_BOX:
        return run("box", images, lib.cs_float_box_scratch_bytes(images.width, radius), radius)
    half = np.full(radius + 1, 1 / (2 * radius + 1), np.float32)
    return _separable(images, Taps.per_sample([half], images))


def _separable(images: Images, taps: Taps, *, fixed: bool = False) -> Any:
    largest = int(taps.radius.max(initial=0))
    name = "fir_fixed" if fixed else "fir"
    scratch_bytes = getattr(lib, f"cs_{name}_scratch_bytes")(images.height, images.width, largest)
    return run(name, images, scratch_bytes, taps.describe())
