"""Make up for channels that left: the layers that read them get weights that rebuild them from those that stay.

What a layer reads in the dense network, X, is written as a linear function of what it reads in the smaller one, Z:
X = Z T + c, by least squares over a few hundred images at all positions, layer by layer in the order of the network, so
that what earlier layers could not rebuild is taken into account. The weights then become W T' at every position of the
kernel. This needs no labels and no training.

He, Zhang and Sun 2017 (arXiv 1707.06168) reconstruct by least squares; Luo, Wu and Lin 2017 (arXiv 1707.05342) choose
channels by what the next layer loses; Chee et al. 2022 (arXiv 2108.00065) write channels as combinations of others by
interpolative decompositions; the error measure is that of Hassibi and Stork 1993 (Optimal Brain Surgeon).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from codesign.errors import DataError, ModelError
from codesign.network import stored_tensors
from codesign.prune.least_squares import solve
from codesign.prune.moments import Means, Moments
from codesign.prune.passes import Pass, halting, in_evaluation
from codesign.prune.plan import PrunePlan
from codesign.prune.readers import Reader, readers_of
from codesign.prune.slicing import Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructedLayer:
    """How well one layer's inputs could be rebuilt.

    kept, channels : that it reads after and before the cut
    observations : images times positions
    ridge, condition, error, held_out : of the least squares, see `Solution`. `held_out` far above `error` says that there
        were too few images
    """

    layer: str
    kept: int
    channels: int
    observations: int
    ridge: float
    condition: float
    error: float
    held_out: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """What became of the layers that read channels which left.

    layers : those that got other weights
    dropped : those whose share of the cut channels is lost, because no weight of theirs can make up for it, and why
    """

    layers: tuple[ReconstructedLayer, ...]
    dropped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"layers": [asdict(layer) for layer in self.layers], "dropped": list(self.dropped)}

    def __str__(self) -> str:
        lines = [
            f"{'layer':<32} {'reads':>12} {'observations':>12} {'ridge':>6} {'condition':>9} {'error':>8} {'held out':>8}"
        ]
        for x in self.layers:
            reads = f"{x.kept} of {x.channels}"
            fit = f"{x.ridge:>6.0e} {x.condition:>9.1e} {x.error:>8.1e} {x.held_out:>8.1e}"
            lines.append(f"{x.layer:<32} {reads:>12} {x.observations:>12} {fit}")
        return "\n".join([*lines, *(f"not made up for: {place}" for place in self.dropped)])


def reconstruct(dense: nn.Module, smaller: nn.Module, plan: PrunePlan, batches: Sequence[Any]) -> Reconstruction:
    """Give every layer of `smaller` that lost inputs, and all behind it, the weights that rebuild them best, in place.

    Both networks are run once in evaluation mode, side by side. All batches wait at the same layer while its weights are
    found: memory grows with the activations of all images at one place of the network, and with the square of its width.

    Parameters
    ----------
    dense : the network for which the plan was made; smaller : what `prune` made of it
    batches : network inputs (tensors, or tuples that begin with one): a few hundred images of the training data

    A mean is made up for (by the bias, or the running mean of the batch norm behind the layer) only where that is the
    same at every position: not where a convolution pads with zeros.
    """
    readers = readers_of(dense, plan.groups)
    gone = np.zeros(len(plan.groups.classes.of), bool)
    gone[list(plan.removed)] = True
    losing = [reader for reader in readers.plain if gone[reader.classes].any()]
    behind = readers.of(lambda reader: bool(losing) and readers.plain.index(reader) >= readers.plain.index(losing[0]))
    dropped = {place for name, place in readers.others.items() if gone[name]}
    layers: list[ReconstructedLayer] = []
    undo: Undo = []
    weights = _Weights(dense, smaller, plan, gone, undo)
    try:
        with ExitStack() as stack:
            stack.enter_context(in_evaluation(dense, smaller))
            before = stack.enter_context(halting(dense, behind, batches))
            after = stack.enter_context(halting(smaller, behind, batches))
            if not before:
                raise DataError("batches is empty; give at least one batch")
            while (found := _halves(before, after)) is not None:
                layers.append(weights.fit(*found))
        ran = {layer.layer for layer in layers}
        dropped |= {f"'{reader.name}' does not run in evaluation mode" for reader in losing if reader.name not in ran}
    except BaseException:
        for action in reversed(undo):
            action()
        raise
    return Reconstruction(layers=tuple(layers), dropped=tuple(sorted(dropped)))


def _halves(before: Sequence[Pass], after: Sequence[Pass]) -> tuple[Reader, Means, Means] | None:
    """On to the next reader with every batch; what it reads in both networks, over every other image each.

    None at the end of the network.
    """
    halves = Moments(), Moments()
    dealt, at = 0, None
    for one, other in zip(before, after, strict=True):
        dense, smaller = one.go(), other.go()
        if dense is None and smaller is None:
            continue
        if dense is None or smaller is None or dense[0] is not smaller[0]:
            raise ModelError("the smaller network does not run the same layers in the same order as the dense one")
        at, x = dense
        for i, half in enumerate(halves):
            rows = slice((i + dealt) % 2, None, 2)
            half.observe(smaller[1][rows].flatten(0, 1), x[rows].flatten(0, 1))
        dealt += len(x)
    if at is None:
        return None
    if dealt < 2:
        raise DataError("one image is too few: half of the images tell how well the other half is rebuilt; give more")
    return at, halves[0].means(), halves[1].means()


class _Weights:
    """Finds the weights of one reader after another, and writes them into the smaller network."""

    def __init__(self, dense: nn.Module, smaller: nn.Module, plan: PrunePlan, gone: np.ndarray, undo: Undo) -> None:
        self._dense = {name: tensor for name, (_, tensor, _) in stored_tensors(dense).items()}
        self._smaller = {name: tensor for name, (_, tensor, _) in stored_tensors(smaller).items()}
        self._stored, self._gone, self._undo = plan.groups.stored, gone, undo
        self._gone_atoms = plan.groups.gone(plan.removed)

    @torch.no_grad()
    def fit(self, reader: Reader, one: Means, other: Means) -> ReconstructedLayer:
        """Solve for T, and set the weights of the reader to W T', in float64 until they are stored."""
        stays = torch.from_numpy(~self._gone[reader.classes])
        every = one.plus(other)
        if reader.shift is None:
            solution = solve(one.about_zero(), other.about_zero(), stays)
        else:
            solution = solve(one.about(every.z, every.x), other.about(every.z, every.x), stays)
            self._shift(reader, every.x - (every.z.unsqueeze(1) @ solution.turn).squeeze(1))
        self._put(reader, solution.turn)
        return ReconstructedLayer(
            layer=reader.name,
            kept=int(stays.sum()),
            channels=stays.numel(),
            observations=every.count,
            ridge=solution.ridge,
            condition=solution.condition,
            error=solution.error,
            held_out=solution.held_out,
        )

    def _columns(self, reader: Reader) -> torch.Tensor:
        """Weights of the dense network for the outputs that stay: [blocks, outputs, channels, places]."""
        weight = self._dense[reader.weight].detach().double().cpu()
        atoms = self._stored[reader.weight].atoms[1 if reader.axis == 0 else 0]
        stays = torch.from_numpy(np.flatnonzero(~self._gone_atoms[atoms]))
        return reader.columns(weight.index_select(1 if reader.axis == 0 else 0, stays))

    def _put(self, reader: Reader, turn: torch.Tensor) -> None:
        weight = self._smaller[reader.weight]
        self._undo.append(partial(weight.data.copy_, weight.detach().clone()))
        reader.put(weight.data, torch.einsum("bocp,bkc->bokp", self._columns(reader), turn))

    def _shift(self, reader: Reader, constant: torch.Tensor) -> None:
        assert reader.shift is not None
        held = self._smaller[reader.shift.tensor]
        self._undo.append(partial(held.data.copy_, held.detach().clone()))
        change = torch.einsum("bocp,bc->bo", self._columns(reader), constant).flatten()
        part = held.data.chunk(reader.shift.parts)[reader.shift.part]
        part.add_((reader.shift.sign * change).to(held.device, held.dtype))
