"""Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from codesign.search import Trial

PLAIN_EVERY_S = 10.0  # without a terminal, a line at most this often


class Progress:
    """Counts finished trainings up to `total`."""

    def __init__(self, unit: str, total: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._unit, self._total, self._done = unit, total, 0
        self._said_s = self._began_s = time.monotonic()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("search", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        self._began_s = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line."""
        if self._console.is_terminal:
            self._console.print(text, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def resumed(self, count: int) -> None:
        """Trainings that an earlier run of the same search has finished."""
        if count:
            self._total -= count
            self._bar.update(self._task, total=self._total)
            self.say(f"{count} {self._unit} are done already; going on")

    def trial(self, trial: Trial) -> None:
        """One more training."""
        self._done += 1
        measured = trial.measurement
        result = trial.failure or (f"accuracy {100 * measured.accuracy:.2f} %" if measured else "")
        self._bar.update(self._task, completed=self._done, description=f"trial {trial.index}: {result}")
        now_s = time.monotonic()
        last = self._done == self._total
        if not self._console.is_terminal and (now_s - self._said_s >= PLAIN_EVERY_S or trial.failure or last):
            self._said_s = now_s
            left_s = (now_s - self._began_s) / self._done * (self._total - self._done)
            self.say(f"{self._done} of {self._total} {self._unit}, {left_s:.0f} s left; trial {trial.index}: {result}")
