"""Progress on stderr: a bar with the time that is left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from codesign.search import Trial

LINE_EVERY_S = 5.0  # where there is no terminal, a line at most this often


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """`with progress("e4m3", total) as update: ... update(done)`, from 0 to `total`."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)
        return
    start = last = time.monotonic()

    def line(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_S and done < total:
            last = now
            left_s = (now - start) * (total - done) / done
            console.print(f"{label}: {done / total:.0%}, {left_s:.0f} s left", highlight=False)

    yield line


class TrainingProgress:
    """Counts finished trainings up to `total`; a short one counts as its share."""

    def __init__(self, unit: str, total: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._unit, self._total, self._done = unit, float(total), 0.0
        self._said_s = self._began_s = time.monotonic()
        self._bar = Progress(
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

    def __enter__(self) -> TrainingProgress:
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

    def resumed(self, count: float) -> None:
        """Trainings that an earlier run of the same search has finished."""
        if count:
            self._total -= count
            self._bar.update(self._task, total=self._total)
            self.say(f"{count:g} {self._unit} are done already; going on")

    def trial(self, trial: Trial) -> None:
        """One more training."""
        self._done += trial.trainings
        measured = trial.measurement
        result = trial.failure or (f"accuracy {100 * measured.accuracy:.2f} %" if measured else "")
        self._bar.update(self._task, completed=self._done, description=f"trial {trial.index}: {result}")
        now_s = time.monotonic()
        last = self._done >= self._total - 1e-9
        if not self._console.is_terminal and (now_s - self._said_s >= LINE_EVERY_S or trial.failure or last):
            self._said_s = now_s
            left_s = (now_s - self._began_s) / self._done * (self._total - self._done)
            self.say(
                f"{self._done:g} of {self._total:g} {self._unit}, {left_s:.0f} s left; trial {trial.index}: {result}"
            )
