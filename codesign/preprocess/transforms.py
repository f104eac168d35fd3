"""Filters as transforms of a training pipeline: callables that take one image or one batch and give back another.

They are values: frozen, comparable, picklable. What is random is drawn from torch's default generator, which a
DataLoader seeds for each worker. They run on one thread and keep no state, so that forked workers are safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.errors import ConfigError
from codesign.preprocess.filters import bilateral_filter, box_blur, check_distance, gaussian_blur, guided_filter
from codesign.preprocess.images import check_border
from codesign.preprocess.kernels import checked_kernel_size, checked_positive, checked_radius


def _check_common(where: str, p: float, border: str) -> None:
    check_border(where, border)
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise ConfigError(f"{where}: p must be a probability, 0 to 1, got {p!r}")


def _check_switch(where: str, name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {name} must be true or false, got {value!r}")


def _uniform(count: int) -> np.ndarray:
    """`count` numbers in [0, 1) from torch's default generator."""
    import torch

    return torch.rand(count, dtype=torch.float64).numpy()


def _copy(x: Any) -> Any:
    return x.copy() if isinstance(x, np.ndarray) else x.clone()


@dataclass(frozen=True, slots=True)
class GaussianBlur:
    """Blur with probability `p` and a sigma drawn uniformly, as contrastive pretraining does.

    sigma : (least, largest) in pixels, or one number
    kernel_size : odd; None is 2 ceil(3 sigma) + 1
    per_sample : of a batch [N, channels, height, width], each sample is drawn for itself; else all alike
    """

    sigma: tuple[float, float] | float = (0.1, 2.0)
    kernel_size: int | None = None
    p: float = 0.5
    per_sample: bool = True
    border: str = "reflect101"

    def __post_init__(self) -> None:
        where = "GaussianBlur"
        if isinstance(self.sigma, list):  # as a configuration file has it
            object.__setattr__(self, "sigma", tuple(self.sigma))
        low, high = self._range(where)
        if checked_positive(where, "sigma", low) > checked_positive(where, "sigma", high):
            raise ConfigError(f"{where}: sigma must be (least, largest), got {self.sigma}")
        checked_kernel_size(where, self.kernel_size)
        _check_switch(where, "per_sample", self.per_sample)
        _check_common(where, self.p, self.border)

    def _range(self, where: str) -> tuple[float, float]:
        if not isinstance(self.sigma, tuple):
            return self.sigma, self.sigma
        if len(self.sigma) != 2:
            raise ConfigError(f"{where}: sigma must be a number or (least, largest), got {self.sigma}")
        return self.sigma

    def __call__(self, x: Any) -> Any:
        """`x`, blurred or copied."""
        low, high = self._range("GaussianBlur")
        if self.per_sample and x.ndim == 4:
            samples = x.shape[0]
            chosen = np.flatnonzero(_uniform(samples) < self.p)
            sigmas = low + (high - low) * _uniform(samples)
            if len(chosen) == samples:
                return gaussian_blur(x, sigmas, kernel_size=self.kernel_size, border=self.border)
            result = _copy(x)
            for sample in chosen:
                gaussian_blur(
                    x[sample],
                    float(sigmas[sample]),
                    kernel_size=self.kernel_size,
                    border=self.border,
                    out=result[sample],
                )
            return result
        lot, where_in_range = _uniform(2)
        if lot >= self.p:
            return x
        sigma = float(low + (high - low) * where_in_range)
        return gaussian_blur(x, sigma, kernel_size=self.kernel_size, border=self.border)


@dataclass(frozen=True, slots=True)
class BoxBlur:
    """`box_blur` with probability `p`."""

    radius: int
    p: float = 1.0
    border: str = "reflect101"

    def __post_init__(self) -> None:
        checked_radius("BoxBlur", self.radius)
        _check_common("BoxBlur", self.p, self.border)

    def __call__(self, x: Any) -> Any:
        """`x`, blurred or as it is."""
        return box_blur(x, self.radius, border=self.border) if _happens(self.p) else x


@dataclass(frozen=True, slots=True)
class BilateralFilter:
    """`bilateral_filter` with probability `p`."""

    sigma_space: float
    sigma_range: float
    distance: str = "l1"
    exact: bool = True
    radius: int | None = None
    p: float = 1.0
    border: str = "reflect101"

    def __post_init__(self) -> None:
        checked_positive("BilateralFilter", "sigma_space", self.sigma_space)
        checked_positive("BilateralFilter", "sigma_range", self.sigma_range)
        check_distance("BilateralFilter", self.distance)
        _check_switch("BilateralFilter", "exact", self.exact)
        if self.radius is not None:
            checked_radius("BilateralFilter", self.radius)
        _check_common("BilateralFilter", self.p, self.border)

    def __call__(self, x: Any) -> Any:
        """`x`, filtered or as it is."""
        if not _happens(self.p):
            return x
        return bilateral_filter(
            x,
            self.sigma_space,
            self.sigma_range,
            radius=self.radius,
            distance=self.distance,
            exact=self.exact,
            border=self.border,
        )


@dataclass(frozen=True, slots=True)
class GuidedFilter:
    """`guided_filter` with probability `p`."""

    radius: int
    eps: float
    p: float = 1.0
    border: str = "reflect101"

    def __post_init__(self) -> None:
        checked_radius("GuidedFilter", self.radius)
        checked_positive("GuidedFilter", "eps", self.eps)
        _check_common("GuidedFilter", self.p, self.border)

    def __call__(self, x: Any) -> Any:
        """`x`, filtered or as it is."""
        return guided_filter(x, self.radius, self.eps, border=self.border) if _happens(self.p) else x


def _happens(p: float) -> bool:
    """True with probability `p`; certainty draws nothing."""
    return p >= 1 or (p > 0 and float(_uniform(1)[0]) < p)
