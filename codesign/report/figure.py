"""The front as a picture for papers and pages: PNG, SVG or PDF by the ending of the file name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.errors import ConfigError

# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers
_FRONT, _BASELINE, _OTHER = "#0072b2", "#d55e00", "#999999"


def draw_front(run: Mapping[str, Any], path: Path) -> None:
    """Draw simulated training time against measured accuracy of every design that the run trained in full."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter
    except ImportError as error:
        raise ConfigError(f"figures need matplotlib ({error}); pip install 'codesign[plot]'") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    if path.suffix.lstrip(".") not in canvas.get_supported_filetypes():
        known = ", ".join(sorted(canvas.get_supported_filetypes()))
        raise ConfigError(f"--figure {path}: unknown kind of picture '{path.suffix}'; known: {known}")
    axes = figure.add_subplot()
    points = run["points"]
    leading = sorted((p for p in points if p["leading"]), key=lambda p: float(p["latency_s"]))
    baselines = [p for p in points if p["kind"] == "baseline"]
    others = [p for p in points if not p["leading"] and p["kind"] != "baseline"]

    def xy(some: list[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
        return [p["latency_s"] for p in some], [100 * p["accuracy"] for p in some]

    axes.plot(*xy(others), "o", mfc="none", mec=_OTHER, ms=4, label="other designs")
    axes.step(*xy(leading), where="post", color=_FRONT, lw=1)
    for some, colour, marker, label in (
        (leading, _FRONT, "o", "Pareto front (channels and formats searched)"),
        (baselines, _BASELINE, "D", "uniform format, all channels"),
    ):
        errors = [
            [100 * (p["accuracy"] - p["accuracy_low"]) for p in some],
            [100 * (p["accuracy_high"] - p["accuracy"]) for p in some],
        ]
        axes.errorbar(*xy(some), yerr=errors, fmt=marker, color=colour, ms=5, elinewidth=0.8, label=label)
    for p in baselines:
        spot = (p["latency_s"], 100 * p["accuracy"])
        axes.annotate(p["label"], spot, xytext=(6, 6), textcoords="offset points", color=_BASELINE)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "235" else ""))
    axes.tick_params(axis="x", which="both", pad=4)
    axes.set_xlabel(f"simulated time of the whole training on '{run['accelerator']}' (s)")
    axes.set_ylabel(f"measured test accuracy, {run['data']} (%)")
    axes.set_title(run["title"])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
