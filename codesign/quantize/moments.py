"""What a layer reads, as second moments: all that is needed to know what rounded weights do to its outputs.

A layer with weights W [channels, n] computes y = W z + b from inputs z [n] (for a convolution one window of the image, in
the C order of the weights of a channel). With weights W + D instead, and the bias moved by the mean of the difference,

    E |e - D z|^2 = var(e) - 2 D cov(z, e) + D cov(z) D'          for each channel

where e is what is missing in W z to the outputs that are wanted. Nothing is, if W z is what is wanted; but inputs that have
been through rounded layers are not what they were, and then other weights than W are best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from codesign.errors import ModelError
from codesign.quantize.layout import Floats

Doubles = npt.NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What is missing in the outputs of the weights themselves: means over samples, float64.

    cross : [channels, n], E[e z'], with the inputs z of the channel's group
    mean, power : [channels], E[e] and E[e^2]
    """

    cross: Doubles
    mean: Doubles
    power: Doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Means over samples (positions of a convolution) of a layer's inputs, float64.

    count : samples
    second : [groups, n, n], E[z z'], where n is the number of weights of one channel; channels of a group are neighbours
    mean : [groups, n], E[z]
    missing : None: the outputs of the weights themselves are wanted
    """

    count: int
    second: Doubles
    mean: Doubles
    missing: Missing | None = None

    @classmethod
    def of(cls, inputs: npt.ArrayLike, missing: npt.ArrayLike | None = None, *, groups: int = 1) -> Moments:
        """Moments of samples that fit into memory: inputs [samples, groups * n], missing in the outputs [samples, channels]."""
        z = np.asarray(inputs, dtype=np.float64)
        count = len(z)
        if not count:
            raise ModelError("moments of no samples; pass the inputs of a layer")
        own = z.reshape(count, groups, -1).transpose(1, 2, 0)
        found = None
        if missing is not None:
            e = np.asarray(missing, dtype=np.float64).T
            cross = e.reshape(groups, -1, count) @ own.transpose(0, 2, 1) / count
            found = Missing(cross=cross.reshape(len(e), -1), mean=e.mean(1), power=(e**2).mean(1))
        moments = cls(count=count, second=own @ own.transpose(0, 2, 1) / count, mean=own.mean(2), missing=found)
        moments.check()
        return moments

    def check(self) -> None:
        """Raise `ModelError` where a sample was not finite."""
        if not (np.isfinite(self.second).all() and (self.missing is None or np.isfinite(self.missing.power).all())):
            raise ModelError("inputs or outputs of the layer hold NaN or infinity; their moments say nothing")

    def problem(self, weights: Floats) -> Problem:
        """What rounding `weights` [channels, n] is to minimise.

        Raises `ModelError` where the weights do not belong to these moments.
        """
        groups, n = self.mean.shape
        channels = len(weights)
        if weights.shape[1] != n or channels % groups:
            raise ModelError(
                f"weights of {channels} channels with {weights.shape[1]} numbers each, but moments of {groups} groups of {n} "
                "inputs; take the moments of the layer that the weights belong to"
            )
        if self.missing is not None and self.missing.cross.shape != weights.shape:
            raise ModelError(
                f"missing outputs of {len(self.missing.cross)} channels for weights of {channels}; take the moments of the "
                "layer that the weights belong to"
            )
        missing = self.missing or Missing(
            cross=np.zeros(weights.shape), mean=np.zeros(channels), power=np.zeros(channels)
        )
        mean = np.repeat(self.mean, channels // groups, axis=0)
        return Problem(
            weights=weights,
            covariance=self.second - self.mean[:, :, None] * self.mean[:, None, :],
            pull=missing.cross - missing.mean[:, None] * mean,
            mean=mean,
            missing_variance=np.maximum(missing.power - missing.mean**2, 0),
            missing_mean=missing.mean,
        )


def by_group(rows: npt.NDArray[Real], matrices: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """[channels, n] times the [n, n] matrix of each channel's group."""
    groups, n, _ = matrices.shape
    product: npt.NDArray[Real] = rows.reshape(groups, -1, n) @ matrices
    return product.reshape(rows.shape)


def row_products(a: npt.NDArray[Real], b: npt.NDArray[Real]) -> Doubles:
    """[channels]: the scalar product of each row, summed in float64."""
    product: Doubles = np.einsum("ij,ij->i", a, b, dtype=np.float64)
    return product


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the outputs of a layer lose, as a function of its weights.

    weights : float32 [channels, n], before rounding
    covariance : [groups, n, n], of the inputs of each group
    pull : [channels, n], covariance of the missing outputs and the inputs
    mean : [channels, n], of the inputs of each channel
    missing_variance, missing_mean : [channels], of the missing outputs
    """

    weights: Floats
    covariance: Doubles
    pull: Doubles
    mean: Doubles
    missing_variance: Doubles
    missing_mean: Doubles

    def loss(self, rounded: Floats) -> Doubles:
        """[channels]: mean squared error of the outputs of these weights, once the bias has taken its mean."""
        change = (rounded - self.weights).astype(np.float64)
        loss: Doubles = self.missing_variance + row_products(by_group(change, self.covariance) - 2 * self.pull, change)
        return np.maximum(loss, 0)

    def bias(self, rounded: Floats) -> Doubles:
        """[channels]: what to add to the bias, so that the mean of the outputs is the wanted one."""
        return self.missing_mean - row_products((rounded - self.weights).astype(np.float64), self.mean)

    def variance(self) -> Doubles:
        """[channels]: of the outputs that are wanted."""
        w = self.weights.astype(np.float64)
        return np.maximum(self.missing_variance + row_products(by_group(w, self.covariance) + 2 * self.pull, w), 0)

    def matching(self, rounded: Floats) -> Doubles:
        """[channels]: the factor by which the outputs get their wanted variance; 1 where they or the wanted have none."""
        q = rounded.astype(np.float64)
        own, wanted = row_products(by_group(q, self.covariance), q), self.variance()
        some = (own > 0) & (wanted > 0)
        return np.sqrt(np.where(some, wanted, 1) / np.where(some, own, 1))
