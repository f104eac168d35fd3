"""Covariance of channels as a stream, and how many principal components hold a share of the variance. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.errors import DataError


class StreamingCovariance:
    """Count, mean and scatter (sum of outer products about the mean) of observations of `channels` variables.

    Batches and workers are combined by the pairwise update of Chan, Golub and LeVeque (1983, The American Statistician
    37:242), in float64: the order does not matter beyond rounding, and a large mean does not drown a small variance.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.scatter = np.zeros((channels, channels))

    def add(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        """Take in `count` observations of which the mean [C] and the scatter about it [C, C] are known."""
        if count == 0:
            return
        if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise DataError("the observations hold infinite or undefined values (inf or nan)")
        total = self.count + count
        shift = mean - self.mean
        self.scatter += scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def merge(self, other: StreamingCovariance) -> None:
        """Take in what another stream has seen."""
        self.add(other.count, other.mean, other.scatter)

    def observe(self, x: np.ndarray) -> None:
        """Take in observations [n, C]."""
        if len(x):
            x = np.asarray(x, np.float64)
            with np.errstate(invalid="ignore"):  # `add` refuses what comes of infinities
                mean = x.mean(0)
                scatter = (x - mean).T @ (x - mean)
            self.add(len(x), mean, scatter)

    def covariance(self) -> np.ndarray:
        """Covariance [C, C], divided by the count."""
        if self.count == 0:
            raise DataError("a covariance needs at least one observation")
        return self.scatter / self.count

    def variances(self) -> np.ndarray:
        """Variance along each principal axis [C], largest first; rounding below zero is taken as zero."""
        return np.maximum(np.linalg.eigvalsh(self.covariance())[::-1], 0.0)


def components(variances: np.ndarray, alpha: float) -> int:
    """The smallest k whose k largest variances sum to at least `alpha` of the total; 0 when nothing varies."""
    total = variances.sum()
    if total <= 0:
        return 0
    cumulated = np.cumsum(variances)
    return min(int(np.searchsorted(cumulated, alpha * cumulated[-1])) + 1, len(variances))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Variances along the principal axes of one layer's feature map.

    variances : [C], largest first, of all observations; halves : the same of every other image
    """

    variances: np.ndarray
    halves: tuple[np.ndarray, np.ndarray]
    observations: int

    @classmethod
    def of(cls, one: StreamingCovariance, other: StreamingCovariance) -> Spectrum:
        """From the streams of two halves of the observations."""
        both = StreamingCovariance(len(one.mean))
        both.merge(one)
        both.merge(other)
        halves = tuple(half.variances() if half.count else both.variances() for half in (one, other))
        return cls(variances=both.variances(), halves=(halves[0], halves[1]), observations=both.count)

    def count(self, alpha: float) -> int:
        """Channels that hold `alpha` of the variance."""
        return components(self.variances, alpha)

    def count_halves(self, alpha: float) -> tuple[int, int]:
        """The same, estimated on each half of the images."""
        return components(self.halves[0], alpha), components(self.halves[1], alpha)
