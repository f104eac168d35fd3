"""What a search found, as one plain document: the source of `report.html`, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codesign.design import DesignPoint, Role
from codesign.loop.pricing import Pricing
from codesign.search import Measured, ParetoFront, Trial
from codesign.search.front import summarise
from codesign.workload import Workload

SCHEMA = "codesign.run/1"
_BIT_ROLES = (Role.WEIGHT, Role.ACTIVATION, Role.ERROR, Role.GRADIENT)


def mean_bits(workload: Workload, point: DesignPoint) -> float:
    """Bits of a number, averaged over weight, activation, error and gradient, and over layers by their MACs."""
    layers = workload.with_channels(dict(point.channels)).weight_layers
    macs = {name: layer.macs for name, layer in layers.items()}
    bits = {
        name: sum(getattr(point.formats_of(name), role).bits for role in _BIT_ROLES) / len(_BIT_ROLES)
        for name in layers
    }
    return sum(macs[name] * bits[name] for name in layers) / sum(macs.values())


def headline(points: Sequence[Mapping[str, Any]], reference: str, rival: str) -> tuple[str, int]:
    """One sentence on the design to look at first, and its trial.

    The fastest searched design whose measured accuracy is no lower than that of uniform `rival`; if there is none, the
    fastest whose 95 % interval reaches it.
    """
    by_label = {point["label"]: point for point in points if point["kind"] == "baseline"}
    base, other = by_label[reference], by_label[rival]
    searched = sorted((p for p in points if p["kind"] == "searched"), key=lambda p: float(p["latency_s"]))
    best = next((p for p in searched if p["accuracy"] >= other["accuracy"]), None)
    best = best or next((p for p in searched if p["accuracy_high"] >= other["accuracy"]), None)
    if best is None:
        text = f"No searched design reaches the accuracy of uniform {rival} ({100 * other['accuracy']:.2f} %)."
        return text, int(other["trial"])
    text = (
        f"Trial {best['trial']} trains {base['latency_s'] / best['latency_s']:.2f} times as fast as uniform {reference} "
        f"and {other['latency_s'] / best['latency_s']:.2f} times as fast as uniform {rival} (simulated), at "
        f"{100 * best['accuracy']:.2f} % measured accuracy (95 % interval {100 * best['accuracy_low']:.2f} to "
        f"{100 * best['accuracy_high']:.2f} %) against {100 * base['accuracy']:.2f} and {100 * other['accuracy']:.2f} %."
    )
    return text, int(best["trial"])


def document(
    *,
    title: str,
    network: str,
    data: str,
    baselines: Sequence[str],
    trials: Sequence[Trial],
    front: ParetoFront,
    pricing: Pricing,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that the report shows (schema `codesign.run/1`).

    baselines : labels of the uniform designs; speed-ups are over the first, the headline's rival is the last
    """
    leading = {member.trials[0]: lead for member, lead in zip(front.members, front.leading, strict=True)}
    points = [_record(measured, leading, baselines, pricing) for measured in summarise(trials)]
    text, chosen = headline(points, baselines[0], baselines[-1])
    return {
        "schema": SCHEMA,
        "title": title,
        "accelerator": pricing.accelerator.name,
        "network": network,
        "data": data,
        "trainings": len(trials),
        "failed": [{"trial": t.index, "failure": t.failure} for t in trials if t.failure],
        "reference": baselines[0],
        "headline": text,
        "chosen": chosen,
        "notes": list(notes),
        "points": points,
        "provenance": dict(provenance),
    }


def _record(
    measured: Measured, leading: Mapping[int, bool], baselines: Sequence[str], pricing: Pricing
) -> dict[str, Any]:
    """One design, with what the report shows of it."""
    point, workload = measured.point, pricing.workload
    smaller = workload.with_channels(dict(point.channels))
    low, high = measured.interval
    return {
        "trial": measured.trials[0],
        "label": measured.label if measured.label in baselines else "",
        "kind": "baseline" if measured.label in baselines else "searched",
        "front": measured.trials[0] in leading,
        "leading": leading.get(measured.trials[0], False),
        "latency_s": measured.latency_s,
        "energy_j": pricing.energy_j(point),
        "accuracy": measured.accuracy,
        "accuracy_low": max(0.0, low),
        "accuracy_high": min(1.0, high),
        "seeds": measured.seeds,
        "parameters": smaller.parameters,
        "macs": smaller.macs,
        "mean_bits": mean_bits(workload, point),
        "phases_s": {name: cost.latency_s for name, cost in pricing.parts(point).items()},
        "layers": [
            {
                "name": name,
                "of": _outputs(workload, name),
                "channels": _outputs(smaller, name),
                "formats": point.formats_of(name).names(),
            }
            for name in workload.weight_layers
        ],
    }


def _outputs(workload: Workload, layer: str) -> int:
    return workload.channel_groups[workload.weight_layers[layer].out_group].channels
