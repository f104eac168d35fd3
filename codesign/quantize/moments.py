"""What a layer reads and what it ought to put out, as sums that are small enough to keep.

A layer with weights W [channels, n] computes y = W z + b from inputs z [n] (for a convolution one window of the image, in
the C order of the weights of a channel). Rounded weights Q with the bias moved by the mean of what they miss put out

    E |y - Q z|^2 = var(y) - 2 Q cov(z, y) + Q cov(z) Q'          for each channel

so the second moments of z, and of y with z, say what any rounding does to the outputs. The wanted outputs y may be those of
another input, for instance of the network before its earlier layers were rounded: then W z is not the best that can be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from codesign.errors import ModelError

Doubles = npt.NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The outputs that a layer ought to give, without its bias: means over samples, float64.

    cross : [channels, n], E[y z'], with the inputs z of the channel's group
    mean, power : [channels], E[y] and E[y^2]
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
    wanted : None: the outputs of the weights themselves on these inputs
    """

    count: int
    second: Doubles
    mean: Doubles
    wanted: Wanted | None = None

    @classmethod
    def of(cls, inputs: npt.ArrayLike, outputs: npt.ArrayLike | None = None, *, groups: int = 1) -> Moments:
        """Moments of samples that fit into memory: inputs [samples, groups * n]; wanted outputs [samples, channels]."""
        z = np.asarray(inputs, dtype=np.float64)
        y = None if outputs is None else np.asarray(outputs, dtype=np.float64)
        sums = MomentSums(groups, z.shape[1] // groups, None if y is None else y.shape[1])
        sums.update(z.T, None if y is None else y.T)
        return sums.moments()

    def problem(self, weights: Doubles) -> Problem:
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
        if self.wanted is not None and self.wanted.cross.shape != weights.shape:
            raise ModelError(
                f"wanted outputs of {len(self.wanted.cross)} channels for weights of {channels}; take the moments of the "
                "layer that the weights belong to"
            )
        covariance = self.second - self.mean[:, :, None] * self.mean[:, None, :]
        mean = np.repeat(self.mean, channels // groups, axis=0)
        if self.wanted is None:
            with_outputs = by_group(weights, covariance)
            variance = np.einsum("ij,ij->i", with_outputs, weights)
            output_mean = np.einsum("ij,ij->i", weights, mean)
        else:
            with_outputs = self.wanted.cross - self.wanted.mean[:, None] * mean
            variance = self.wanted.power - self.wanted.mean**2
            output_mean = self.wanted.mean
        return Problem(
            covariance=covariance,
            with_outputs=with_outputs,
            variance=np.maximum(variance, 0),
            mean=mean,
            output_mean=output_mean,
        )


def by_group(rows: npt.NDArray[Real], matrices: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """[channels, n] times the [n, n] matrix of each channel's group."""
    groups, n, _ = matrices.shape
    product: npt.NDArray[Real] = rows.reshape(groups, -1, n) @ matrices
    return product.reshape(rows.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What the outputs of a layer lose, as a function of its weights; float64.

    covariance : [groups, n, n], of the inputs of each group
    with_outputs : [channels, n], covariance of wanted outputs and inputs
    mean : [channels, n], of the inputs of each channel
    variance, output_mean : [channels], of the wanted outputs
    """

    covariance: Doubles
    with_outputs: Doubles
    mean: Doubles
    variance: Doubles
    output_mean: Doubles

    def loss(self, weights: npt.NDArray[np.floating]) -> Doubles:
        """[channels]: mean squared error of the outputs of these weights, once the bias has taken its mean."""
        w = weights.astype(np.float64)
        inner = np.einsum("ij,ij->i", by_group(w, self.covariance) - 2 * self.with_outputs, w)
        loss: Doubles = np.maximum(self.variance + inner, 0)
        return loss

    def bias(self, weights: npt.NDArray[np.floating]) -> Doubles:
        """[channels]: what to add to the bias, so that the mean of the outputs is the wanted one."""
        bias: Doubles = self.output_mean - np.einsum("ij,ij->i", weights.astype(np.float64), self.mean)
        return bias

    def matching(self, weights: npt.NDArray[np.floating]) -> Doubles:
        """[channels]: the factor by which the outputs get their wanted variance; 1 where they or the wanted have none."""
        w = weights.astype(np.float64)
        own = np.einsum("ij,ij->i", by_group(w, self.covariance), w)
        some = (own > 0) & (self.variance > 0)
        return np.sqrt(np.where(some, self.variance, 1) / np.where(some, own, 1))


class MomentSums:
    """Streams samples into `Moments`: the sums that are kept are float64, whatever the samples are."""

    def __init__(self, groups: int, n: int, channels: int | None = None) -> None:
        """channels : how many wanted outputs come with each sample; None: none"""
        self._count = 0
        self._second = np.zeros((groups, n, n))
        self._sum = np.zeros((groups, n))
        self._channels = channels
        self._cross = np.zeros((channels or 0, n))
        self._output_sum, self._output_squares = np.zeros(channels or 0), np.zeros(channels or 0)

    def update(self, inputs: npt.NDArray[np.floating], outputs: npt.NDArray[np.floating] | None = None) -> None:
        """Add samples: inputs [groups * n, samples], wanted outputs [channels, samples], finite."""
        groups, n = self._sum.shape
        if inputs.shape[0] != groups * n:
            raise ModelError(f"inputs of {inputs.shape[0]} numbers for {groups} groups of {n}")
        if (outputs is None) != (self._channels is None) or (outputs is not None and len(outputs) != self._channels):
            given = "no" if outputs is None else len(outputs)
            raise ModelError(f"{given} wanted outputs for sums of {self._channels or 'no'} channels")
        z = np.ascontiguousarray(inputs, dtype=np.float64).reshape(groups, n, -1)
        y = None if outputs is None else np.ascontiguousarray(outputs, dtype=np.float64)
        self._count += z.shape[2]
        self._sum += z.sum(2)
        for group in range(groups):
            self._second[group] += z[group] @ z[group].T  # the same array twice: half the work (syrk)
        if y is not None:
            each = len(y) // groups
            for group in range(groups):
                own = slice(group * each, (group + 1) * each)
                self._cross[own] += y[own] @ z[group].T
            self._output_sum += y.sum(1)
            self._output_squares += np.einsum("ij,ij->i", y, y)

    def moments(self) -> Moments:
        """Of all samples so far; raises `ModelError` where there were none, or where one was not finite."""
        if self._count == 0:
            raise ModelError("moments of no samples; update them with the inputs of a layer first")
        if not np.isfinite(self._second.sum() + self._cross.sum()):
            raise ModelError("inputs or outputs of the layer hold NaN or infinity; their moments say nothing")
        count = self._count
        wanted = None
        if self._channels is not None:
            wanted = Wanted(
                cross=self._cross / count, mean=self._output_sum / count, power=self._output_squares / count
            )
        return Moments(count=count, second=self._second / count, mean=self._sum / count, wanted=wanted)
