"""Gaussian, box, bilateral and guided filters of uint8 and float32 images, one thread, on the C core."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign.native import lib
from codesign.preprocess.images import look_at, run
from codesign.preprocess.kernels import (
    Taps,
    checked_kernel_size,
    checked_radius,
    gaussian_taps,
    sample_sigmas,
)


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


def _fir(images: Any, taps: Taps) -> Any:
    largest = int(taps.radius.max(initial=0))
    scratch_bytes = lib.cs_fir_scratch_bytes(images.height, images.width, largest)
    return run("fir", images, scratch_bytes, taps.describe())
