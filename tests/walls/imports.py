"""Imports of the package, read from its source text: what the tests of the walls look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "codesign"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name: `from module import name` in line `line` of module `importer`; `name` is empty for `import module`."""

    importer: str
    module: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line}: {self.module} {self.name}".rstrip()


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package below `root`, by its full name; a package is its `__init__.py`."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[Import]:
    """Imports of the package's own modules anywhere in a file, those inside of functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}:{node.lineno}: a relative import; write the full name")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                yield Import(name, node.module or "", alias.name, node.lineno)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield Import(name, alias.name, "", node.lineno)


def room(module: str) -> str:
    """`codesign.search.dp.solve` lies in the room `search`; the package itself in the room of the empty name."""
    return [*module.split("."), ""][1]


def face(path: Path) -> set[str]:
    """What a module offers: the names in `__all__`, or, in a file that has none, all that do not begin with an underscore."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    if path.name == "__init__.py":
        return set()
    named = [n.name for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        named += [target.id for target in targets if isinstance(target, ast.Name)]
    return {name for name in named if not name.startswith("_")}


def past_the_face(root: Path) -> list[str]:
    """Imports from another room that its face does not offer.

    A room that is one file offers what is public in it. A room that is a package offers its `__all__`; a module named
    there is a face of its own, imported as such because loading it with the room would cost too much.
    """
    known = modules(root)
    faces = {name: face(path) for name, path in known.items()}
    found = []
    for name, path in known.items():
        for one in imports(name, path):
            if room(one.module) in ("", "_core", room(name)):  # `_core` is compiled; a contract has its one door
                continue
            parts = one.module.split(".")
            steps = [(".".join(parts[: i + 1]), parts[i + 1]) for i in range(1, len(parts) - 1)] + [
                (one.module, one.name)
            ]
            if not all(step in faces.get(module, set()) for module, step in steps):
                found.append(str(one))
    return found


def circles(root: Path) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or in a ring, whether at import time or inside of functions."""
    known = modules(root)
    edges = {name: _loaded(name, path, known) for name, path in known.items()}
    reach = {name: _reachable(name, edges) for name in known}
    rings = {
        tuple(sorted(other for other in reach[name] if name in reach[other])) for name in known if name in reach[name]
    }
    return sorted(rings)


def _loaded(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules that a module imports, when it is loaded or later. The packages around them do not count."""
    found = {
        f"{one.module}.{one.name}" if f"{one.module}.{one.name}" in known else one.module for one in imports(name, path)
    }
    return (found & set(known)) - {name}


def _reachable(name: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges[name])
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            waiting += edges[other]
    return seen
