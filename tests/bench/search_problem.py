"""A synthetic co-design problem with a known optimum: 16 convolutions, 224 options each.

Latency is computed, not fitted: a 64 x 64 array with ceiling effects and a memory of 50 GB/s. The error of a design is
invented: each layer has a sensitivity to pruning, to range and to precision, drawn by the seed of the problem, and
each loss saturates. Three shapes of loss curve and six kinds of interaction keep a method from being fitted to one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from codesign.design import DesignPoint, LayerFormats
from codesign.search import Group, Measurement, Objective, SearchLayer, Space, format_grid, hypervolume
from codesign.search.dp.solve import Solution, Step, solve

Floats = NDArray[np.float64]

# ResNet-18 without its stem and its 1x1 shortcuts, 224 x 224 images (He et al. 2016, arXiv 1512.03385, table 1):
# (input channels, output channels, output height = width), 3x3 kernels.
LAYERS = (
    *[(64, 64, 56)] * 4,
    (64, 128, 28),
    *[(128, 128, 28)] * 3,
    (128, 256, 14),
    *[(256, 256, 14)] * 3,
    (256, 512, 7),
    *[(512, 512, 7)] * 3,
)
BATCH = 64
ARRAY = 64  # rows = columns
CLOCK_HZ = 1.0e9  # chosen; it scales the compute side only
BANDWIDTH_BYTES_PER_S = 50e9
EXPONENT_BITS, MANTISSA_BITS = range(2, 6), range(1, 8)
LEVELS = 8  # 0, 1/8, ..., 7/8 of the channels removed
DENSE_ERROR = 0.07
NOISE = 0.002
WORST_ERROR = 0.40  # reference of the hypervolume


def macs_per_cycle(mantissa_bits: NDArray[np.int64]) -> Floats:
    """Throughput by significand width: full rate above 5 bits, twice at 4 or 5, four times at 3 or less."""
    width = mantissa_bits + 1
    return np.select([width <= 3, width <= 5], [4.0, 2.0], 1.0)


def conv_s(inputs: Floats, outputs: Floats, size: int, bits: Floats, rate: Floats) -> Floats:
    """Seconds of forward, input gradient and weight gradient of one 3x3 convolution."""
    m, n, k = float(BATCH * size * size), outputs, 9.0 * inputs
    total = np.zeros(np.broadcast_shapes(np.shape(inputs), np.shape(outputs), np.shape(bits)))
    moved = (m * inputs + k * n + m * n) * bits / 8.0
    for a, b, c in ((m, n, k), (m, k, n), (k, n, m)):
        cycles = np.ceil(a / ARRAY) * np.ceil(b / ARRAY) * (c / rate + 2 * ARRAY)
        total = total + np.maximum(cycles / CLOCK_HZ, moved / BANDWIDTH_BYTES_PER_S)
    return total


class Interaction(StrEnum):
    """How the losses of layers become an error; each is as strong as the losses themselves near the middle of the front."""

    NONE = "none"  # they add up
    COMPOUND = "compound"  # they multiply like survival probabilities
    COLLAPSE = "collapse"  # what they add up to counts twice at 10 points, three times at 20
    BOTTLENECK = "bottleneck"  # the largest counts five times
    NEIGHBOURS = "neighbours"  # the geometric mean of each two layers in a row comes on top
    SCATTERED = "scattered"  # the same for layers in a row of another order, which only the problem knows
    PRODUCTS = "products"  # the product of each two layers in a row comes on top


PATHS = (Interaction.NEIGHBOURS, Interaction.SCATTERED, Interaction.PRODUCTS)
SAME = 0.02  # loss of two neighbours at which their product hurts as much as either
BOTTLENECK_WEIGHT = 4.0
COLLAPSE_AT = 0.1


def of_pair(kind: Interaction, a: Floats, b: Floats) -> Floats:
    """What two layers that are next to each other on the path lose on top of their own losses."""
    return a * b / SAME if kind is Interaction.PRODUCTS else np.sqrt(a * b)


def error_of(kind: Interaction, total: Floats) -> Floats:
    """Error of a sum of losses, of negative logarithms of survival if they compound."""
    match kind:
        case Interaction.COMPOUND:
            return 1.0 - (1.0 - DENSE_ERROR) * np.exp(-total)
        case Interaction.COLLAPSE:
            return DENSE_ERROR + total * (1.0 + total / COLLAPSE_AT)
        case _:
            return DENSE_ERROR + total


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One drawn problem. Entry [layer, level, option] of the tables is one of the 224 options of a layer.

    latency_s : shape (layers, levels, options), or (layers, levels in, levels out, options) if coupled
    loss : shape (layers, levels, options), in error
    path : order of the layers in which two in a row interact
    """

    space: Space
    latency_s: Floats
    loss: Floats
    interaction: Interaction
    path: tuple[int, ...]
    coupled: bool

    def split(self, choices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Levels and options of the layers, shape (designs, layers) each."""
        layers = len(self.space.layers)
        return choices[:, :layers], choices[:, layers:]

    def latencies(self, choices: NDArray[np.int64]) -> Floats:
        """Seconds of each design."""
        level, option = self.split(choices)
        layer = np.arange(level.shape[1])
        if self.coupled:
            before = np.hstack([np.zeros((len(level), 1), np.int64), level[:, :-1]])
            return self.latency_s[layer, before, level, option].sum(axis=1)
        return self.latency_s[layer, level, option].sum(axis=1)

    def errors(self, choices: NDArray[np.int64]) -> Floats:
        """True error of each design."""
        level, option = self.split(choices)
        loss = self.loss[np.arange(level.shape[1]), level, option]
        if self.interaction is Interaction.COMPOUND:
            loss = -np.log1p(-loss)
        total = loss.sum(axis=1)
        if self.interaction is Interaction.BOTTLENECK:
            total = total + BOTTLENECK_WEIGHT * loss.max(axis=1)
        if self.interaction in PATHS:
            along = loss[:, self.path]
            total = total + of_pair(self.interaction, along[:, :-1], along[:, 1:]).sum(axis=1)
        return np.minimum(error_of(self.interaction, total), 0.9)

    def latency(self, point: DesignPoint) -> float:
        """Seconds of one design, as a search asks for it."""
        return float(self.latencies(np.array([self.space.choice(point)]))[0])

    def layer_latency(self, layer: SearchLayer) -> Floats:
        """Table of one layer, as a search asks for it."""
        table = self.latency_s[[x.name for x in self.space.layers].index(layer.name)]
        if not self.coupled:
            return table[None]
        return table[:1] if layer.in_group is None else table

    def accuracy(self, point: DesignPoint, seed: int, fidelity: float) -> Measurement:
        """Noisy accuracy of one design, as a search asks for it."""
        error = float(self.errors(np.array([self.space.choice(point)]))[0])
        noisy = error + NOISE * np.random.default_rng(seed).standard_normal()
        return Measurement(accuracy=1.0 - noisy, standard_error=NOISE, cpu_s=fidelity, wall_s=fidelity)

    def objective(self) -> Objective:
        """What a search is handed."""
        return Objective(latency=self.latency, accuracy=self.accuracy, layer_latency=self.layer_latency)

    def steps(self, *, most: float = math.inf) -> tuple[list[Step], list[Floats]]:
        """The true tables as the dynamic program wants them, without losses above `most` and without interaction."""
        loss = -np.log1p(-self.loss) if self.interaction is Interaction.COMPOUND else self.loss
        loss = np.where(loss <= most, loss, np.inf)
        names = self.space.group_index
        steps = []
        for i, layer in enumerate(self.space.layers):
            latency_s = self.layer_latency(layer)
            steps.append(
                Step(
                    in_group=None if layer.in_group is None else names[layer.in_group],
                    out_group=i,
                    latency_s=latency_s,
                    loss=np.broadcast_to(loss[i][None], latency_s.shape),
                )
            )
        return steps, [np.zeros(LEVELS) for _ in steps]

    def optimum(self) -> Floats:
        """The true front, shape (points, 2): latency in seconds, error.

        Exact up to the labels of the dynamic program (99.9 % and more); that of a bottleneck up to a hundredth of its
        largest loss, too.
        """
        if self.interaction in PATHS:
            fronts = [self._chain_of_options()]
        elif self.interaction is Interaction.BOTTLENECK:
            fronts = [
                replace(front, loss=front.loss + BOTTLENECK_WEIGHT * most)
                for most in np.geomspace(1e-5, self.loss.max(), 150)
                for front in [solve(*self.steps(most=most), keep=1000)]
            ]
        else:
            fronts = [solve(*self.steps(), keep=20_000)]
        latency_s = np.concatenate([front.latency_s for front in fronts])
        total = np.concatenate([front.loss for front in fronts])
        return np.stack([latency_s, error_of(self.interaction, total)], axis=1)

    def _chain_of_options(self) -> Solution:
        """Where two layers in a row interact, the state is the previous layer's option.

        An option that is slower and lossier than another of its layer is never better, because the interaction grows
        with the loss; so only the others are states.
        """
        if self.coupled:
            raise NotImplementedError("no exact optimum is known here for coupled channels with interacting losses")
        kept = []
        for i in self.path:
            latency_s, loss = self.latency_s[i].ravel(), self.loss[i].ravel()
            order = np.lexsort((loss, latency_s))
            lowest = np.minimum.accumulate(loss[order])
            good = order[np.concatenate([[True], np.diff(lowest) < 0])]
            kept.append((latency_s[good], loss[good]))
        steps = [
            Step(
                in_group=None, out_group=0, latency_s=kept[0][0][None, :, None], loss=np.zeros((1, len(kept[0][0]), 1))
            )
        ]
        for i, ((_, before), (latency_s, loss)) in enumerate(itertools.pairwise(kept), start=1):
            steps.append(
                Step(
                    in_group=i - 1,
                    out_group=i,
                    latency_s=np.broadcast_to(latency_s[None, :, None], (len(before), len(loss), 1)),
                    loss=of_pair(self.interaction, before[:, None, None], loss[None, :, None]),
                )
            )
        return solve(steps, [loss for _, loss in kept], keep=2000)

    def dense_latency_s(self) -> float:
        """Latency with all channels and the widest formats."""
        return float(self.latencies(np.zeros((1, len(self.space.sizes)), np.int64))[0])

    def share_of_optimum(self, points: Sequence[DesignPoint], optimum: Floats) -> float:
        """Hypervolume of the true values of `points` as a share of that of the true front."""
        choices = np.array([self.space.choice(p) for p in points])
        reference = (1.05 * self.dense_latency_s(), WORST_ERROR)
        best = hypervolume(optimum[:, 0], optimum[:, 1], reference=reference)
        return hypervolume(self.latencies(choices), self.errors(choices), reference=reference) / best


def draw(seed: int, *, shape: str = "exponential", interaction: str = "none", coupled: bool = False) -> Problem:
    """A problem; `shape` of the losses is exponential, power or cliff, `interaction` the value of an `Interaction`."""
    rng = np.random.default_rng(seed)
    options = format_grid(EXPONENT_BITS, MANTISSA_BITS)
    exponent = np.array([f.weight.exponent_bits for f in options.values()])
    mantissa = np.array([f.weight.mantissa_bits for f in options.values()])
    removed = np.arange(LEVELS) / LEVELS
    bits, rate = (1.0 + exponent + mantissa).astype(float), macs_per_cycle(mantissa)
    latency_s, loss = [], []
    for inputs, outputs, size in LAYERS:
        kept_in, kept_out = inputs * (1 - removed), outputs * (1 - removed)
        if coupled:
            latency_s.append(conv_s(kept_in[:, None, None], kept_out[None, :, None], size, bits, rate))
        else:
            latency_s.append(conv_s(np.float64(inputs), kept_out[:, None], size, bits, rate))
        loss.append(_losses(rng, shape, removed, exponent, mantissa))
    kind = Interaction(interaction)
    path = rng.permutation(len(LAYERS)).tolist() if kind is Interaction.SCATTERED else range(len(LAYERS))
    names = [f"conv{i}" for i in range(len(LAYERS))]
    layers = tuple(
        SearchLayer(name=name, formats=options, out_group=name, in_group=names[i - 1] if coupled and i else None)
        for i, name in enumerate(names)
    )
    groups = tuple(
        Group(name=name, levels=tuple(int(c * (LEVELS - i) // LEVELS) for i in range(LEVELS)))
        for name, (_, c, _) in zip(names, LAYERS, strict=True)
    )
    default: LayerFormats = next(iter(options.values()))
    return Problem(
        space=Space(layers=layers, groups=groups, default=default),
        latency_s=np.stack(latency_s),
        loss=np.array(loss),
        interaction=kind,
        path=tuple(path),
        coupled=coupled,
    )


def _losses(
    rng: np.random.Generator, shape: str, removed: Floats, exponent: NDArray[np.int64], mantissa: NDArray[np.int64]
) -> Floats:
    """Loss of one layer, shape (levels, options); 0 at the densest level with the widest format."""
    weight_prune, weight_range, weight_step = rng.lognormal(np.log([0.03, 0.01, 0.015]), 1.2)
    bend = rng.uniform(1.5, 4.0)
    match shape:
        case "exponential":
            prune = weight_prune * np.expm1(bend * removed) / math.expm1(bend)
            narrow = weight_range * (np.exp(-1.5 * (exponent - 2.0)) - math.exp(-4.5))
            coarse = weight_step * (4.0 ** -(mantissa - 1.0) - 4.0**-6)
        case "power":
            prune = weight_prune * removed**bend
            narrow = weight_range * ((5.0 - exponent) / 3.0) ** bend
            coarse = weight_step * ((7.0 - mantissa) / 6.0) ** (2 * bend)
        case "cliff":  # nothing happens, then much at once
            edge = rng.uniform(0.4, 0.9), rng.uniform(2.0, 4.0), rng.uniform(1.0, 4.0)
            prune = weight_prune * (_step((removed - edge[0]) / 0.1) - _step(-edge[0] / 0.1))
            narrow = weight_range * (_step((edge[1] - exponent) / 0.5) - _step((edge[1] - 5) / 0.5))
            coarse = weight_step * (_step((edge[2] - mantissa) / 0.7) - _step((edge[2] - 7) / 0.7))
        case _:
            raise ValueError(f"shape must be exponential, power or cliff, got {shape}")
    raw = prune[:, None] + (narrow + coarse)[None, :]
    most = rng.uniform(0.1, 0.3)
    return most * -np.expm1(-raw / most)


def _step(x: Floats | float) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(x))))
