"""`trials.jsonl`: the append-only record of a run, durable after every line, written by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from codesign.errors import RunDirectoryError
from codesign.search.trial import Trial

SCHEMA = "codesign.trials/1"
RECORD = "trials.jsonl"
LOCK = "trials.lock"


class TrialLog:
    """The trials of a run directory, held exclusively until `close`.

    The first line is a header with the identity of the run (search space, method, seed, ...); every other line is a
    trial. A line counts once it ends in a line feed; what a killed process left of a last line is cut off when the
    directory is opened again. The lock belongs to the process and goes with it, however it ends.
    """

    def __init__(self, directory: Path | str, *, fresh: bool = False) -> None:
        """Open or create the record of `directory`.

        fresh : discard what an earlier run left there

        Raises
        ------
        RunDirectoryError : another process holds the directory, or its record is damaged
        """
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.directory)
        try:
            path = self.directory / RECORD
            if fresh:
                path.unlink(missing_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            _sync_directory(self.directory)
            self._header, self.trials, good_bytes = _parse(path)
            os.ftruncate(self._file, good_bytes)
        except BaseException:
            os.close(self._lock)
            raise

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Say whose run this is: written first in a new record, compared in an old one.

        Raises
        ------
        RunDirectoryError : the record belongs to a run of another identity
        """
        identity = json.loads(json.dumps(identity))
        if self._header is None:
            self._header = {"schema": SCHEMA, "identity": identity}
            self._write(self._header)
        elif self._header["identity"] != identity:
            raise RunDirectoryError(
                f"{self.directory} holds a run of another configuration "
                f"({_difference(self._header['identity'], identity)}); "
                "choose another directory, or start over with fresh"
            )

    def append(self, trial: Trial) -> None:
        """Write one trial; it is on the disk when this returns."""
        self._write(trial.to_json())
        self.trials.append(trial)

    def close(self) -> None:
        """Give the directory back."""
        os.close(self._file)
        os.close(self._lock)

    def __enter__(self) -> TrialLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)


def read_trials(directory: Path | str) -> list[Trial]:
    """The trials of a run directory, in the order of their index, without taking its lock."""
    path = Path(directory) / RECORD
    if not path.is_file():
        raise RunDirectoryError(f"{directory} holds no {RECORD}; name the directory of a search")
    return _parse(path)[1]


def _parse(path: Path) -> tuple[dict[str, Any] | None, list[Trial], int]:
    """Header, trials by index (a later line of the same index wins), and how many bytes of the file are whole."""
    content = path.read_bytes()
    lines = content.split(b"\n")[:-1]  # what follows the last line feed is empty or torn
    header: dict[str, Any] | None = None
    trials: dict[int, Trial] = {}
    good_bytes = 0
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if number == 1:
                if record["schema"] != SCHEMA:
                    raise RunDirectoryError(
                        f"{path}: schema {record['schema']!r} is not {SCHEMA!r}; start over with fresh"
                    )
                header = record
            else:
                trial = Trial.from_json(record)
                trials[trial.index] = trial
        except (ValueError, KeyError, TypeError) as error:
            not_json = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))
            if number == len(lines) and not_json:  # a crash of the machine can leave a whole line of zeros
                break
            raise RunDirectoryError(
                f"{path}, line {number}: not a trial ({error}); restore the file or start over"
            ) from error
        good_bytes += len(line) + 1
    return header, [trials[index] for index in sorted(trials)], good_bytes


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a run directory that has no `TrialLog`; `RunDirectoryError` where another process does."""
    handle = _locked(directory)
    try:
        yield
    finally:
        os.close(handle)


def _locked(directory: Path) -> int:
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 32).decode().strip() or "unknown"
        os.close(handle)
        raise RunDirectoryError(
            f"{directory} is in use by process {holder}; wait for it, or choose another directory"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            was, now = (json.dumps(side.get(key)) for side in (old, new))
            if len(was) + len(now) < 80:
                return f"{key} was {was}, is {now}"
            return f"{key} differs"
    return "its header differs"
