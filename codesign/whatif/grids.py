"""The full grid of a few keys, priced in chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.cost.columns import Columns
from codesign.cost.mac import native_area_um2
from codesign.cost.machine import UnitCosts, machine_of
from codesign.cost.vector import Optimizer
from codesign.design import LayerFormats, uniform
from codesign.errors import ConfigError, ModelError
from codesign.hardware import Accelerator
from codesign.native import lib
from codesign.whatif.axes import ROLES, Axis, axes_of, formats_with, with_values
from codesign.whatif.steps import MACHINE, Work, best_mappings, price_steps, work_of
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
_REFUSED = {
    lib.CS_ERR_RANGE: "a size is out of the core's range",
    lib.CS_ERR_OVERFLOW: "more than 2^55 multiply-accumulates",
    lib.CS_ERR_CAPACITY: "no tile fits into the on-chip memory",
    lib.CS_ERR_MACHINE: "the machine is out of the core's range",
}


class MappingChoice(StrEnum):
    """How the products of a point are run."""

    SEARCHED = "searched"  # the best mapping of every point
    FIXED = "fixed"  # the best mapping on the machine as it is, searched again only where it does not fit


@dataclass(frozen=True, kw_only=True)
class Grid:
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
    def _works(self) -> tuple[list[int], list[Work], list[Accelerator]]:
        """Axes that change the work, the work of each of their combinations, and its multiply-accumulate units."""
        places = [i for i, axis in enumerate(self.axes) if _changes_work(axis.key)]
        works, machines = [], []
        networks: dict[tuple[Any, Any], Workload] = {}
        for values in itertools.product(*(self.axes[i].values for i in places)):
            named = {self.axes[i].key: value for i, value in zip(places, values, strict=True)}
            machine = with_values(
                self.accelerator, {k: v for k, v in named.items() if k.startswith(("mac.", "throughput."))}
            )
            shape = (named.get("keep"), named.get("batch", self.network.batch))
            if shape not in networks:
                networks[shape] = kept_network(self.network, shape[0]).with_batch(shape[1])
            formats = formats_with(self.formats, named)
            work = work_of(networks[shape], formats, UnitCosts(machine), self.optimizer)
            if self.mapping is MappingChoice.FIXED:
                work = replace(work, mappings=best_mappings(work, machine))
            works.append(work)
            machines.append(machine)
        return places, works, machines

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
        machines, clock_hz, lanes, area = self._machines(columns, number, units)
        steps = price_steps(works, machines[order], lanes[order], number[order])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        steps = {name: column[back] for name, column in steps.items()}
        bad = (steps["status"] != lib.CS_OK) | np.array([bool(work.why) for work in works])[number]
        with np.errstate(invalid="ignore", divide="ignore"):
            elements = (machines["rows"] * machines["cols"] * machines["arrays"]).astype(float)
            energy_pj = (
                steps["mac_pj"]
                + steps["sram_bits"] * machines["sram_pj_per_bit"]
                + steps["traffic_bits"] * machines["dram_pj_per_bit"]
            )
            found: Columns = {
                "latency_s": steps["cycles"] / clock_hz,
                "energy_j": energy_pj * 1e-12,
                "area_um2": area,
                "traffic_bits": steps["traffic_bits"],
                "utilisation": steps["ideal_cycles"] / elements / steps["cycles"],
            }
        for name in ("latency_s", "energy_j", "traffic_bits", "utilisation"):
            found[name][bad] = np.nan
        reasons = np.array([""] + [_REFUSED.get(i, "") for i in range(1, 1 + max(_REFUSED))], dtype=object)
        why = np.where(bad, reasons[steps["status"]], "")
        for i, work in enumerate(works):
            if work.why:
                why[number == i] = work.why
        return pd.DataFrame({**columns, **found, "remapped": steps["remapped"], "why": why})

    def _number(self, places: Sequence[int], where: Sequence[np.ndarray]) -> np.ndarray:
        """One number per point that counts through the values of these axes, the last one fastest."""
        number = np.zeros(len(where[0]), np.int64)
        for i in places:
            number = number * len(self.axes[i].values) + where[i]
        return number

    def _machines(
        self, columns: Mapping[str, np.ndarray], number: np.ndarray, units: Sequence[Accelerator]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(machines, clock, lanes, area) of each point; as `machine_of` and `area_um2` have them, on columns."""
        base = self.accelerator

        def column(key: str) -> np.ndarray:
            part, _, name = key.partition(".")
            return np.broadcast_to(columns.get(key, getattr(getattr(base, part), name)), number.shape)

        clock = column("array.clock_hz")
        machines = np.zeros(len(number), MACHINE)
        machines["rows"], machines["cols"] = column("array.rows"), column("array.cols")
        machines["arrays"] = column("array.count")
        machines["dataflows"] = machine_of(base)["dataflows"]
        for axis in self.axes:
            if axis.key == "dataflow":
                for value in axis.values:
                    masks = machine_of(with_values(base, {"dataflow": value}))["dataflows"]
                    machines["dataflows"][columns["dataflow"] == value] = masks
        machines["sram_bits"] = column("sram.capacity_bytes") * 8
        machines["dram_bits_per_cycle"] = column("dram.bandwidth_bytes_per_s") * 8 / clock
        machines["dram_latency_cycles"] = np.ceil(column("dram.latency_s") * clock)
        machines["sram_pj_per_bit"] = column("sram.energy_pj_per_bit")
        machines["dram_pj_per_bit"] = column("dram.energy_pj_per_bit")
        per_element = np.array([native_area_um2(unit) * unit.mac.area_scale for unit in units])[number]
        elements = column("array.rows") * column("array.cols") * column("array.count")
        area = elements * per_element + column("sram.capacity_bytes") * column("sram.area_um2_per_byte")
        return machines, clock, column("vector.lanes"), area


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


def grid(
    network: Workload,
    accelerator: Accelerator,
    vary: Mapping[str, Sequence[Any]],
    *,
    formats: LayerFormats | None = None,
    optimizer: Optimizer = Optimizer.MOMENTUM,
    mapping: str = "searched",
) -> Grid:
    """Checked grid of a sweep; see `sweep`."""
    if mapping not in list(MappingChoice):
        raise ConfigError(f"mapping must be searched or fixed, got '{mapping}'")
    return Grid(
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
    vary: Mapping[str, Sequence[Any]],
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

    plan = grid(network, accelerator, vary, formats=formats, optimizer=optimizer, mapping=mapping)
    return pd.concat(list(frames(plan)), ignore_index=True)


def frames(plan: Grid) -> Iterator[pd.DataFrame]:
    """The grid chunk by chunk, in order."""
    for start, stop in plan.chunks:
        yield plan.frame(start, stop)
