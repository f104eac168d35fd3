"""Weights for what their layer puts out: split, clip, scale and every single rounding by the error of the outputs.

    fit_outputs(weights, bits, moments)

For each channel every split of the bits is tried with several clips, each with feedback (feedback.py), and judged by what
is then left of the output error; the best is improved weight by weight, with the scale at its least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from codesign.formats import FloatFormat
from codesign.quantize.allocate import allocate, compare, rows_of
from codesign.quantize.candidates import normalised, top_exponent
from codesign.quantize.moments import Doubles, Moments, Problem, row_products
from codesign.quantize.output_error import Candidates, OutputFit, fit_of
from codesign.quantize.paths.layout import Floats
from codesign.quantize.rounding import round_to_format

_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # shares of the largest magnitude of a channel
_FORMATS = 2  # of a channel that are tried with feedback: those of least output error without
_SWEEPS = 20  # most passes over the weights of a channel; few channels take more than five
_DAMPING = 0.01  # of the mean variance of the inputs; keeps weights of inputs that hardly vary near what they were
_ELEMENTS = 1 << 24  # weights times candidates that are rounded at once: 64 MiB an array


class Order(StrEnum):
    """In which order the weights of a channel are rounded."""

    VARIANCE = "variance"  # inputs that vary most come first, while there are others to make up for them
    STORED = "stored"


def fit_outputs(
    weights: Any,
    bits: int,
    inputs: Moments,
    *,
    formats: Sequence[FloatFormat] | None = None,
    allow_zeros: bool = False,
) -> OutputFit:
    """Round the weights of a layer so that its outputs lose the least.

    The outputs of no channel lose more than by `allocate_for_outputs(weights, bits, inputs)`, hence than by any other method of
    one scale for each channel; as a rule much less.

    weights : [channels, ...] floating-point array or CPU tensor
    bits : width of a number, 2 to 16; inputs : moments of what the layer reads
    formats : the candidates, instead of the splits of `bits`
    """
    problem = inputs.problem(rows_of(weights, 0).astype(np.float32))
    if formats is None:
        choices = [each for each in compare(weights, bits, allow_zeros=allow_zeros).values() if each.block is None]
    else:
        choices = [allocate(weights, formats=[fmt], allow_zeros=allow_zeros) for fmt in formats]
    known = Candidates.of(problem, choices, refine=True)
    table = _Table.of(known.formats)
    nearest = _nearest(problem.weights, known, table)
    found = nearest.take(slice(None))
    likely = np.argsort(known.loss, axis=1, kind="stable")[:, :_FORMATS]
    each = len(problem.weights) // len(problem.covariance)
    for group, covariance in enumerate(problem.covariance):
        own = slice(group * each, (group + 1) * each)
        damped = _Damped.of(covariance, problem.pull[own], problem.weights[own])
        starts = [nearest.take(own), *(_with_feedback(damped, order, table, likely[own]) for order in Order)]
        found.put(own, damped.best(starts, table))
    fit = _fit_of(weights, found, known, table, problem)
    worse = fit.output_mse > problem.missing_variance + known.loss.min(1)  # by the damping, and hardly ever
    if worse.any():
        found.put(worse, nearest.take(worse))
        fit = _fit_of(weights, found, known, table, problem)
    return fit


@dataclass(frozen=True, slots=True)
class _Rounded:
    """Channels in units of a step of their own: values [channels, n], step [channels], place of the format [channels]."""

    values: Floats
    step: Floats
    chosen: npt.NDArray[np.intp]

    @property
    def weights(self) -> Floats:
        return self.values * self.step[:, None]

    def take(self, channels: Any) -> _Rounded:
        """A copy of some channels."""
        return _Rounded(self.values[channels].copy(), self.step[channels].copy(), self.chosen[channels].copy())

    def put(self, channels: Any, other: _Rounded) -> None:
        """Take some channels from another."""
        self.values[channels], self.step[channels], self.chosen[channels] = other.values, other.step, other.chosen


def _nearest(rows: Floats, known: Candidates, table: _Table) -> _Rounded:
    """Every weight as the nearest value, the choice of least output error."""
    chosen = known.best()
    scale = known.scale[np.arange(len(chosen)), chosen]
    codes = round_to_format(rows / scale[:, None], [known.formats[f] for f in chosen.tolist()], axis=0)
    top = np.exp2(table.top[chosen]).astype(np.float32)
    return _Rounded((codes / top[:, None]).astype(np.float32), scale * top, chosen)


def _fit_of(weights: Any, found: _Rounded, known: Candidates, table: _Table, problem: Problem) -> OutputFit:
    scale = (found.step / np.exp2(table.top[found.chosen])).astype(np.float32)
    return fit_of(weights, found.weights, tuple(known.formats[f] for f in found.chosen.tolist()), scale, problem)


@dataclass(frozen=True, slots=True)
class _Table:
    """Formats as the loops take them, each with its largest binade at [1, 2), which stands for 2^top.

    top : int64; limit : float32, largest value; floor, shift : uint32, smallest exponent and missing mantissa bits
    """

    top: npt.NDArray[np.int64]
    limit: Floats
    floor: npt.NDArray[np.uint32]
    shift: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, formats: Sequence[FloatFormat]) -> _Table:
        words = [normalised(fmt) for fmt in formats]
        return cls(
            np.array([top_exponent(fmt) for fmt in formats], np.int64),
            np.array([limit for limit, _, _ in words], np.float32),
            np.array([floor for _, floor, _ in words], np.uint32),
            np.array([shift for _, _, shift in words], np.uint32),
        )

    def take(self, formats: npt.NDArray[np.intp]) -> tuple[Floats, npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Limit, floor and shift of each lane."""
        return self.limit[formats], self.floor[formats], self.shift[formats]


