"""What a training step costs, per layer and phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from codesign.workload import Phase

if TYPE_CHECKING:
    import pandas as pd


Key = TypeVar("Key", str, Phase)


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
    sram_bits: float = 0
    mac_j: float = 0.0
    sram_j: float = 0.0
    dram_j: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in COST_FIELDS})

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """DRAM that a training step occupies, in bytes.

    weights : the copies that the layers read
    optimizer : master weights and moments
    gradients : of all parameters
    stash : activations kept from forward to backward
    workspace : the largest tensors in flight that are not stashed
    """

    weights_bytes: int
    optimizer_bytes: int
    gradients_bytes: int
    stash_bytes: int
    workspace_bytes: int
    capacity_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All of it together."""
        return (
            self.weights_bytes + self.optimizer_bytes + self.gradients_bytes + self.stash_bytes + self.workspace_bytes
        )

    @property
    def fits(self) -> bool:
        """Does it fit into the accelerator's DRAM?"""
        return self.peak_bytes <= self.capacity_bytes


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """One training step of a workload on an accelerator.

    layers, owners, phases : what each row stands for; a layer may have several rows in one phase
    columns : field of `Cost` -> array of rows
    mappings : of each row, empty for vector work
    area_um2 : of arrays and on-chip memory; nan where the machine has no formats (`scalesim`)
    """

    workload: str
    accelerator: str
    mode: str
    layers: tuple[str, ...]
    owners: tuple[str, ...]
    phases: tuple[Phase, ...]
    columns: dict[str, np.ndarray]
    mappings: tuple[str, ...]
    area_um2: float
    memory: MemoryUse

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
    def total(self) -> Cost:
        """The whole step."""
        return self._sum(range(len(self.layers)))

    @cached_property
    def rows(self) -> tuple[LayerCost, ...]:
        """One row per layer and phase, in order of execution of the forward pass."""
        places: dict[tuple[str, Phase], list[int]] = {}
        for i, key in enumerate(zip(self.layers, self.phases, strict=True)):
            places.setdefault(key, []).append(i)
        return tuple(
            LayerCost(
                layer=layer,
                owner=self.owners[where[0]],
                phase=phase,
                cost=self._sum(where),
                mappings=tuple(self.mappings[i] for i in where if self.mappings[i]),
            )
            for (layer, phase), where in places.items()
        )

    def by_layer(self) -> dict[str, Cost]:
        """Cost per layer, phases summed, in order of execution."""
        return {name: self._sum(where) for name, where in _places(self.layers).items()}

    def by_owner(self) -> dict[str, Cost]:
        """Cost per weight layer with everything that belongs to it: norms, activations, pools, attention products."""
        return {name: self._sum(where) for name, where in _places(self.owners).items()}

    def by_phase(self) -> dict[Phase, Cost]:
        """Cost per phase, layers summed."""
        places = _places(self.phases)
        return {phase: self._sum(places.get(phase, ())) for phase in Phase}

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

    def _sum(self, where: Sequence[int] | range) -> Cost:
        index = list(where)
        return Cost(**{name: float(self.columns[name][index].sum()) for name in COST_FIELDS})


def _places(keys: Sequence[Key]) -> dict[Key, list[int]]:
    """Where each key stands."""
    places: dict[Key, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    return places
