"""How many files a reader passes on the way from a configuration to its result.

`python -m tests.bench.journeys [--files]` runs two journeys on the digits of configs/searches/digits.toml with a tiny
budget, watched by `sys.setprofile`:

    search    from the command to the last line of trials.jsonl
    model     from `codesign apply` of a searched design to the folder of the saved network

Counted is a file of codesign/ when one of its functions is entered. Lambdas, comprehensions and generators belong to
the file that they stand in. Left out: module bodies (imports), methods that a class is born with (`__init__` of a
dataclass and the like have no file), `errors.py`, and the parser and progress bars of the command line.

    strict    every file that is entered
    journey   the rooms that the journey runs through (cli, config, runs, search, nn) with every file; every other room
              with its doors alone: files that are entered from another room. What lies behind a door is that room's own
              business, and a reader of the journey does not follow it
    stays     how often the journey comes to a file that is not the one before, on the path through the journey's files
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
JOURNEY = ("cli", "config.py", "loop", "runs", "search", "nn")
LEFT_OUT = ("errors.py", "cli/__init__.py", "cli/progress.py")
BUDGET = 12  # trainings: the baselines, uniform designs and a batch of the method


class Watch:
    """The files of the package that are entered while it is switched on."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()  # every file
        self.doors: Counter[str] = Counter()  # file -> entries from another room
        self.stays = 0
        self._last = ""
        self._names: dict[str, str | None] = {}

    def name_of(self, frame: FrameType) -> str | None:
        """The file of a frame below codesign/; None if it is none of ours or is left out."""
        code = frame.f_code
        if code.co_name == "<module>":
            return None
        path = code.co_filename
        if path not in self._names:
            inside = Path(path).is_relative_to(PACKAGE) and path.endswith(".py")
            name = str(Path(path).relative_to(PACKAGE)) if inside else None
            self._names[path] = None if name in LEFT_OUT else name
        return self._names[path]

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` calls."""
        if event not in ("call", "return"):
            return
        name = self.name_of(frame)
        if name is None:
            return
        outer = frame.f_back
        while outer is not None and self.name_of(outer) is None:
            outer = outer.f_back
        caller = self.name_of(outer) if outer is not None else None
        if event == "call":
            self.entered[name] += 1
            if caller is None or room(caller) != room(name):
                self.doors[name] += 1
        here = name if event == "call" else caller
        if here is not None and here != self._last and here in self.doors | self.own():
            self.stays += 1
            self._last = here

    def own(self) -> dict[str, int]:
        """Files of the journey's rooms."""
        return {name: 1 for name in self.entered if room(name) in JOURNEY}

    def journey(self) -> list[str]:
        """Files of the journey's rooms, and the doors of the others."""
        return sorted({name for name in self.entered if room(name) in JOURNEY or name in self.doors})


def room(name: str) -> str:
    """The folder of a file, or the file itself."""
    return name.partition("/")[0]


def watched(action: Callable[[], object]) -> Watch:
    """Run `action` once to load and compile, and once more under watch."""
    watch = Watch()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        action()
        sys.setprofile(watch)
        try:
            action()
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
    from codesign.cli import main
    from codesign.search import read_trials

    config, run = configuration(folder), folder / "run"
    found = {"search": watched(lambda: main(["search", str(config), "--out", str(run), "--fresh"]))}
    trial = next(t for t in reversed(read_trials(run)) if t.point.channels)
    model = folder / "model"
    found["model"] = watched(lambda: main(["apply", str(run), str(trial.index), "--out", str(model)]))
    return found


def main() -> None:
    """Print both journeys."""
    with tempfile.TemporaryDirectory() as folder:
        for name, watch in journeys(Path(folder)).items():
            files = watch.journey()
            print(f"{name}: {len(files)} files, {watch.stays} stays; strictly {len(watch.entered)} files")
            rooms = Counter(room(file) for file in files)
            strict = Counter(room(file) for file in watch.entered)
            print("  " + ", ".join(f"{key} {rooms[key]} of {strict[key]}" for key in sorted(strict)))
            if "--files" in sys.argv:
                print("\n".join(f"    {file}" for file in files))


if __name__ == "__main__":
    main()
