"""What would make a step faster: every lever is pulled, and the step simulated again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from codesign.cost.report import CostReport
from codesign.cost.simulate import simulate
from codesign.cost.vector import is_fusable
from codesign.design import DesignPoint, LayerFormats
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator, Dataflow
from codesign.workload import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """A change and what it gives.

    latency_s : seconds of a step with the change
    row_latency_s : (layer, phase) -> seconds with the change
    """

    name: str
    latency_s: float
    row_latency_s: dict[tuple[str, Phase], float]


def levers(report: CostReport) -> list[Lever]:
    """Each lever of the machine and of the formats, best first. The gain is that of simulating the step again.

    `elementwise work fused` is the one estimate: the step without the rows of activations, sums and dropout.
    """
    machine = report.accelerator
    found = [_fused(report)]
    for name, changed in _machines(machine):
        found.append(_lever(name, _again(report, report.point, changed)))
    for name, point in _points(report.point):
        try:
            found.append(_lever(name, _again(report, point, machine)))
        except CostError:  # a format that this machine cannot run is no lever
            continue
    return sorted(found, key=lambda lever: lever.latency_s)


def _machines(machine: Accelerator) -> list[tuple[str, Accelerator]]:
    array, dram = machine.array, machine.dram
    plans: list[tuple[str, Accelerator]] = [
        ("twice the DRAM bandwidth", _with(machine, "dram", bandwidth_bytes_per_s=2 * dram.bandwidth_bytes_per_s)),
        ("no DRAM latency", _with(machine, "dram", latency_s=0.0)),
        ("twice the on-chip memory", _with(machine, "sram", capacity_bytes=2 * machine.sram.capacity_bytes)),
        ("twice the arrays", _with(machine, "array", count=2 * array.count)),
        ("twice the vector lanes", _with(machine, "vector", lanes=2 * machine.vector.lanes)),
    ]
    if min(array.rows, array.cols) > 1:
        quartered = {"rows": -(-array.rows // 2), "cols": -(-array.cols // 2), "count": 4 * array.count}
        plans.append(("four arrays of half the side for each", _with(machine, "array", **quartered)))
    if set(array.dataflows) != set(Dataflow):
        plans.append(("all three dataflows", replace(machine, array=replace(array, dataflows=tuple(Dataflow)))))
    return plans


def _with(machine: Accelerator, part: str, **values: float) -> Accelerator:
    return replace(machine, **{part: replace(getattr(machine, part), **values)})


def _points(point: DesignPoint) -> list[tuple[str, DesignPoint]]:
    """Narrower formats in all layers, and a narrower state of the optimizer."""
    plans = []
    for name, wide in (("float16", 16), ("e4m3fn", 8), ("e2m1", 4)):
        fmt = FloatFormat.parse(name)
        if any(formats.activation.bits > wide for formats in _all_formats(point)):
            plans.append((f"tensors of at most {wide} bits", _map_formats(point, _narrower(fmt))))
    if any(formats.optimizer_state.bits > 16 for formats in _all_formats(point)):
        half = FloatFormat.parse("bfloat16")
        plans.append(
            ("optimizer state of 16 bits", _map_formats(point, lambda formats: replace(formats, optimizer_state=half)))
        )
    return plans


def _all_formats(point: DesignPoint) -> list[LayerFormats]:
    return [point.default, *(formats for _, formats in point.formats)]


def _narrower(fmt: FloatFormat) -> Callable[[LayerFormats], LayerFormats]:
    def change(formats: LayerFormats) -> LayerFormats:
        roles = ("weight", "activation", "error", "gradient")
        wide = {role: fmt for role in roles if getattr(formats, role).bits > fmt.bits}
        return replace(formats, **wide)

    return change


def _map_formats(point: DesignPoint, change: Callable[[LayerFormats], LayerFormats]) -> DesignPoint:
    return replace(
        point,
        default=change(point.default),
        formats=tuple((layer, change(formats)) for layer, formats in point.formats),
    )


def _again(report: CostReport, point: DesignPoint, machine: Accelerator) -> CostReport:
    bare = replace(point, channels=())  # the report's network has lost its channels already
    return simulate(report.network, bare, machine, optimizer=report.optimizer, scales=report.scales)


def _lever(name: str, report: CostReport) -> Lever:
    rows = {(row.layer, row.phase): row.cost.latency_s for row in report.rows}
    return Lever(name=name, latency_s=report.latency_s, row_latency_s=rows)


def _fused(report: CostReport) -> Lever:
    fusable = {layer.name for layer in report.network.layers if is_fusable(layer)}
    rows = {(row.layer, row.phase): 0.0 if row.layer in fusable else row.cost.latency_s for row in report.rows}
    return Lever(name="elementwise work fused", latency_s=sum(rows.values()), row_latency_s=rows)


def best_lever(found: Sequence[Lever], layer: str, phase: Phase, now_s: float) -> tuple[str, float]:
    """The lever that saves most of one layer and phase, and the seconds saved; ("none", 0.0) where none does."""
    name, saved = "none", 0.0
    for lever in found:
        gain = now_s - lever.row_latency_s.get((layer, phase), now_s)
        if gain > saved * (1 + 1e-9) and gain > 1e-9 * now_s:
            name, saved = lever.name, gain
    return name, saved
