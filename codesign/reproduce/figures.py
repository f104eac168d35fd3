"""The results as pictures, by the ending of the file name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from codesign.errors import ConfigError
from codesign.reproduce import retraining, staged
from codesign.reproduce.ledger import TrainedNetwork
from codesign.reproduce.settings import RetrainingSettings, StagedSettings
from codesign.reproduce.summary import of, points

# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers
_OURS, _RIVAL, _GREY = "#0072b2", "#d55e00", "#777777"
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00")
_MARKERS = ("s", "^", "v", "D", "P")


def _figure(panels: int) -> tuple[Any, list[Any]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"figures need matplotlib ({error}); pip install 'codesign[plot]'") from error
    figure = Figure(figsize=(6 * panels, 5.2), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _plain_ticks(axes: Any) -> None:
    """Numbers instead of powers of ten along a logarithmic x axis."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else ""))


def _save(figure: Any, panel: Any, columns: int, path: Path) -> None:
    """One legend below all panels."""
    from matplotlib import rc_context

    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")
    with rc_context({"svg.hashsalt": "codesign"}):  # the same rows give the same bytes
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_retraining(parts: Sequence[tuple[RetrainingSettings, Sequence[TrainedNetwork]]], path: Path) -> None:
    """Accuracy after retraining against the CPU seconds that retraining took, one panel per data set."""
    figure, panels = _figure(len(parts))
    kinds = (
        (retraining.M1_SHORT, retraining.M1_LONG, _OURS, "o", "M1"),
        (retraining.CONVENTIONAL_SHORT, retraining.CONVENTIONAL_LONG, _RIVAL, "s", "conventional, equal parameters"),
        (retraining.DENSE_SHORT, retraining.DENSE_LONG, _GREY, "D", "nothing pruned, trained on"),
    )
    controls = (
        (retraining.SAME_MACS_SHORT, "#009e73", "^", "uniform width, equal MACs"),
        (retraining.RANDOM_SHORT, "#cc79a7", "v", "M1's counts, random ranking"),
        (retraining.NORM_SHORT, "#56b4e9", "<", "M1's counts, batch-norm scale"),
        (retraining.SCRATCH, "#e69f00", "P", "M1's structure from scratch"),
    )
    for axes, (settings, rows) in zip(panels, parts, strict=True):
        for short, long, colour, marker, label in kinds:
            _errorbars(axes, [of(rows, short), of(rows, long)], colour, marker, label, line="-")
        for method, colour, marker, label in controls:
            _errorbars(axes, [of(rows, method)], colour, marker, label)
        _plain_ticks(axes)
        axes.set_xlabel("retraining time, structure search included (CPU s)")
        axes.set_ylabel("top-1 test accuracy (%)")
        axes.set_title(settings.title)
        axes.grid(alpha=0.3)
    _save(figure, panels[0], 4, path)


def _errorbars(
    axes: Any, groups: Sequence[Sequence[TrainedNetwork]], colour: str, marker: str, label: str, line: str = ""
) -> None:
    seconds = [[row.search_cpu_s + row.cpu_s for row in rows] for rows in groups]
    accuracy = [[points(row) for row in rows] for rows in groups]
    axes.errorbar(
        [mean(values) for values in seconds],
        [mean(values) for values in accuracy],
        yerr=[stdev(values) for values in accuracy],
        fmt=marker + line,
        color=colour,
        ms=6,
        lw=1,
        elinewidth=0.8,
        capsize=2,
        label=label,
    )


def draw_staged(parts: Sequence[tuple[StagedSettings, Sequence[TrainedNetwork]]], path: Path) -> None:
    """Accuracy against the share of parameters that is left, one panel per data set."""
    figure, panels = _figure(len(parts))
    styles: dict[str, tuple[str, str, str]] = {staged.M2: (_OURS, "o", "-")}
    for method, colour, marker in zip(staged.MASKED, _COLOURS, _MARKERS, strict=True):
        styles[method] = (colour, marker, "--")
    for method, marker in ((staged.SAME_PARAMETERS, "x"), (staged.SAME_MACS, "+"), (staged.SCRATCH, "1")):
        styles[method] = (_GREY, marker, ":")
    for axes, (settings, rows) in zip(panels, parts, strict=True):
        levels = range(len(settings.alphas))
        for method, (colour, marker, line) in styles.items():
            groups = [of(rows, method, level) for level in levels]
            axes.errorbar(
                [100 * mean(row.parameters / row.dense_parameters for row in own) for own in groups],
                [mean(map(points, own)) for own in groups],
                yerr=[stdev(map(points, own)) for own in groups],
                fmt=marker + line,
                color=colour,
                ms=6,
                lw=2 if method == staged.M2 else 1,
                elinewidth=0.8,
                capsize=2,
                label=method,
            )
        dense = mean(map(points, of(rows, staged.DENSE, -1)))
        axes.axhline(dense, color="black", lw=0.8, label="dense")
        _plain_ticks(axes)
        axes.invert_xaxis()
        axes.set_xlabel("parameters left (% of the dense network)")
        axes.set_ylabel("top-1 test accuracy (%)")
        axes.set_title(settings.title)
        axes.grid(alpha=0.3)
    _save(figure, panels[0], 5, path)
