"""Where a sweep's rows go: CSV, Parquet (in shards when they are many), or a table in HTML."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codesign.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

SHARD_POINTS = 1_000_000  # above this, a Parquet result is a folder of shards
HTML_ROWS = 20_000  # a browser shows no more with ease


class Sink(Protocol):
    """Takes frames one after the other; the file has its name only once it is whole."""

    path: Path
    rows: int

    def add(self, frame: pd.DataFrame) -> None:
        """Write some rows."""

    def close(self) -> None:
        """All is written."""


def sink_of(path: Path, points: int) -> Sink:
    """By suffix."""
    match path.suffix:
        case ".csv":
            return _Csv(path)
        case ".parquet":
            return _Parquet(path, sharded=points > SHARD_POINTS)
        case ".html":
            return _Html(path)
    raise ConfigError(f"--out {path}: the suffix must be .csv, .parquet or .html, got '{path.suffix}'")


class _Csv:
    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._part = path.with_name(path.name + ".part")
        self._part.unlink(missing_ok=True)

    def add(self, frame: pd.DataFrame) -> None:
        frame.to_csv(self._part, mode="a", header=self.rows == 0, index=False)
        self.rows += len(frame)

    def close(self) -> None:
        os.replace(self._part, self.path)


class _Parquet:
    """One file; or a folder of part-00000.parquet, ..., which readers of Parquet take as one table."""

    def __init__(self, path: Path, *, sharded: bool) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"--out {path}: Parquet needs pyarrow; pip install 'codesign[parquet]'") from error
        self.path, self.rows = path, 0
        self._sharded, self._shards = sharded, 0
        self._frames: list[pd.DataFrame] = []
        if sharded:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise ConfigError(f"--out {path}: exists already; shards need a new or empty folder")
            path.mkdir(parents=True, exist_ok=True)

    def add(self, frame: pd.DataFrame) -> None:
        self._frames.append(frame)
        self.rows += len(frame)
        if self._sharded and sum(map(len, self._frames)) >= SHARD_POINTS:
            self._flush(self.path / f"part-{self._shards:05d}.parquet")

    def _flush(self, path: Path) -> None:
        import pandas as pd

        part = path.with_name(path.name + ".part")
        pd.concat(self._frames, ignore_index=True).to_parquet(part, index=False)
        os.replace(part, path)
        self._frames = []
        self._shards += 1

    def close(self) -> None:
        if self._frames:
            self._flush(self.path / f"part-{self._shards:05d}.parquet" if self._sharded else self.path)


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>What if</title><style>:root{color-scheme:light dark}body{font:14px/1.4 system-ui,sans-serif;margin:1rem}
div{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.15rem .6rem;
text-align:right;border-bottom:1px solid #8885;white-space:nowrap}</style><div>"""


class _Html:
    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._frames: list[pd.DataFrame] = []

    def add(self, frame: pd.DataFrame) -> None:
        self._frames.append(frame)
        self.rows += len(frame)
        if self.rows > HTML_ROWS:
            raise ConfigError(f"--out {self.path}: more than {HTML_ROWS} rows; use --top, --pareto, or .csv, .parquet")

    def close(self) -> None:
        import pandas as pd

        frame = pd.concat(self._frames, ignore_index=True)
        cells = frame.map(lambda value: f"{value:.6g}" if isinstance(value, float) else html.escape(str(value)))
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(_HEAD + cells.to_html(index=False, escape=False, border=0) + "</div></html>", encoding="utf-8")
        os.replace(part, self.path)
