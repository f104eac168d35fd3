"""Clips that assume a distribution: what the empirical choice is compared with."""

from __future__ import annotations

import functools
import math
from enum import StrEnum
from typing import assert_never

import numpy as np
import numpy.typing as npt

from codesign.formats import FloatFormat
from codesign.quantize.candidates import CLIPS, best_candidates, geometric_clips, refined

_POINTS = 1 << 15


class Distribution(StrEnum):
    """An assumed distribution of the weights, symmetric about zero and of variance 1."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"


def density(distribution: Distribution) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Magnitudes in units of the standard deviation, and the probability of each: the middles of narrow bins.

    Bins grow with the magnitude from 1e-6; the tail that is left out weighs less than 1e-12 of the variance.
    """
    match distribution:
        case Distribution.GAUSSIAN:
            from scipy.special import erf

            edges = _edges(9.0)
            below = erf(edges / math.sqrt(2))
        case Distribution.LAPLACE:
            edges = _edges(26.0)
            below = -np.expm1(-math.sqrt(2) * edges)
        case _:
            assert_never(distribution)
    return (edges[1:] + edges[:-1]) / 2, np.diff(below)


def _edges(end: float) -> npt.NDArray[np.float64]:
    return np.concatenate([[0.0], np.geomspace(1e-6, end, _POINTS)])


@functools.lru_cache(maxsize=256)
def assumed_best(distribution: Distribution, formats: tuple[FloatFormat, ...]) -> tuple[int, float]:
    """Which of the formats, and which clip in standard deviations, have the least expected squared error."""
    middles, probability = density(distribution)
    x, weights = middles.astype(np.float32)[None], probability[None]
    deviation = np.sqrt((weights * x.astype(np.float64) ** 2).sum(1) / weights.sum(1))
    largest = x.max(1).astype(np.float64)
    tried = geometric_clips(largest, deviation, len(formats), CLIPS).astype(np.float32)
    chosen, clip, _ = best_candidates(x, weights, formats, refined(tried, largest, deviation, CLIPS))
    best, most = int(chosen[0]), formats[int(chosen[0])].max
    scale = np.float32(float(clip[0]) / most)  # what is used is a scale in float32
    return best, float(np.float32(float(scale) * most))


def _aciq_of(steps: int, distribution: Distribution) -> float:
    """Clip c in standard deviations that minimises clipping noise plus c^2 / (12 steps^2), rounding noise of the grid.

    `steps` is the largest integer. Source: R. Banner et al., "Post training 4-bit quantization of convolutional networks
    for rapid-deployment", NeurIPS 2019, section 2, whose grid has 2^(bits - 1) steps; ours is symmetric and has one less.
    """
    from scipy.optimize import brentq
    from scipy.special import erfc

    def slope(c: float) -> float:
        rounding = c / (6 * steps**2)
        match distribution:
            case Distribution.GAUSSIAN:
                tail = math.sqrt(2 / math.pi) * math.exp(-c * c / 2) - c * float(erfc(c / math.sqrt(2)))
                return rounding - 2 * tail
            case Distribution.LAPLACE:
                return rounding - math.sqrt(2) * math.exp(-math.sqrt(2) * c)
            case _:
                assert_never(distribution)

    return float(brentq(slope, 1e-3, 60))


@functools.lru_cache(maxsize=64)
def aciq_clips(bits: int) -> tuple[float, float]:
    """ACIQ's clip of an integer of `bits` bits for the Gaussian and the Laplace distribution, in standard deviations."""
    steps = (1 << (bits - 1)) - 1
    return _aciq_of(steps, Distribution.GAUSSIAN), _aciq_of(steps, Distribution.LAPLACE)


def aciq_clip(
    bits: int, deviation: npt.NDArray[np.float64], mean_magnitude: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """ACIQ's clip of each channel, for whichever of the two distributions has the nearer ratio of mean magnitude to
    standard deviation (0.798 Gaussian, 0.707 Laplace)."""
    gaussian, laplace = aciq_clips(bits)
    halfway = (math.sqrt(2 / math.pi) + math.sqrt(0.5)) / 2
    factor = np.where(mean_magnitude > halfway * deviation, gaussian, laplace)
    return np.asarray(factor * deviation)
