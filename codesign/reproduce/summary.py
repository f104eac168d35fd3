"""Rows to statements: mean and spread over seeds, differences between methods, and what they say about a claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Protocol

from scipy import stats

from codesign.reproduce.ledger import TrainedNetwork

Value = Callable[[Any], float]  # of a row of any experiment


class Measured(Protocol):
    """A row of any experiment."""

    @property
    def top1(self) -> float:
        """Share of test images."""


def points(row: Measured) -> float:
    """Top-1 accuracy in percent."""
    return 100 * row.top1


def of(rows: Sequence[TrainedNetwork], method: str, level: int = 0) -> list[TrainedNetwork]:
    """The rows of one method, by seed."""
    return sorted((row for row in rows if row.method == method and row.level == level), key=lambda row: row.seed)


def spread(rows: Sequence[Any], value: Value, form: str = ".2f") -> str:
    """`mean ± standard deviation` over seeds; the deviation is left out where there is none."""
    values = [value(row) for row in rows]
    if len(set(values)) == 1:
        return f"{values[0]:{form}}"
    return f"{mean(values):{form}} ± {stdev(values):{form}}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the differences of two methods, seed by seed, and its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float

    @classmethod
    def between(cls, ours: Sequence[Any], theirs: Sequence[Any], value: Value = points) -> Difference:
        """`ours` minus `theirs`; both hold the same seeds in the same order."""
        pairs = [value(one) - value(other) for one, other in zip(ours, theirs, strict=True)]
        middle = mean(pairs)
        margin = stats.t.ppf(0.975, len(pairs) - 1) * stdev(pairs) / len(pairs) ** 0.5
        return cls(middle, middle - margin, middle + margin)

    def __str__(self) -> str:
        return f"{self.mean:+.2f} points (95 % interval {self.low:+.2f} to {self.high:+.2f})"

    def verdict(self, bound: float) -> str:
        """Whether the difference is above a bound: with its whole interval, on average only, or not."""
        if self.low > bound:
            return "reproduced"
        if self.mean > bound:
            return "partly reproduced"
        return "not reproduced" + (" (but within the noise)" if self.high > bound else "")
