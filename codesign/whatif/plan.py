"""Every combination of the values of a few keys, priced in chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, assert_never

import numpy as np

from codesign.cost import (
    REFUSALS,
    Lowering,
    StepWork,
    accelerator_rows,
    best_mappings,
    dataflow_mask,
    lower,
    machine_rows,
    price_steps,
    step_work,
)
from codesign.design import LayerFormats, uniform
from codesign.errors import ConfigError, ModelError
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.whatif.axes import ROLES, Axis, Value, axes_of, formats_with, with_values
from codesign.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 1 << 17  # points at once; about 40 MB
RESULTS = ("latency_s", "energy_j", "area_um2", "traffic_bits", "utilisation", "remapped", "why")
OBJECTIVES = {"latency_s": 1, "energy_j": 1, "area_um2": 1, "traffic_bits": 1, "utilisation": -1}  # -1: more is better
# Points that agree in the first of these are priced next to each other, because the core then does less.
_NEXT_TO = (
    "array.rows",
    "array.cols",
    "array.count",
    "dataflow",
    "array.clock_hz",
    "dram.bandwidth_bytes_per_s",
    "dram.latency_s",
    "sram.capacity_bytes",
)


class MappingChoice(StrEnum):
    """How the products of a point are run."""

    SEARCHED = "searched"  # the best mapping of every point
    FIXED = "fixed"  # the best mapping on the machine as it is, searched again only where it does not fit


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """Every combination of the axes' values; the last axis turns fastest. Picklable: workers get it as a whole."""

    network: Workload
    accelerator: Accelerator
    axes: tuple[Axis, ...]
    formats: LayerFormats
    optimizer: Optimizer = Optimizer.MOMENTUM
    mapping: MappingChoice = MappingChoice.SEARCHED

    @property
    def points(self) -> int:
        """How many combinations."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """(start, stop) of consecutive points that are priced together."""
        return [(start, min(start + CHUNK, self.points)) for start in range(0, self.points, CHUNK)]

    @cached_property
    def _works(self) -> tuple[list[int], list[StepWork], list[Accelerator]]:
        """Axes that change the work, the work of each of their combinations, and its multiply-accumulate units."""
        places = [i for i, axis in enumerate(self.axes) if _changes_work(axis.key)]
        works, machines = [], []
        networks: dict[tuple[float | None, int], Workload] = {}
        for values in itertools.product(*(self.axes[i].values for i in places)):
            named = {self.axes[i].key: value for i, value in zip(places, values, strict=True)}
            machine = with_values(
                self.accelerator, {k: v for k, v in named.items() if k.startswith(("mac.", "throughput."))}
            )
            keep = float(named["keep"]) if "keep" in named else None
            shape = (keep, int(named.get("batch", self.network.batch)))
            if shape not in networks:
                networks[shape] = kept_network(self.network, shape[0]).with_batch(shape[1])
            formats = formats_with(self.formats, named)
            work = step_work(self._lowered(networks[shape], formats), machine)
            match self.mapping:
                case MappingChoice.SEARCHED:
                    works.append(work)
                case MappingChoice.FIXED:
                    works.append(replace(work, mappings=best_mappings(work, machine)))
                case _:
                    assert_never(self.mapping)
            machines.append(machine)
        return places, works, machines

    def _lowered(self, network: Workload, formats: LayerFormats) -> Lowering:
        return lower(((layer, formats) for layer in network.layers), network.batch, self.optimizer)

    def frame(self, start: int, stop: int) -> pd.DataFrame:
        """Points `start` to `stop`: one column per axis, then `RESULTS`; NaN and `why` where a point cannot run."""
        import pandas as pd

        where = np.unravel_index(np.arange(start, stop), [len(axis.values) for axis in self.axes])
        places, works, units = self._works
        number = self._number(places, where)
        columns = {axis.key: np.array(axis.values)[place] for axis, place in zip(self.axes, where, strict=True)}
        rest = [i for i in range(len(self.axes)) if i not in places]
        rest.sort(key=lambda i: _NEXT_TO.index(self.axes[i].key) if self.axes[i].key in _NEXT_TO else len(_NEXT_TO))
        order = np.argsort(self._number([*places, *rest], where), kind="stable")
        machines = self._machines(columns, number, units)
        steps = price_steps(works, _take(machines, order), number[order])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        steps = {name: column[back] for name, column in steps.items()}
        reasons = np.array([REFUSALS[status] for status in range(len(REFUSALS))], dtype=object)
        why = reasons[steps["status"]]
        for i, work in enumerate(works):
            if work.why:
                why[number == i] = work.why
        bad = (steps["status"] != 0) | np.array([bool(work.why) for work in works])[number]
        found = {name: steps[name] for name in ("latency_s", "energy_j", "traffic_bits", "utilisation")}
        for column in found.values():
            column[bad] = np.nan
        found["area_um2"] = machines["area_um2"]
        results = found | {"remapped": steps["remapped"], "why": why}
        return pd.DataFrame(columns | {name: results[name] for name in RESULTS})

    def _number(self, places: Sequence[int], where: Sequence[np.ndarray]) -> np.ndarray:
        """One number per point that counts through the values of these axes, the last one fastest."""
        number = np.zeros(len(where[0]), np.int64)
        for i in places:
            number = number * len(self.axes[i].values) + where[i]
        return number

    def _machines(
        self, columns: Mapping[str, np.ndarray], number: np.ndarray, units: Sequence[Accelerator]
    ) -> np.ndarray:
        """Rows of `cs_machine` of each point: its multiply-accumulate units, with the other keys set."""
        rows = _take(accelerator_rows(units), number)
        for axis in self.axes:
            part, _, name = axis.key.partition(".")
            if axis.key == "dataflow":
                for value in axis.values:
                    masked = with_values(self.accelerator, {"dataflow": value}).array.dataflows
                    rows["dataflows"][columns["dataflow"] == value] = dataflow_mask(masked)
            elif not _changes_work(axis.key) and name in (rows.dtype[part].names or ()):
                rows[part][name] = columns[axis.key]
        return machine_rows(rows)


def _take(rows: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`rows[where]` of structures, moved whole: numpy itself copies field by field."""
    moved: np.ndarray = rows.view(np.dtype((np.void, rows.itemsize)))[where].view(rows.dtype)
    return moved


