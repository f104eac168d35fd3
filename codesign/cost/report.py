"""What a training step costs, per layer and phase."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from codesign.workload import Phase

if TYPE_CHECKING:
    import pandas as pd


class Bound(StrEnum):
    """What a piece of work waits for."""

    COMPUTE = "compute"
    MEMORY = "memory"
    VECTOR = "vector"


class Optimizer(StrEnum):
    """The update rule, which fixes the traffic of a parameter: state words read and written, gradient, weight copy."""

    SGD = "sgd"
    MOMENTUM = "momentum"
    ADAM = "adam"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Sums over some part of a training step.

    compute_s, vector_s, memory_s : time that the array, the vector unit and the DRAM are busy; they overlap
    latency_s : time until it is done
    """

    compute_s: float = 0.0
    vector_s: float = 0.0
    memory_s: float = 0.0
    latency_s: float = 0.0
    traffic_bits: int = 0
    macs: int = 0
    energy_j: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            compute_s=self.compute_s + other.compute_s,
            vector_s=self.vector_s + other.vector_s,
            memory_s=self.memory_s + other.memory_s,
            latency_s=self.latency_s + other.latency_s,
            traffic_bits=self.traffic_bits + other.traffic_bits,
            macs=self.macs + other.macs,
            energy_j=self.energy_j + other.energy_j,
        )

    @property
    def bound(self) -> Bound:
        """Whichever is busy longest; memory on a tie with nothing else to name."""
        if self.memory_s >= max(self.compute_s, self.vector_s):
            return Bound.MEMORY
        return Bound.COMPUTE if self.compute_s >= self.vector_s else Bound.VECTOR


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """Cost of one layer in one phase. `owner`: the weight layer that it belongs to (itself, for a weight layer)."""

    layer: str
    owner: str
    phase: Phase
    cost: Cost
    utilisation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """One training step of a workload on an accelerator."""

    workload: str
    accelerator: str
    mode: str
    rows: tuple[LayerCost, ...]
    area_um2: float

    @property
    def total(self) -> Cost:
        """The whole step."""
        return sum((row.cost for row in self.rows), Cost())

    @property
    def latency_s(self) -> float:
        """Seconds per training step."""
        return sum(row.cost.latency_s for row in self.rows)

    @property
    def energy_j(self) -> float:
        """Joules per training step."""
        return sum(row.cost.energy_j for row in self.rows)

    @property
    def traffic_bits(self) -> int:
        """DRAM bits moved per training step."""
        return sum(row.cost.traffic_bits for row in self.rows)

    def by_layer(self) -> dict[str, Cost]:
        """Cost per layer, phases summed, in order of execution."""
        found: dict[str, Cost] = {}
        for row in self.rows:
            found[row.layer] = found.get(row.layer, Cost()) + row.cost
        return found

    def by_phase(self) -> dict[Phase, Cost]:
        """Cost per phase, layers summed."""
        found = dict.fromkeys(Phase, Cost())
        for row in self.rows:
            found[row.phase] += row.cost
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and phase; units in the column names."""
        import pandas as pd

        return pd.DataFrame(
            {
                "layer": row.layer,
                "owner": row.owner,
                "phase": row.phase.value,
                "macs": row.cost.macs,
                "compute_s": row.cost.compute_s,
                "vector_s": row.cost.vector_s,
                "memory_s": row.cost.memory_s,
                "latency_s": row.cost.latency_s,
                "traffic_bits": row.cost.traffic_bits,
                "energy_j": row.cost.energy_j,
                "utilisation": row.utilisation,
                "bound": row.cost.bound.value,
            }
            for row in self.rows
        )
