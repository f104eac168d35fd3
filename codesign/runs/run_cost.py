"""What a training run costs on the accelerator: the sum over its stages of steps x the cost of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from codesign.cost import Cost, CostReport, area_um2, option_table, simulate
from codesign.design import DesignPoint, LayerFormats
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.workload import Phase, Workload

STRUCTURE_SEARCH = "structure search"


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedStage:
    """Training steps of a network with the channels and in the formats of `point`.

    sampling : no training, but the forward passes of a structure search
    """

    point: DesignPoint
    steps: int
    sampling: bool = False


def cost_of(
    stages: Sequence[PricedStage], workload: Workload, accelerator: Accelerator, optimizer: Optimizer
) -> dict[str, Cost]:
    """Cost of the stages of a run by phase of training, and of its structure searches.

    workload : with all channels
    """
    parts = {**{phase.value: Cost() for phase in Phase}, STRUCTURE_SEARCH: Cost()}
    steps: dict[DesignPoint, dict[Phase, Cost]] = {}
    for stage in stages:
        if stage.point not in steps:
            steps[stage.point] = simulate(workload, stage.point, accelerator, optimizer=optimizer).by_phase()
        step = steps[stage.point]
        if stage.sampling:
            parts[STRUCTURE_SEARCH] += stage.steps * step[Phase.FORWARD]
        else:
            for phase in Phase:
                parts[phase.value] += stage.steps * step[phase]
    return parts


def latency_s_of(
    stages: Sequence[PricedStage], workload: Workload, accelerator: Accelerator, optimizer: Optimizer
) -> float:
    """Seconds of the stages of a run."""
    return sum(cost.latency_s for cost in cost_of(stages, workload, accelerator, optimizer).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """Prices designs that train with all channels for `dense_steps`, are cut, and train on to `steps`.

    structure_images : images that the structure search propagates (forward only) at the cut; a design that keeps all of
        its channels is not charged for it
    """

    workload: Workload
    accelerator: Accelerator
    optimizer: Optimizer
    dense_steps: int
    steps: int
    structure_images: int

    def stages(self, point: DesignPoint) -> list[PricedStage]:
        """The run of a design."""
        if not point.channels:
            return [PricedStage(point=point, steps=self.steps)]
        dense, batches = replace(point, channels=()), math.ceil(self.structure_images / self.workload.batch)
        return [
            PricedStage(point=dense, steps=self.dense_steps),
            PricedStage(point=dense, steps=batches, sampling=True),
            PricedStage(point=point, steps=self.steps - self.dense_steps),
        ]

    def parts(self, point: DesignPoint) -> dict[str, Cost]:
        """Cost of a whole run by phase of training, and of the structure search."""
        return cost_of(self.stages(point), self.workload, self.accelerator, self.optimizer)

    def step(self, point: DesignPoint) -> CostReport:
        """One training step with the channels of the point, as every step after the cut is."""
        return simulate(self.workload, point, self.accelerator, optimizer=self.optimizer)

    def latency_s(self, point: DesignPoint) -> float:
        """Seconds of a whole run."""
        return sum(cost.latency_s for cost in self.parts(point).values())

    def energy_j(self, point: DesignPoint) -> float:
        """Joules of a whole run."""
        return sum(cost.energy_j for cost in self.parts(point).values())

    def peak_memory_bytes(self, point: DesignPoint) -> float:
        """DRAM that a training step occupies before the cut, when all channels are there."""
        dense = replace(point, channels=())
        return float(simulate(self.workload, dense, self.accelerator, optimizer=self.optimizer).memory.peak_bytes)

    def metrics(self) -> dict[str, Callable[[DesignPoint], float]]:
        """What is recorded of every design beside its latency, by name."""
        area = self.area_um2
        return {
            "energy_j": self.energy_j,
            "peak_memory_bytes": self.peak_memory_bytes,
            "area_um2": lambda _: area,
        }

    @property
    def area_um2(self) -> float:
        """Of the accelerator."""
        return area_um2(self.accelerator)

    def layer_tables(
        self, levels: Mapping[str, Sequence[int]], formats: Sequence[LayerFormats]
    ) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
        """`latency_s` and `energy_j` of a whole run for each weight layer: arrays [in level, out level, format option].

        levels : channel group -> counts, the full count first. The structure search is left out of these tables.
        """
        table = option_table(self.workload, self.accelerator, levels=levels, formats=formats, optimizer=self.optimizer)
        return {"latency_s": self._of_run(table.seconds), "energy_j": self._of_run(table.energy_j)}

    def _of_run(self, steps: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
        found = {}
        for layer, by_phase in steps.items():
            step = by_phase.sum(axis=-1)
            step = np.where(np.isfinite(step), step, 0.0)  # unequal levels of one tied group: never chosen together
            found[layer] = self.dense_steps * step[:1, :1] + (self.steps - self.dense_steps) * step
        return found
