"""How the sizes of tensors follow the channels of a reading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from codesign.network import ChannelGroup
from codesign.workload.assembly import total
from codesign.workload.layers import Extent

if TYPE_CHECKING:
    import torch

    from codesign.network import Reading, Value

_HELD = "a tensor has two sets of channels that can leave, in '{}'; a workload resizes one of them"


class Sizes:
    """Extents of the tensors of a reading, in units of cells, and the groups that the cells become.

    A key of a term is `#` and the number of a cell, or the name of a layer or an input whose channels are in no cell.
    """

    def __init__(self, reading: Reading) -> None:
        self._batch = reading.batch
        self._cells = reading.cells
        self._outputs: dict[str, torch.Tensor | None] = {}  # layer -> labels of its output channels
        self._produced: set[int] = set()  # cells of channels that a layer has written
        self._fixed: dict[str, int] = {}  # key that is no cell -> its channels
        self._why: dict[str, str] = {}  # the same -> why they are fixed
        self._held: dict[int, str] = {}  # cell -> why it is fixed, though its classes are not

    def input(self, name: str, value: Value) -> None:
        """An input of the network; the second dimension of a real one is its channels."""
        if len(value.shape) > 1 and value.real:
            self._fixed[name], self._why[name] = value.shape[1], "the network's input"

    def extent(self, value: Value, dims: Iterable[int], where: str = "") -> Extent:
        """Numbers along `dims`, as units of cells; channels that cannot leave have no terms."""
        chosen = set(dims)
        extent = Extent((), math.prod(value.shape[d] for d in chosen if value.flows or d not in value.expanded))
        found = False
        for labels in value.labels:
            seen = self._cells.seen(labels)
            along = {d for d, size in enumerate(seen.shape) if size > 1}
            cells, never = self._cells.counts(seen)
            free = {cell: n for cell, n in cells.items() if self._cells.is_free(cell)}
            if not free or not along <= chosen:
                continue
            if found:
                self._held.update(dict.fromkeys(free, _HELD.format(where or "the network itself")))
                continue
            found = True
            rest = extent.constant // math.prod(value.shape[d] for d in along)
            kept = never + sum(n * self._cells.size(cell) for cell, n in cells.items() if cell not in free)
            extent = Extent(tuple((f"#{cell}", n * rest) for cell, n in free.items()), kept * rest)
        return extent

    def elements(self, value: Value, dims: Iterable[int] | None = None, where: str = "") -> Extent:
        """Numbers of one example along `dims`, or along all; of a tensor without examples, all of them."""
        extent = self.extent(value, range(len(value.shape)) if dims is None else dims, where)
        if not value.flows or any(n % self._batch for n in (*(n for _, n in extent.terms), extent.constant)):
            return extent
        return Extent(tuple((key, n // self._batch) for key, n in extent.terms), extent.constant // self._batch)

    def _along(self, value: Value, dim: int) -> torch.Tensor | None:
        """Labels of the channels along one dimension; None if there are none."""
        return next((a.reshape(-1) for a in value.labels if a.shape[dim] > 1 and a.numel() == a.shape[dim]), None)

    def _channels(self, value: Value, dim: int, key: str, why: str) -> Extent:
        """What a weight layer has along one dimension, channels that cannot leave included."""
        dim = dim % len(value.shape)
        for labels in value.labels:
            seen = self._cells.seen(labels)
            if seen.shape[dim] > 1 and seen.size == seen.shape[dim]:
                cells, never = self._cells.counts(seen)
                known = {cell: n for cell, n in cells.items() if cell in self._produced}
                rest = never + sum(n * self._cells.size(cell) for cell, n in cells.items() if cell not in known)
                if known:
                    return Extent(tuple((f"#{cell}", n) for cell, n in known.items()), rest)
        if key not in self._fixed:
            self._fixed[key], self._why[key] = value.shape[dim], why
        return Extent(((key, 1),))

    def groups(self) -> dict[str, ChannelGroup]:
        """Key of an extent -> its group, in the order of the layers."""
        found = {f"#{cell}": group for cell, group in self._cells.groups(self._outputs, self._held).items()}
        for key, channels in self._fixed.items():
            layers = (key,) if key in self._outputs else ()
            found[key] = ChannelGroup(
                name=key,
                layers=layers,
                channels=channels,
                units=0,
                unit_channels=(1,) * len(layers),
                why_fixed=self._why[key],
            )
        order = [*(key for key in self._fixed if key not in self._outputs), *self._outputs]
        return dict(sorted(found.items(), key=lambda item: order.index((item[1].layers or (item[0],))[0])))

    def inputs(self, x: Value, dim: int, name: str, source: str) -> Extent:
        """What layer `name` reads along one dimension of a tensor that `source` made."""
        if source in self._fixed and x.shape[dim] == self._fixed[source] and not x.labels:
            return Extent(((source, 1),))
        return self._channels(x, dim, f"{name}.input", "not channels of one layer")

    def outputs(self, name: str, values: Sequence[Value], dim: int) -> Extent:
        """What layer `name` writes along one dimension of its results."""
        why = "there is one of them, or they are not followed (an opaque module)"
        arrays = [self._along(value, dim % len(value.shape)) for value in values]
        followed = [array for array in arrays if array is not None]
        self._outputs[name] = self._cells.joined(followed) if len(followed) == len(values) else None
        for array in followed:
            self._produced |= self._cells.counts(self._cells.seen(array))[0].keys()
        if len(followed) < len(values):
            self._fixed[name], self._why[name] = sum(value.shape[dim] for value in values), why
            return Extent(((name, 1),))
        return total([self._channels(value, dim, name, why) for value in values])
