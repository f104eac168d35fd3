"""What a layer reads, as mean and covariance: all that is needed to know what rounded weights do to its outputs.

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
from codesign.quantize.paths.layout import Floats

Doubles = npt.NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What is missing in the outputs of the weights themselves, over samples; float64.

    covariance : [channels, n], with the inputs of the channel's group
    mean, variance : [channels]
    """

    covariance: Doubles
    mean: Doubles
    variance: Doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Covariance and mean of a layer's inputs over samples (positions of a convolution), float64.

    count : samples
    covariance : [groups, n, n], where n is the number of weights of one channel; channels of a group are neighbours
    mean : [groups, n]
    missing : None: the outputs of the weights themselves are wanted
    """

    count: int
    covariance: Doubles
    mean: Doubles
    missing: Missing | None = None

    def __post_init__(self) -> None:
        finite = np.isfinite(self.covariance).all() and (
            self.missing is None or np.isfinite(self.missing.variance).all()
        )
        if not finite:
            raise ModelError("inputs or outputs of the layer hold NaN or infinity; their moments say nothing")

    @classmethod
    def of(cls, inputs: npt.ArrayLike, missing: npt.ArrayLike | None = None, *, groups: int = 1) -> Moments:
        """Moments of samples that fit into memory: inputs [samples, groups * n], missing in the outputs [samples, channels]."""
        z = np.asarray(inputs, dtype=np.float64)
        count = len(z)
        if not count:
            raise ModelError("moments of no samples; pass the inputs of a layer")
        own = z.reshape(count, groups, -1).transpose(1, 2, 0)
        mean = own.mean(2)
        own = own - mean[:, :, None]
        found = None
        if missing is not None:
            e = np.asarray(missing, dtype=np.float64).T
            between = (e - e.mean(1, keepdims=True)).reshape(groups, -1, count) @ own.transpose(0, 2, 1) / count
            found = Missing(covariance=between.reshape(len(e), -1), mean=e.mean(1), variance=e.var(1))
        return cls(count=count, covariance=own @ own.transpose(0, 2, 1) / count, mean=mean, missing=found)

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
        if self.missing is not None and self.missing.covariance.shape != weights.shape:
            raise ModelError(
                f"missing outputs of {len(self.missing.covariance)} channels for weights of {channels}; take the moments of the "
                "layer that the weights belong to"
            )
        none = np.zeros(channels)
        missing = self.missing or Missing(covariance=np.zeros(weights.shape), mean=none, variance=none)
        return Problem(
            weights=weights,
            covariance=self.covariance,
            pull=missing.covariance,
            mean=np.repeat(self.mean, channels // groups, axis=0),
            missing_variance=missing.variance,
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
