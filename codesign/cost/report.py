"""What a training step costs, per layer and phase."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from codesign.cost.columns import ORDERS
from codesign.cost.machine import DATAFLOWS, area_um2
from codesign.cost.memory import MemoryUse, memory_use
from codesign.cost.scales import Scales
from codesign.design import DesignPoint, LayerFormats
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.workload import Layer, Phase, Workload

if TYPE_CHECKING:
    import pandas as pd


Key = TypeVar("Key", bound=Hashable)


class Bound(StrEnum):
    """What a piece of work waits for."""

    COMPUTE = "compute"
    MEMORY = "memory"
    VECTOR = "vector"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Sums over some part of a training step.

    latency_s : time until it is done
    compute_s : the arrays are busy, filling and draining included
    vector_s : the vector unit is busy
    memory_s : the DRAM channel is busy, access latencies included; the three overlap
    ideal_s : the multiply-accumulates on arrays that are always full
    traffic_bits : DRAM bits, both directions
    first_bits, second_bits, result_bits : those of the operands and of the result of matrix products, partial sums included
    sram_bits : on-chip memory bits, both directions
    mac_j, sram_j, dram_j : energy of multiply-accumulates, on-chip memory, DRAM; the vector unit's own is not modelled
    """

    latency_s: float = 0.0
    compute_s: float = 0.0
    vector_s: float = 0.0
    memory_s: float = 0.0
    ideal_s: float = 0.0
    macs: float = 0
    traffic_bits: float = 0
    first_bits: float = 0
    second_bits: float = 0
    result_bits: float = 0
    sram_bits: float = 0
    mac_j: float = 0.0
    sram_j: float = 0.0
    dram_j: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in COST_FIELDS})

    def __rmul__(self, count: int) -> Cost:
        return Cost(**{name: count * getattr(self, name) for name in COST_FIELDS})

    @property
    def energy_j(self) -> float:
        """All of the energy that is modelled."""
        return self.mac_j + self.sram_j + self.dram_j

    @property
    def utilisation(self) -> float:
        """Share of the arrays' multiply-accumulates that were used over the whole time; 0 for vector work."""
        return self.ideal_s / self.latency_s if self.latency_s else 0.0

    @property
    def bound(self) -> Bound:
        """Whichever is busy longest."""
        if self.memory_s > max(self.compute_s, self.vector_s):
            return Bound.MEMORY
        return Bound.COMPUTE if self.compute_s >= self.vector_s else Bound.VECTOR


COST_FIELDS = tuple(field.name for field in fields(Cost))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One layer in one phase.

    owner : the weight layer that it belongs to (itself, for a weight layer)
    mappings : how its matrix products run: dataflow, loop order outermost first, tile m x n x k
    """

    layer: str
    owner: str
    phase: Phase
    cost: Cost
    mappings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class CostReport:
    """One training step of a network on an accelerator.

    network : the workload with the channels of `point`
    mode : which laws were used: `physical`
    layer_numbers, phase_numbers : index into `network.layers` and into `Phase` of each row; a layer may have several
        rows in one phase (the remainders of a strided input gradient, the two operands of an attention product)
    columns : field of `Cost` -> array of rows
    mappings : columns of `cs_mappings`; -1 in every column for vector work
    """

    network: Workload
    point: DesignPoint
    accelerator: Accelerator
    optimizer: Optimizer
    scales: Scales
    mode: str
    layer_numbers: np.ndarray
    phase_numbers: np.ndarray
    columns: dict[str, np.ndarray]
    mappings: dict[str, np.ndarray]

    @property
    def latency_s(self) -> float:
        """Seconds per training step: the layers run one after the other."""
        return float(self.columns["latency_s"].sum())

    @property
    def energy_j(self) -> float:
        """Joules per training step."""
        return float(sum(self.columns[name].sum() for name in ("mac_j", "sram_j", "dram_j")))

    @property
    def traffic_bits(self) -> float:
        """DRAM bits moved per training step."""
        return float(self.columns["traffic_bits"].sum())

    @property
    def area_um2(self) -> float:
        """Area of the accelerator's arrays and on-chip memory."""
        return area_um2(self.accelerator)

    @cached_property
    def memory(self) -> MemoryUse:
        """DRAM that the step occupies, and whether it fits."""
        capacity = self.accelerator.dram.capacity_bytes
        return memory_use(self.network, formats_at(self.point), self.optimizer, self.scales, capacity)

    @property
    def total(self) -> Cost:
        """The whole step."""
        return self._sum(np.arange(len(self.layer_numbers)))

    @cached_property
    def rows(self) -> tuple[LayerCost, ...]:
        """One row per layer and phase, in order of execution of the forward pass."""
        phases, found = list(Phase), []
        for key, where in _places(list(zip(self.layer_numbers.tolist(), self.phase_numbers.tolist(), strict=True))):
            layer = self.network.layers[key[0]]
            found.append(
                LayerCost(
                    layer=layer.name,
                    owner=layer.owner,
                    phase=phases[key[1]],
                    cost=self._sum(where),
                    mappings=tuple(self._mapping(i) for i in where if self.mappings["order"][i] >= 0),
                )
            )
        return tuple(found)

    def by_layer(self) -> dict[str, Cost]:
        """Cost per layer, phases summed, in order of execution."""
        layers = self.network.layers
        return {layers[i].name: self._sum(where) for i, where in _places(self.layer_numbers.tolist())}

    def by_owner(self) -> dict[str, Cost]:
        """Cost per weight layer with everything that belongs to it: norms, activations, pools, attention products."""
        owners = [self.network.layers[i].owner for i in self.layer_numbers.tolist()]
        return {name: self._sum(where) for name, where in _places(owners)}

    def by_phase(self) -> dict[Phase, Cost]:
        """Cost per phase, layers summed."""
        return {phase: self._sum(np.flatnonzero(self.phase_numbers == i)) for i, phase in enumerate(Phase)}

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and phase; units in the column names."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": row.layer,
                "owner": row.owner,
                "phase": row.phase.value,
                **{name: getattr(row.cost, name) for name in COST_FIELDS},
                "energy_j": row.cost.energy_j,
                "utilisation": row.cost.utilisation,
                "bound": row.cost.bound.value,
                "mapping": " + ".join(row.mappings),
            }
            for row in self.rows
        )

    def _sum(self, where: Sequence[int] | np.ndarray) -> Cost:
        return Cost(**{name: float(self.columns[name][where].sum()) for name in COST_FIELDS})

    def _mapping(self, i: int) -> str:
        """`ws nmk 512x128x2304`: dataflow, loops from outside, tile m x n x k; `8*` before it: 8 products a step."""
        m = self.mappings
        together = f"{m['tile_repeats'][i]}*" if m["tile_repeats"][i] > 1 else ""
        tile = f"{m['tile_m'][i]}x{m['tile_n'][i]}x{m['tile_k'][i]}"
        return f"{DATAFLOWS[m['dataflow'][i]]} {ORDERS[m['order'][i]]} {together}{tile}"


def formats_at(point: DesignPoint) -> Callable[[Layer], LayerFormats]:
    """Formats of each layer: its own, else its owner's, else the default."""
    named = dict(point.formats)
    if not named:
        return lambda layer: point.default
    return lambda layer: named.get(layer.name) or named.get(layer.owner) or point.default


def _places(keys: Sequence[Key]) -> Iterable[tuple[Key, list[int]]]:
    """Each key, and where it stands."""
    places: dict[Key, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    return places.items()
