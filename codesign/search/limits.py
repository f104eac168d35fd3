"""What a design must meet, and what to say when none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codesign.errors import InfeasibleError
from codesign.search.front import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a design must meet to be the `best`; None where nothing is asked.

    accuracy_floor : share of the test set, 0 to 1
    latency_s : most seconds of the whole training run
    metrics : most of each further cost, by the metric's name; `dp` proposes no design above one
    """

    accuracy_floor: float | None = None
    latency_s: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def allow(self, latency_s: float, metrics: Mapping[str, float]) -> bool:
        """Whether a design of these costs is within the limits, whatever its accuracy."""
        return (self.latency_s is None or latency_s <= self.latency_s) and all(
            metrics[name] <= limit for name, limit in self.metrics.items()
        )


def best_of(measured: Sequence[Measured], limits: Limits) -> Measured | None:
    """The fastest design that meets the floor and all limits; without a floor the most accurate within the limits.

    None if there is neither a floor nor a limit.

    Raises
    ------
    InfeasibleError : no measured design meets them; the message names the nearest values that one did reach
    """
    floor = limits.accuracy_floor
    if floor is None and limits.latency_s is None and not limits.metrics:
        return None
    within = [m for m in measured if limits.allow(m.latency_s, dict(m.metrics))]
    if floor is None and within:
        return max(within, key=lambda m: (m.accuracy, -m.latency_s))
    accurate = [m for m in measured if floor is not None and m.accuracy >= floor]
    both = [m for m in within if m in accurate]
    if both:
        return min(both, key=lambda m: (m.latency_s, -m.accuracy))
    raise InfeasibleError(
        f"none of {len(measured)} measured designs has {' and '.join(_wanted(limits))}; "
        f"{', or '.join(_levers(limits, within, accurate)) or 'spend a larger budget'}"
    )


def _wanted(limits: Limits) -> list[str]:
    floor, most_s = limits.accuracy_floor, limits.latency_s
    return [
        *([] if floor is None else [f"accuracy >= {floor:g}"]),
        *([] if most_s is None else [f"latency <= {most_s:g} s"]),
        *[f"{name} <= {limit:g}" for name, limit in limits.metrics.items()],
    ]


def _levers(limits: Limits, within: Sequence[Measured], accurate: Sequence[Measured]) -> list[str]:
    """What would help, given the designs within the limits and those that meet the floor."""
    levers = []
    if limits.accuracy_floor is not None and within:
        most = max(m.accuracy for m in within)
        levers.append(f"lower the accuracy floor to {most:.4g}, the most that was measured within the limits")
    if accurate and limits.latency_s is not None:
        levers.append(f"raise the latency limit to {min(m.latency_s for m in accurate):.4g} s")
    if accurate:
        least = {name: min(dict(m.metrics)[name] for m in accurate) for name in limits.metrics}
        levers += [f"raise the limit of {name} to {value:.4g}" for name, value in least.items()]
    if limits.accuracy_floor is not None and not accurate:
        levers.append("train longer, or allow more channels and wider formats")
    return levers
