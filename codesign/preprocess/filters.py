"""Gaussian, box, bilateral and guided filters of uint8 and float32 images, one thread, on the C core."""

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
    sample_sigmas,
)
from codesign.preprocess.tables import LARGEST_RADIUS, bilateral_tables

_DISTANCES = {"l1": lib.CS_DISTANCE_L1, "l2": lib.CS_DISTANCE_L2}


def gaussian_blur(
    x: Any,
    sigma: Any,
    *,
    kernel_size: int | None = None,
    border: str = "reflect101",
    out: Any = None,
    isa: str | None = None,
) -> Any:
    images = look_at("gaussian_blur", x, out, border, isa)
    radius = checked_kernel_size("gaussian_blur", kernel_size)
    taps = gaussian_taps(sample_sigmas("gaussian_blur", sigma, images), radius, images)
    return _fir(images, taps)


def box_blur(x: Any, radius: int, *, border: str = "reflect101", out: Any = None, isa: str | None = None) -> Any:
    images = look_at("box_blur", x, out, border, isa)
    radius = checked_radius("box_blur", radius)
    half = np.full(radius + 1, 1 / (2 * radius + 1), np.float32)
    return _fir(images, Taps.per_sample([half], images))


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
    where = "bilateral_filter"
    images = look_at(where, x, out, border, isa)
    if distance not in _DISTANCES:
        raise ConfigError(f"{where}: unknown distance {distance!r}{did_you_mean(str(distance), _DISTANCES)}")
    how = ffi.new("cs_bilateral *")
    how.sigma_space = checked_positive(where, "sigma_space", sigma_space)
    how.sigma_range = checked_positive(where, "sigma_range", sigma_range)
    how.radius = math.ceil(3 * how.sigma_space) if radius is None else checked_radius(where, radius)
    how.distance = _DISTANCES[distance]
    joint = images.channels == 3
    how.channels = 3 if joint else 1
    if joint:
        how.src_channel = images.source.strides[-3] // images.source.itemsize
        how.dst_channel = images.result.strides[-3] // images.result.itemsize
    if planes := _table_planes(images, how, exact):
        how.distance = lib.CS_DISTANCE_L1  # of one channel, both are the same
        tables = bilateral_tables(how.sigma_space, how.sigma_range, how.radius, planes)
        described = tables.describe()
        scratch_bytes = lib.cs_bilateral_table_scratch_bytes(
            images.height, images.width, how.radius, how.channels, described.quads
        )
        return run("bilateral_table", images, scratch_bytes, how, described, joint_channels=joint)
    scratch_bytes = lib.cs_bilateral_scratch_bytes(images.height, images.width, how.radius, how.channels)
    return run("bilateral", images, scratch_bytes, how, joint_channels=joint)


def _table_planes(images: Images, how: Any, exact: bool) -> int:
    """Bytes per weight of the table that does this job, 0 when none does."""
    if images.suffix != "u8" or images.chosen_isa != lib.CS_ISA_VBMI or not 1 <= how.radius <= LARGEST_RADIUS:
        return 0
    if how.channels == 1:
        return 3 if exact else 1
    # A colour's difference saturates at 255: there an eighth-bit weight must have gone to nothing.
    fades = 255 * math.exp(-(255**2) / (2 * how.sigma_range**2)) < 0.5
    return 1 if not exact and how.distance == lib.CS_DISTANCE_L1 and fades else 0


def _fir(images: Any, taps: Taps) -> Any:
    largest = int(taps.radius.max(initial=0))
    scratch_bytes = lib.cs_fir_scratch_bytes(images.height, images.width, largest)
    return run("fir", images, scratch_bytes, taps.describe())