@dataclass(frozen=True, slots=True)
class _Factor:
    """A positive definite matrix as L L', its columns in the opposite of the order `place`.

    place : [n], the columns in the order in which they are rounded; reversed : L, lower triangular
    """

    place: npt.NDArray[np.intp]
    reversed: Doubles

    @classmethod
    def of(cls, matrix: Doubles, place: npt.NDArray[np.intp]) -> _Factor:
        from scipy import linalg

        back = place[::-1]
        ordered = matrix[back[:, None], back]
        return cls(place, linalg.cholesky(ordered.T, lower=True, overwrite_a=True, check_finite=False))

    def solve(self, rows: Doubles) -> Doubles:
        """[channels, n] times the inverse of the matrix."""
        from scipy import linalg

        back = self.place[::-1]
        solved = np.empty_like(rows)
        solved[:, back] = linalg.cho_solve((self.reversed, True), rows[:, back].T, check_finite=False).T
        return solved


@dataclass(frozen=True, slots=True)
class _Damped:
    """The channels of a group, with a small price on leaving their weights: the loss of q is (t - q)' H (t - q).

    matrix : H, [n, n]; targets : t, [channels, n]; pull : t H, [channels, n]; by_variance : H, most varying inputs first
    """

    matrix: Doubles
    targets: Doubles
    pull: Doubles
    by_variance: _Factor

    @classmethod
    def of(cls, covariance: Doubles, pull: Doubles, weights: Floats) -> _Damped:
        trace = float(np.trace(covariance))
        price = _DAMPING * trace / len(covariance) if trace > 0 else 1.0
        matrix = covariance.copy()
        np.fill_diagonal(matrix, np.diagonal(matrix) + price)
        factor = _Factor.of(matrix, np.argsort(-np.diagonal(matrix), kind="stable"))
        return cls(matrix, weights + factor.solve(pull), weights @ matrix + pull, factor)

    def factor(self, order: Order) -> _Factor:
        """The matrix, factored in the order in which columns are rounded."""
        match order:
            case Order.VARIANCE:
                return self.by_variance
            case Order.STORED:
                return _Factor.of(self.matrix, np.arange(len(self.matrix)))
            case _:
                assert_never(order)

    def best(self, starts: Sequence[_Rounded], table: _Table) -> _Rounded:
        """For each channel the start that is best once it has been improved weight by weight."""
        from codesign.quantize.kernels.feedback import descend

        hessian, pull = (np.ascontiguousarray(each, np.float32) for each in (self.matrix, self.pull))
        best, least = starts[0], np.full(len(self.targets), np.inf)
        for start in starts:
            words = table.take(start.chosen)
            descend(hessian, pull, start.values @ hessian, start.step, *words, start.values, _SWEEPS, True)
            missing = (self.targets - start.weights).astype(np.float32)
            loss = row_products(missing @ hessian, missing)
            better = loss < least
            least[better] = loss[better]
            best.put(better, start.take(better))
        return best


