"""The best rows of a sweep, chunk after chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from codesign.errors import ConfigError, did_you_mean
from codesign.whatif.plan import OBJECTIVES

if TYPE_CHECKING:
    import pandas as pd


def check_objectives(names: Sequence[str]) -> None:
    """Raise `ConfigError` for a name that no sweep computes."""
    for name in names:
        if name not in OBJECTIVES:
            raise ConfigError(f"no objective '{name}'{did_you_mean(name, OBJECTIVES)}")


def top(frame: pd.DataFrame, count: int, by: str) -> pd.DataFrame:
    """The `count` best rows that can run, best first; rows that tie stay in order."""
    check_objectives([by])
    runs = frame[frame["why"] == ""]
    return runs.sort_values(by, ascending=OBJECTIVES[by] > 0, kind="stable").head(count)


def pareto(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The rows that no other row beats: not worse in every objective of `by` and better in one. In order."""
    check_objectives(by)
    runs = frame[frame["why"] == ""]
    values = np.stack([OBJECTIVES[name] * runs[name].to_numpy(float) for name in by], axis=1)
    order = np.lexsort(values.T[::-1])  # a row can only be beaten by one before it
    left, kept = order, []
    while len(left):
        first = values[left[0]]
        equal = (values[left] == first).all(axis=1)
        kept.extend(left[equal].tolist())
        left = left[(values[left] < first).any(axis=1)]
    return runs.iloc[sorted(kept)]
