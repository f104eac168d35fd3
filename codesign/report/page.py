"""`report.html`: a template with the run's numbers inside; no server, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

SCHEMA = "codesign.run/2"  # of the document that the page shows
_SCRIPTS = ("draw.js", "front.js", "design.js", "machines.js", "search.js")


def render(run: Mapping[str, Any]) -> str:
    """The report page of one search run.

    run : what `codesign.runs.report_data` makes (schema `SCHEMA`): title, accelerator, network, data,
        points (front, baselines and dominated points, each with channels, formats, time by part and roofline), how the
        search went, provenance
    """
    # "</script>" inside a string would end the script element; JSON may escape any character
    data = json.dumps(run, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": escape(str(run["title"])),
        "style": _text("page.css"),
        "script": "\n".join(_text(name) for name in _SCRIPTS),
        "data": data,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _text("page.html"))


def _text(name: str) -> str:
    return resources.files("codesign.report").joinpath(name).read_text(encoding="utf-8").rstrip("\n")
