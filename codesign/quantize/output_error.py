"""Formats and scales chosen by what a layer puts out, with every weight rounded to the nearest value.

    allocate(weights, bits, inputs=moments)     what this file does, behind the door of `allocate`
    corrected(values, allocation, moments)      the two corrections, for weights rounded in any way

The candidates of a channel are the choices of every conventional method, so that none of them has a smaller output error,
and then clips to both sides of the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codesign.formats import FloatFormat
from codesign.quantize.allocate import Allocation, rows_of
from codesign.quantize.layout import Floats
from codesign.quantize.moments import Doubles, Moments, Problem, by_group, row_products
from codesign.quantize.rounding import round_to_format

_REFINEMENTS = (1.25, 1.12, 1.06)  # how far to both sides of the best clip


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFit:
    """Rounded weights of a layer, and what its outputs lose by them.

    allocation : formats and scales, with the error of the weights
    values : float32, shape of the weights; values of the formats times the scales, not always the nearest ones
    bias : float64 [channels], to be added to the bias of the layer
    output_mse, output_power : float64 [channels], mean squared error and variance of the outputs that were wanted
    """

    allocation: Allocation
    values: Floats
    bias: Doubles
    output_mse: Doubles
    output_power: Doubles

    @property
    def output_sqnr_db(self) -> float:
        """Signal to quantization noise ratio of all outputs of the layer in dB; infinite where there is no error."""
        noise = float(self.output_mse.sum())
        return 10 * float(np.log10(self.output_power.sum() / noise)) if noise > 0 else float("inf")


def best_of(
    x: Any, found: Sequence[Allocation], inputs: Moments, *, refine: bool = True
) -> tuple[tuple[FloatFormat, ...], Floats]:
    """Format and scale of each channel: of these choices the one whose outputs lose the least, its clip refined.

    x : [channels, ...]; found : choices of one scale for each channel, at least one
    """
    rows = rows_of(x, 0).astype(np.float32)
    error = _Excess.of(inputs.problem(rows))
    formats = list(found[0].formats)
    scale, least = found[0].scale.copy(), error(found[0].formats, found[0].scale)

    def keep(candidates: Sequence[FloatFormat], scales: Floats) -> None:
        loss = error(candidates, scales)
        better = loss < least
        least[better], scale[better] = loss[better], scales[better]
        for channel in np.flatnonzero(better).tolist():
            formats[channel] = candidates[channel]

    for choice in found[1:]:
        keep(choice.formats, choice.scale)
    for ratio in _REFINEMENTS if refine else ():
        middle = scale.copy()
        for factor in (ratio, 1 / ratio):
            keep(tuple(formats), middle * np.float32(factor))
    return tuple(formats), scale


@dataclass(frozen=True, slots=True)
class _Excess:
    """By how much weights rounded to the nearest lose more than the weights themselves, in float32."""

    rows: Floats
    covariance: Floats
    pull: Floats

    @classmethod
    def of(cls, problem: Problem) -> _Excess:
        return cls(problem.weights, problem.covariance.astype(np.float32), problem.pull.astype(np.float32))

    def __call__(self, formats: Sequence[FloatFormat], scale: Floats) -> Doubles:
        change = round_to_format(self.rows, list(formats), scale=scale, axis=0) - self.rows
        return row_products(by_group(change, self.covariance) - 2 * self.pull, change)


def corrected(x: Any, values: npt.ArrayLike, allocation: Allocation, inputs: Moments) -> OutputFit:
    """Rounded weights whose outputs have, on the samples of `inputs`, the mean and the variance that were wanted.

    x : [channels, ...], the weights; values : the same rounded, in whatever way, to the formats and scales of `allocation`
    The variance goes into the scale of each channel, the mean into `bias`.
    """
    rounded = rows_of(np.asarray(values, np.float32), 0)
    problem = inputs.problem(rows_of(x, 0).astype(np.float32))
    scale = (allocation.scale * problem.matching(rounded)).astype(np.float32)
    factor = scale / allocation.scale
    return fit_of(x, (rounded * factor[:, None]).astype(np.float32), allocation.formats, scale, problem)


def fit_of(x: Any, values: Floats, formats: tuple[FloatFormat, ...], scale: Floats, problem: Problem) -> OutputFit:
    """What is to be known about `values`, [channels, n], of these formats and scales."""
    rows = problem.weights.astype(np.float64)
    return OutputFit(
        allocation=Allocation(
            method="outputs",
            formats=formats,
            scale=scale,
            mse=((values - rows) ** 2).mean(1),
            power=(rows**2).mean(1),
            axis=0,
        ),
        values=values.reshape(np.shape(x)),
        bias=problem.bias(values),
        output_mse=problem.loss(values),
        output_power=problem.variance(),
    )
