"""What a search found, as plain values: the source of `report.html`, and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from codesign.cost import CostReport
from codesign.design import DesignPoint, LayerFormats, Role
from codesign.report import SCHEMA
from codesign.runs.attribution import gains_s
from codesign.runs.run_cost import RunCost
from codesign.runs.search_settings import Settings
from codesign.search import Agreement, Measured, ParetoFront, SearchResult, convergence, summarise
from codesign.workload import Phase, Workload

HEADLINE_POINTS = 0.005  # of accuracy that the design to look at first may lose against the rival
HYPERVOLUME_POINTS = 0.10  # the reference lies so far below the accuracy of the most accurate baseline
_BIT_ROLES = (Role.WEIGHT, Role.ACTIVATION, Role.ERROR, Role.GRADIENT)


def mean_bits(workload: Workload, point: DesignPoint) -> float:
    """Bits of a number, averaged over weight, activation, error and gradient, and over layers by their MACs."""
    layers = workload.with_channels(dict(point.channels)).weight_layers
    macs = {name: layer.macs for name, layer in layers.items()}
    bits = {
        name: sum(getattr(point.formats_of(name), role).bits for role in _BIT_ROLES) / len(_BIT_ROLES)
        for name in layers
    }
    return float(sum(macs[name] * bits[name] for name in layers) / sum(macs.values()))


def headline(
    points: Sequence[Mapping[str, Any]], reference: str, rival: str, best: int | None = None
) -> tuple[str, int]:
    """One sentence on the design to look at first, and its trial.

    That is `best`, the trial of the best design within the limits of the run; without limits, the fastest searched design
    that was measured at most half a point below uniform `rival`.
    """
    by_label = {point["label"]: point for point in points if point["kind"] == "baseline"}
    base, other = by_label[reference], by_label[rival]
    searched = sorted((p for p in points if p["kind"] == "searched"), key=lambda p: float(p["latency_s"]))
    first = next((p for p in searched if p["accuracy"] >= other["accuracy"] - HEADLINE_POINTS), None)
    if best is not None:
        first = next(p for p in points if p["trial"] == best)
    if first is None:
        text = f"No searched design comes within half a point of uniform {rival} ({100 * other['accuracy']:.2f} %)."
        return text, int(other["trial"])
    text = (
        f"Trial {first['trial']} trains {base['latency_s'] / first['latency_s']:.2f} times as fast as uniform {reference} "
        f"and {other['latency_s'] / first['latency_s']:.2f} times as fast as uniform {rival} (simulated), at "
        f"{100 * first['accuracy']:.2f} % measured accuracy (95 % interval {100 * first['accuracy_low']:.2f} to "
        f"{100 * first['accuracy_high']:.2f} %) against {100 * base['accuracy']:.2f} and {100 * other['accuracy']:.2f} %."
    )
    return text, int(first["trial"])


def report_data(
    settings: Settings,
    method: str,
    result: SearchResult,
    run_cost: RunCost,
    baselines: Mapping[str, DesignPoint],
    made_with: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that the report shows (schema `codesign.report.SCHEMA`).

    baselines : the uniform designs; speed-ups are over the first, the headline's rival is the last
    made_with : see `provenance`
    """
    labels = list(baselines)
    leading = _leading(result.front)
    measured = summarise(result.trials)
    predicted = {t.index: t.proposal.predicted_accuracy for t in result.trials}
    start = baselines[labels[0]]
    table = _Formats()
    points = [_record(m, leading, labels, predicted[m.trials[0]], start, run_cost, table) for m in measured]
    best = None if result.best is None else result.best.trials[0]
    text, chosen = headline(points, labels[0], labels[-1], best)
    return {
        "schema": SCHEMA,
        "title": settings.title,
        "accelerator": run_cost.accelerator.name,
        "bandwidth_bytes_per_s": run_cost.accelerator.dram.bandwidth_bytes_per_s,
        "network": settings.network.name,
        "data": settings.data.name,
        "method": method,
        "trainings": len(result.trials),
        "failed": [{"trial": t.index, "failure": t.failure} for t in result.trials if t.failure],
        "reference": labels[0],
        "headline": text,
        "chosen": chosen,
        "notes": list(result.notes),
        "phases": [phase.value for phase in Phase],
        "layers": [
            {"name": name, "channels": _outputs(run_cost.workload, name)} for name in run_cost.workload.weight_layers
        ],
        "formats": table.to_json(),
        "points": points,
        "agreement": _agreement(result.agreement),
        "progress": _progress(result, points, labels),
        "provenance": dict(made_with),
    }