def _with_feedback(damped: _Damped, order: Order, table: _Table, likely: npt.NDArray[np.intp]) -> _Rounded:
    """For each channel the format and clip that leave the least once all its weights are rounded with feedback."""
    factor = damped.factor(order)
    rounder, place = _Feedback.of(factor), factor.place
    targets = damped.targets[:, place]
    channels = len(targets)
    largest = np.abs(targets).max(1)
    largest = np.where(largest > 0, largest, 1)
    formats, clips = np.tile(likely.T, (len(_CLIPS), 1)), np.repeat(_CLIPS, likely.shape[1])
    best = np.full(channels, np.inf)
    kept = _Rounded(np.empty(targets.shape, np.float32), np.empty(channels, np.float32), np.empty(channels, np.intp))
    together = max(1, _ELEMENTS // targets.size)
    for start in range(0, len(clips), together):
        part = slice(start, start + together)
        lanes_format = formats[part].ravel()
        lanes_step = (np.outer(clips[part], largest) / table.limit[formats[part]]).astype(np.float32).ravel()
        found, loss = rounder.round(targets, lanes_step, *table.take(lanes_format))
        loss = loss.reshape(-1, channels)
        least = loss.argmin(0)
        better = loss[least, np.arange(channels)] < best
        lane = (least * channels + np.arange(channels))[better]
        best[better] = loss.ravel()[lane]
        kept.put(better, _Rounded(found[:, lane].T, lanes_step[lane], lanes_format[lane]))
    values = np.empty_like(kept.values)
    values[:, place] = kept.values
    return _Rounded(values, kept.step, kept.chosen)


@dataclass(frozen=True, slots=True)
class _Feedback:
    """How errors of columns push those that come after them.

    ahead : float32 [n, n], lower triangular without its diagonal; weight : float64 [n]
    """

    ahead: Floats
    weight: Doubles

    @classmethod
    def of(cls, factor: _Factor) -> _Feedback:
        lower = factor.reversed.T[::-1, ::-1]  # V' of H = V V', V upper triangular
        diagonal = np.diagonal(lower)
        ahead: Floats = lower.astype(np.float32, order="C")
        ahead /= diagonal[:, None].astype(np.float32)
        np.fill_diagonal(ahead, 0)
        return cls(ahead, diagonal**2)

    def round(
        self,
        targets: Doubles,
        step: Floats,
        limit: Floats,
        floor: npt.NDArray[np.uint32],
        shift: npt.NDArray[np.uint32],
    ) -> tuple[Floats, Doubles]:
        """Round every channel once for each candidate, lanes being candidates times channels, channels side by side.

        Returns rounded weights [n, lanes] in units of the step, and the loss of each lane.
        """
        from codesign.quantize.kernels.feedback import BLOCK, round_block

        n, lanes = targets.shape[1], len(step)
        wanted = np.tile(targets.T.astype(np.float32), (1, lanes // len(targets)))
        rounded, missing, loss = np.empty((n, lanes), np.float32), np.empty((n, lanes), np.float32), np.zeros(lanes)
        for start in range(0, n, BLOCK):
            own = slice(start, min(start + BLOCK, n))
            current = wanted[own] + self.ahead[own, :start] @ missing[:start]
            inner = np.ascontiguousarray(self.ahead[own, own])
            round_block(
                wanted[own],
                current,
                inner,
                self.weight[own],
                step,
                limit,
                floor,
                shift,
                rounded[own],
                missing[own],
                loss,
            )
        return rounded, loss
