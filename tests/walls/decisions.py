"""The index of the design decisions: `python -m tests.walls.decisions` writes docs/decisions/README.md anew."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
INDEX = FOLDER / "README.md"

HEAD = """# Decisions

One page each: context, decision, what was measured, consequence. A page is never edited once it has landed. A later page that \
changes its mind says "Supersedes NNNN" in its first lines, and this index says so beside the older one. The last column is the \
beginning of the page's SHA-256: a test compares it, so an edit does not go unnoticed.

New page: take the next free number of its subject (00xx the whole, 01x formats, 02x cost, 03x filters, 04x pruning, 05x search, \
06x quantization, 07x what-if and reports, 08x reading networks), then run `python -m tests.walls.decisions`.

| | decision | superseded by | text |
|---|---|---|---|
"""


def pages() -> list[Path]:
    """Every decision, by number."""
    return sorted(FOLDER.glob("[0-9]*.md"))


def title(text: str) -> str:
    """The heading without its number."""
    return re.sub(r"^#\s*(\d{4}\s+)?", "", text.splitlines()[0])


def supersedes(text: str) -> list[str]:
    """Numbers of the decisions that a page says it supersedes, wholly or in part."""
    return [
        number for line in re.findall(r"[Ss]upersedes ([^.\n]*)", text) for number in re.findall(r"\b(\d{4})\b", line)
    ]


def index() -> str:
    """The index as it should read."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    later: dict[str, list[str]] = {}
    for page, text in texts.items():
        for number in supersedes(text):
            later.setdefault(number, []).append(f"[{page.name[:4]}]({page.name})")
    rows = [
        f"| {page.name[:4]} | [{title(text)}]({page.name}) | {', '.join(later.get(page.name[:4], []))} | "
        f"{hashlib.sha256(text.encode()).hexdigest()[:8]} |\n"
        for page, text in texts.items()
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    INDEX.write_text(index(), encoding="utf-8")
