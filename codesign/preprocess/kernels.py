"""Kernels by formula: Gaussian and box, one per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.errors import ConfigError
from codesign.native import ffi, lib
from codesign.preprocess.images import Images, pointer

# A kernel's tail below this share of its sum is not worth its taps: 255 * 2**-28 is a millionth of a level.
_NEGLIGIBLE = 2.0**-28


def checked_kernel_size(where: str, kernel_size: int | None) -> int | None:
    """Radius of an odd kernel size, None when none is given."""
    if kernel_size is None:
        return None
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, (int, np.integer)):
        raise ConfigError(f"{where}: kernel_size must be an odd integer, got {kernel_size!r}")
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ConfigError(f"{where}: kernel_size must be odd and positive, got {kernel_size}")
    return int(kernel_size) // 2


def checked_radius(where: str, radius: int, name: str = "radius") -> int:
    """A radius of at least 0."""
    if isinstance(radius, bool) or not isinstance(radius, (int, np.integer)):
        raise ConfigError(f"{where}: {name} must be an integer, got {radius!r}")
    if radius < 0:
        raise ConfigError(f"{where}: {name} must not be negative, got {radius}")
    return int(radius)


def checked_positive(where: str, name: str, value: float) -> float:
    """A finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ConfigError(f"{where}: {name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{where}: {name} must be positive and finite, got {value}")
    return float(value)


def gaussian_half(sigma: float, radius: int) -> np.ndarray:
    """Weights at distance 0 .. radius, float64; the whole kernel, both sides, sums to 1."""
    half = np.exp(-0.5 * np.square(np.arange(radius + 1) / sigma))
    weights: np.ndarray = half / (2 * half.sum() - half[0])
    return weights


@lru_cache(maxsize=4096)
def _gaussian_taps(sigma: float, radius: int) -> np.ndarray:
    """`gaussian_half` in float32 without a negligible tail. Do not write to it."""
    half = gaussian_half(sigma, radius)
    tails = 2 * np.cumsum(half[::-1])[::-1]
    return half[: max(1, int((tails > _NEGLIGIBLE).sum()))].astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taps:
    """One folded kernel per plane, as `cs_taps` has it."""

    weights: np.ndarray  # float32, all kernels one after the other
    first: np.ndarray  # int64 [planes]
    radius: np.ndarray  # int64 [planes]

    @classmethod
    def per_sample(cls, halves: list[np.ndarray], images: Images) -> Taps:
        """`halves` has one kernel, or one per sample."""
        lengths = np.array([len(half) for half in halves], np.int64)
        repeat = images.planes if len(halves) == 1 else images.channels
        return cls(
            weights=np.concatenate(halves) if halves else np.ones(1, np.float32),
            first=np.repeat(np.cumsum(lengths) - lengths, repeat),
            radius=np.repeat(lengths - 1, repeat),
        )

    def describe(self) -> Any:
        """A `cs_taps *`; this object must outlive it."""
        taps = ffi.new("cs_taps *")
        taps.weights = pointer(self.weights, "float *")
        taps.first, taps.radius = pointer(self.first, "int64_t *"), pointer(self.radius, "int64_t *")
        return taps


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """A Gaussian as a constant and CS_WAVES cosines on |u| <= radius, as `cs_waves` has it."""

    radius: int
    coefficients: np.ndarray  # float64 [1 + waves]: of the constant and of each cosine
    cosine: np.ndarray  # float32 [waves, radius + 2]
    error: float  # sum over the window of the absolute difference from the Gaussian

    def describe(self) -> Any:
        """A `cs_waves *`; this object must outlive it."""
        angle = 2 * np.pi * np.arange(1, lib.CS_WAVES + 1) / (2 * self.radius + 1)
        waves = ffi.new("cs_waves *")
        waves.radius, waves.mean_weight = self.radius, self.coefficients[0]
        waves.weight = (self.coefficients[1:] * np.cos(angle * self.radius)).tolist()
        waves.twice_cosine = (2 * np.cos(angle)).tolist()
        waves.cosine = pointer(self.cosine, "float *")
        return waves


@lru_cache(maxsize=256)
def gaussian_waves(sigma: float, radius: int) -> Waves:
    """The cosines nearest to the Gaussian in the sum of squares over the window, scaled to sum 1 over it."""
    distance = np.arange(radius + 1)
    angle = 2 * np.pi * np.arange(lib.CS_WAVES + 1) / (2 * radius + 1)
    both_sides = np.where(distance == 0, 1, np.sqrt(2))
    cosines, half = np.cos(np.outer(distance, angle)), gaussian_half(sigma, radius)
    coefficients, *_ = np.linalg.lstsq(cosines * both_sides[:, None], half * both_sides)
    coefficients[0] = 1 / (2 * radius + 1)  # the cosines sum to 0, so that a constant image stays constant
    error = float(np.abs(cosines @ coefficients - half) @ both_sides**2)
    cosine = np.cos(np.outer(angle[1:], np.arange(radius + 2))) / np.cos(angle[1:] * radius)[:, None]
    cosine = np.ascontiguousarray(cosine, np.float32)
    return Waves(radius=radius, coefficients=coefficients, cosine=cosine, error=error)


def sample_sigmas(where: str, sigma: Any, images: Images) -> list[float]:
    """One sigma, or one per sample in C order."""
    if isinstance(sigma, (int, float)):
        return [checked_positive(where, "sigma", sigma)]
    try:
        values = np.asarray(sigma, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: sigma must be a number or numbers, got {sigma!r}") from None
    if values.ndim and values.shape != images.samples:
        raise ConfigError(
            f"{where}: sigma must be a number or one per sample, shape {list(images.samples)}; got {list(values.shape)}"
        )
    return [checked_positive(where, "sigma", value) for value in values.ravel().tolist()]


def gaussian_taps(sigmas: list[float], radius: int | None, images: Images) -> Taps:
    """Taps of the Gaussians; without `radius`, each has ceil(3 sigma)."""
    halves = [_gaussian_taps(sigma, math.ceil(3 * sigma) if radius is None else radius) for sigma in sigmas]
    return Taps.per_sample(halves, images)
