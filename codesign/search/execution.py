"""Where the training runs of a search take place, and where its trials go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from codesign.search.knowledge import Idea
from codesign.search.log import TrialLog
from codesign.search.trial import Trial

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class Evaluate(Protocol):
    """Applies a function to jobs and yields results as they come, in any order: `map`, or a pool's `imap_unordered`."""

    def __call__(self, function: Callable[[_Job], _Result], jobs: Iterable[_Job], /) -> Iterable[_Result]:
        """Results of `function`, one per job."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a search is carried out. Nothing here but `further` changes which designs are trained.

    log : record to write, and to go on from
    identity : whatever else makes the run what it is (data, network, accelerator), as JSON has it; a record of another
        one is refused
    evaluate : applies the training to a batch, see `Evaluate`
    on_trial : called with every new trial, in the order in which they end
    further : designs to train beyond the budget, asked with all trials once it is spent, until it names none
    """

    log: TrialLog | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Evaluate = map
    on_trial: Callable[[Trial], None] | None = None
    further: Callable[[Sequence[Trial]], Sequence[Idea]] | None = None


class Stopwatch:
    """CPU seconds of this process, without those spent while waiting for results of training runs."""

    def __init__(self) -> None:
        self._started_s = time.process_time()
        self._outside_s = 0.0

    def without(self, results: Iterable[_Result]) -> Iterator[_Result]:
        """The same results; the time that it takes to get them does not count."""
        iterator = iter(results)
        while True:
            before_s = time.process_time()
            try:
                result = next(iterator)
            except StopIteration:
                return
            finally:
                self._outside_s += time.process_time() - before_s
            yield result

    def elapsed_s(self) -> float:
        """Seconds so far."""
        return time.process_time() - self._started_s - self._outside_s
