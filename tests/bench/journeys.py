"""How many files a reader passes on the way from a configuration to its result.

`python -m tests.bench.journeys [--files]` runs two journeys on configs/searches/digits.toml with a tiny budget, watched
by `sys.setprofile`:

    search    from the parsed command line to the last line of trials.jsonl
    model     from the parsed command line of `codesign apply` to the folder of the saved network

A file of codesign/ counts when one of its functions is entered; lambdas, comprehensions and generators belong to the file
that they stand in. Left out are what importing runs (module bodies, the faces of rooms), methods that a dataclass is born
with (they have no file), `errors.py` and the progress bars.

    path     files of the rooms through which the journey itself runs (cli, config, records, runs), and of every other
             room the doors: files that one of those calls directly. What lies behind a door a reader need not open
    strict   every file that is entered
    stays    visits on the path: how often it comes to another file than it was in
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import codesign

PACKAGE = Path(codesign.__file__).resolve().parent
OWN_ROOMS = ("cli", "config.py", "records.py", "runs")
LEFT_OUT = ("errors.py", "cli/progress.py", "runs/__init__.py", "nn/__init__.py")
BUDGET = 12  # trainings: the baselines, uniform designs and a batch of the method


class Watch:
    """The files of the package that are entered while it is switched on.

    until : file and function after whose last return nothing counts; None: everything counts
    """

    def __init__(self, until: tuple[str, str] | None = None) -> None:
        self.until = until
        self.entered: Counter[str] = Counter()  # every file
        self.doors: Counter[str] = Counter()  # files that own rooms call directly
        self.stays = 0
        self.counted: tuple[list[str], list[str], int] = ([], [], 0)
        self._last = ""
        self._names: dict[str, str | None] = {}

    def _name_of(self, frame: FrameType | None) -> str | None:
        """The file of a frame below codesign/; None if it is none of ours or is left out."""
        if frame is None or frame.f_code.co_name == "<module>":
            return None
        path = frame.f_code.co_filename
        if path not in self._names:
            inside = Path(path).is_relative_to(PACKAGE) and path.endswith(".py")
            name = str(Path(path).relative_to(PACKAGE)) if inside else None
            self._names[path] = None if name in LEFT_OUT else name
        return self._names[path]

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` calls."""
        if event not in ("call", "return"):
            return
        name = self._name_of(frame)
        if name is None:
            return
        if event == "call":
            self.entered[name] += 1
            outer = frame.f_back
            while outer is not None and self._name_of(outer) is None:
                outer = outer.f_back
            caller = self._name_of(outer)
            if (caller is None and not self.doors) or (caller is not None and room(caller) in OWN_ROOMS):
                self.doors[name] += 1
                if name != self._last:
                    self.stays += 1
                    self._last = name
        elif room(name) in OWN_ROOMS:
            self._last = name
        if event == "return" and (name, frame.f_code.co_name) == self.until:
            self.counted = sorted(self.doors), sorted(self.entered), self.stays

    def result(self) -> tuple[list[str], list[str], int]:
        """Files on the path, every file, stays."""
        return self.counted if self.until is not None else (sorted(self.doors), sorted(self.entered), self.stays)


def room(name: str) -> str:
    """The folder of a file, or the file itself."""
    return name.partition("/")[0]


def watched(watch: Watch, *words: str) -> Watch:
    """A command once to load and compile everything, and once more under watch."""
    from codesign.cli import parser

    def run(before: Callable[[], None]) -> None:
        arguments = parser().parse_args(list(words))
        before()
        arguments.execute(arguments)

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run(lambda: None)
        try:
            run(lambda: sys.setprofile(watch))
        finally:
            sys.setprofile(None)
    return watch


def configuration(folder: Path) -> Path:
    """The demonstration with a tiny budget."""
    text = Path("configs/searches/digits.toml").read_text(encoding="utf-8")
    path = folder / "digits.toml"
    short = text.replace("trainings = 48", f"trainings = {BUDGET}").replace("pruned_epochs = 6", "pruned_epochs = 1")
    path.write_text(short.replace('name = "digits"', 'name = "digits"\ntrain_images = 320'), encoding="utf-8")
    return path


def journeys(folder: Path) -> dict[str, Watch]:
    """Both journeys."""
    from codesign.search import read_trials

    config, run = configuration(folder), folder / "run"
    until = ("search/log.py", "append")
    found = {"search": watched(Watch(until), "search", str(config), "--out", str(run), "--fresh")}
    trial = next(t for t in reversed(read_trials(run)) if t.point.channels)
    found["model"] = watched(Watch(), "apply", str(run), str(trial.index), "--out", str(folder / "model"))
    return found


def main() -> None:
    """Print both journeys."""
    with tempfile.TemporaryDirectory() as folder:
        for name, watch in journeys(Path(folder)).items():
            path, every, stays = watch.result()
            print(f"{name}: path {len(path)} files, {stays} stays; strict {len(every)} files")
            rooms, strict = Counter(map(room, path)), Counter(map(room, every))
            print("  " + ", ".join(f"{key} {rooms[key]} of {strict[key]}" for key in sorted(strict)))
            if "--files" in sys.argv:
                print("\n".join(f"    {file}" for file in path))


if __name__ == "__main__":
    main()
