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
from codesign.quantize.allocate import Allocation, compare, rows_of
from codesign.quantize.moments import Doubles, Moments, Problem, by_group, row_products
from codesign.quantize.paths.layout import Floats
from codesign.quantize.rounding import round_to_format
from codesign.quantize.scales import ScaleRule

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


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is known of the nearest rounding of each channel to each of some formats.

    formats : tried so far; scale : float32 [channels, formats], the best of each; loss : float64, its output error less
        that of the weights themselves, infinite where a format has not been tried
    """

    formats: tuple[FloatFormat, ...]
    scale: Floats
    loss: Doubles

    @classmethod
    def of(cls, problem: Problem, found: Sequence[Allocation], *, refine: bool) -> Candidates:
        """All of these choices, which have one scale for each channel; then clips to both sides of the best."""
        formats = tuple(dict.fromkeys(fmt for choice in found for fmt in choice.formats))
        channels = len(problem.weights)
        known = cls(formats, np.ones((channels, len(formats)), np.float32), np.full((channels, len(formats)), np.inf))
        excess, place = _Excess.of(problem), {fmt: f for f, fmt in enumerate(formats)}
        tried: list[tuple[npt.NDArray[np.intp], Floats]] = []
        for choice in found:
            chosen = np.array([place[fmt] for fmt in choice.formats], np.intp)
            same = [(chosen == other) & (choice.scale == scale) for other, scale in tried]
            known._try(excess, chosen, choice.scale, ~np.any([np.zeros(channels, bool), *same], axis=0))
            tried.append((chosen, choice.scale))
        for ratio in _REFINEMENTS if refine else ():
            chosen = known.best()
            middle = known.scale[np.arange(channels), chosen]
            for factor in (ratio, 1 / ratio):
                known._try(excess, chosen, middle * np.float32(factor), np.ones(channels, bool))
        return known

    def best(self) -> npt.NDArray[np.intp]:
        """[channels]: place of the best format."""
        best: npt.NDArray[np.intp] = self.loss.argmin(1)
        return best

    def _try(self, excess: _Excess, chosen: npt.NDArray[np.intp], scale: Floats, those: npt.NDArray[np.bool_]) -> None:
        own = np.flatnonzero(those)
        if not own.size:
            return
        loss = excess(own, [self.formats[f] for f in chosen[own].tolist()], scale[own])
        better = loss < self.loss[own, chosen[own]]
        own, loss = own[better], loss[better]
        self.loss[own, chosen[own]], self.scale[own, chosen[own]] = loss, scale[own]


@dataclass(frozen=True, slots=True)
class _Excess:
    """By how much weights rounded to the nearest lose more than the weights themselves, in float32.

    half : the upper triangle of each group's covariance, its diagonal halved; d' C d is twice d' half d
    """

    rows: Floats
    half: Floats
    pull: Floats

    @classmethod
    def of(cls, problem: Problem) -> _Excess:
        half = np.triu(problem.covariance.astype(np.float32))
        half[:, np.arange(half.shape[1]), np.arange(half.shape[1])] /= 2
        return cls(problem.weights, half, problem.pull.astype(np.float32))

    def __call__(self, channels: npt.NDArray[np.intp], formats: Sequence[FloatFormat], scale: Floats) -> Doubles:
        """[channels], of some channels."""
        from scipy.linalg import blas

        rows = self.rows[channels]
        change = round_to_format(rows, list(formats), scale=scale, axis=0) - rows
        if len(self.half) == 1:
            product = blas.strmm(1.0, self.half[0].T, change.T, lower=1, trans_a=0).T
        else:
            every = np.zeros_like(self.rows)
            every[channels] = change
            product = by_group(every, self.half)[channels]
        return 2 * row_products(product - self.pull[channels], change)


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


def allocate_for_outputs(
    x: Any, bits: int, inputs: Moments, *, scale: ScaleRule = ScaleRule.REAL, allow_zeros: bool = False
) -> Allocation:
    """Format and scale of each channel of `x` with the least error of a layer's outputs; numbers are rounded to nearest.

    No method of `allocate` with one scale per channel has less on any channel: all of them are candidates.

    Parameters
    ----------
    x : weights, channels along axis 0
    inputs : moments of what the layer with these weights reads
    scale, allow_zeros : as in `allocate`
    """
    problem = inputs.problem(rows_of(x, 0).astype(np.float32))
    found = compare(x, bits, scale=scale, allow_zeros=allow_zeros)
    known = Candidates.of(
        problem, [each for each in found.values() if each.block is None], refine=scale is ScaleRule.REAL
    )
    best = known.best()
    chosen, scales = tuple(known.formats[f] for f in best.tolist()), known.scale[np.arange(len(best)), best]
    values = round_to_format(problem.weights, list(chosen), scale=scales, axis=0)
    return fit_of(x, values, chosen, scales, problem).allocation
