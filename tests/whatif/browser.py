"""Headless Chromium: a page's text after its scripts have run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def dump(page: Path, profile: Path, width: int = 1280) -> str:
    """The document after 10 s of the page's own time, or when nothing is left to do."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        f"--window-size={width},900", "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def record(document: str, name: str) -> Any:
    """The JSON inside the element of that id."""
    found = re.search(rf'id="{name}"[^>]*>(.*?)</', document, re.DOTALL)
    assert found is not None, f"no element {name}"
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
