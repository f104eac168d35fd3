"""`report.html`: a template with the run's numbers inside; no server, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any


def render(run: Mapping[str, Any]) -> str:
    """The report page of one search run.

    run : the document that `codesign.loop.document` makes (schema `codesign.run/1`): title, accelerator, network, data,
        points (front, baselines and dominated points, each with latency by phase and layers), provenance
    """
    template = resources.files("codesign.report").joinpath("page.html").read_text(encoding="utf-8")
    # "</script>" inside a string would end the script element; JSON may escape any character
    data = json.dumps(run, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return template.replace("{{title}}", escape(str(run["title"]))).replace("{{data}}", data)