def _changes_work(key: str) -> bool:
    return key in ("format", "keep", "batch", *ROLES) or key.startswith(("mac.", "throughput."))


def kept_channels(network: Workload, share: float) -> dict[str, int]:
    """The same share of every group of channels that can be cut, rounded up: layer -> output channels."""
    groups = [group for group in network.channel_groups.values() if not group.pinned and group.producers]
    return {group.producers[0]: math.ceil(share * group.units) * group.unit for group in groups}


def kept_network(network: Workload, share: float | None) -> Workload:
    """The network with that share of its channels."""
    if share is None:
        return network
    channels = kept_channels(network, share)
    if not channels and share != 1:
        raise ModelError(f"workload '{network.name}' has no channels that can be cut; leave keep out")
    return network.with_channels(channels)


def sweep_plan(
    network: Workload,
    accelerator: Accelerator,
    vary: Mapping[str, Sequence[Value]],
    *,
    formats: LayerFormats | None = None,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    mapping: str = "searched",
) -> SweepPlan:
    """The checked plan of a sweep; see `sweep`."""
    if mapping not in list(MappingChoice):
        raise ConfigError(f"mapping must be searched or fixed, got '{mapping}'")
    return SweepPlan(
        network=network,
        accelerator=accelerator,
        axes=tuple(axes_of(vary, accelerator)),
        formats=formats or uniform("bf16"),
        optimizer=optimizer,
        mapping=MappingChoice(mapping),
    )


def sweep(
    network: Workload,
    accelerator: Accelerator,
    vary: Mapping[str, Sequence[Value]],
    *,
    formats: LayerFormats | None = None,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    mapping: str = "searched",
) -> pd.DataFrame:
    """One training step of `network` at every combination of the values of `vary`.

    vary : key -> values. Keys of an accelerator's file (`array.rows`, also `macs.rows`; `dram.bandwidth_bytes_per_s`),
        `dataflow` (`os`, `os+ws`), `format`, `format.weight` and the other roles, `keep`, `batch`
    formats : of every layer where `format` is not varied; bfloat16 when left out
    mapping : `searched`, the best for each point; `fixed`, the best on `accelerator` for each network and format, and
        searched only where that does not fit (column `remapped` counts the products)

    Returns one row per point: the varied keys, `latency_s`, `energy_j`, `area_um2`, `traffic_bits`, `utilisation`,
    `remapped`, `why` (why a point cannot run; its results are then NaN).
    """
    import pandas as pd

    plan = sweep_plan(network, accelerator, vary, formats=formats, optimizer=optimizer, mapping=mapping)
    return pd.concat(list(frames(plan)), ignore_index=True)


def frames(plan: SweepPlan) -> Iterator[pd.DataFrame]:
    """The points chunk by chunk, in order."""
    for start, stop in plan.chunks:
        yield plan.frame(start, stop)