def _leading(front: ParetoFront) -> dict[int, bool]:
    return {member.trials[0]: lead for member, lead in zip(front.members, front.leading, strict=True)}


def _agreement(agreement: Agreement | None) -> dict[str, Any] | None:
    """None where too few designs were proposed by a model for a rank correlation."""
    if agreement is None or math.isnan(agreement.rank_correlation):
        return None
    return asdict(agreement)


def _progress(result: SearchResult, points: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Hypervolume as the budget was spent, up to the time of the first baseline and `HYPERVOLUME_POINTS` of accuracy.

    Every trial is a step, so that two runs can be compared at any budget that both have spent.
    """
    by_label = {p["label"]: p for p in points}
    latency_s = by_label[labels[0]]["latency_s"]
    accuracy = max(by_label[label]["accuracy"] for label in labels if label in by_label) - HYPERVOLUME_POINTS
    steps = convergence(result.trials, latency_s=latency_s, accuracy=accuracy, steps=len(result.trials))
    return {"latency_s": latency_s, "accuracy": accuracy, "steps": [asdict(step) for step in steps]}


def _record(
    measured: Measured,
    leading: Mapping[int, bool],
    labels: Sequence[str],
    predicted: float | None,
    start: DesignPoint,
    run_cost: RunCost,
    table: _Formats,
) -> dict[str, Any]:
    """One design, with what the report shows of it."""
    point, workload = measured.point, run_cost.workload
    smaller = workload.with_channels(dict(point.channels))
    low, high = measured.interval
    return {
        "trial": measured.trials[0],
        "label": measured.label if measured.label in labels else "",
        "kind": "baseline" if measured.label in labels else "searched",
        "front": measured.trials[0] in leading,
        "leading": leading.get(measured.trials[0], False),
        "latency_s": measured.latency_s,
        "energy_j": run_cost.energy_j(point),
        "accuracy": measured.accuracy,
        "accuracy_low": max(0.0, low),
        "accuracy_high": min(1.0, high),
        "predicted_accuracy": predicted,
        "seeds": measured.seeds,
        "parameters": smaller.parameters,
        "macs": smaller.macs,
        "mean_bits": mean_bits(workload, point),
        "phases_s": {name: cost.latency_s for name, cost in run_cost.parts(point).items()},
        "gains_s": gains_s(run_cost, start, point),
        "channels": [_outputs(smaller, name) for name in smaller.weight_layers],
        "formats": [table.index(point.formats_of(name)) for name in workload.weight_layers],
        "roofline": _roofline(run_cost.step(point), list(workload.weight_layers)),
    }


class _Formats:
    """Each combination of formats once; a design then names them by number."""

    def __init__(self) -> None:
        self._places: dict[LayerFormats, int] = {}

    def index(self, formats: LayerFormats) -> int:
        return self._places.setdefault(formats, len(self._places))

    def to_json(self) -> list[dict[str, Any]]:
        return [
            {
                role.value: {"name": str(fmt), "exponent_bits": fmt.exponent_bits, "mantissa_bits": fmt.mantissa_bits}
                for role in Role
                for fmt in (getattr(formats, role),)
            }
            for formats in self._places
        ]


def _roofline(step: CostReport, layers: Sequence[str]) -> list[list[float]]:
    """Rows of layer (its place), phase (its place), operations per DRAM byte, 1e9 operations per second, and at most.

    An operation is a multiplication or an addition. At most: with every multiply-accumulate unit at work in the formats
    of that product. Four significant digits: they are drawn, not calculated with.
    """
    phases = list(Phase)
    return [
        [
            layers.index(row.layer),
            phases.index(row.phase),
            *(
                float(f"{value:.4g}")
                for value in (
                    16 * row.cost.macs / row.cost.traffic_bits,  # 2 operations x 8 bits a byte
                    2e-9 * row.cost.macs / row.cost.latency_s,
                    2e-9 * row.cost.macs / row.cost.ideal_s,
                )
            ),
        ]
        for row in step.rows
        if row.layer in layers and row.cost.macs
    ]


def _outputs(workload: Workload, layer: str) -> int:
    return workload.weight_layers[layer].out_channels
