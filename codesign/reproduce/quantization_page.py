"""The results of M3 as a page and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from codesign.errors import ConfigError
from codesign.reproduce.quantization import ESTIMATED_EVERY, FLOAT32, RENORM_BATCHES, QuantizationSettings, Result
from codesign.reproduce.summary import Difference, points, spread

Part = tuple[QuantizationSettings, Sequence[Result]]
CONVENTIONAL = ("integer-absmax", "e4-absmax", "e3-absmax", "e2-absmax", "gaussian", "laplace")  # named by the claim
# Okabe & Ito 2008, "Color universal design": told apart by colour-blind readers
_STYLES = {
    "empirical": ("#0072b2", "o"),
    "e2-absmax": ("#e69f00", "s"),
    "e4-absmax": ("#cc79a7", "^"),
    "gaussian": ("#009e73", "v"),
    "integer-absmax": ("#d55e00", "D"),
    "integer-clip": ("#56b4e9", "P"),
}
_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def page(parts: Sequence[Part], command: str) -> str:
    """`docs/results/quantization.md`: one section per configuration."""
    text = [
        "# Formats from the real distribution: M3 against conventional quantizers",
        f"Written by `{command}`; every row of every seed is in [quantization.csv](quantization.csv). Mean ± standard "
        "deviation over seeds; differences are taken seed by seed. After training, the weights of all convolutions and "
        "linear layers are rounded, per output channel, the first and the last layer included; activations, batch norm and "
        "biases stay float32, and nothing is retrained. Each network is measured twice: as converted, and once the means and "
        f"variances of batch norm have been estimated anew on {RENORM_BATCHES} batches of training images, without labels, "
        "for every method alike.",
        "![Accuracy against bits, and during training](quantization.svg)",
    ]
    for settings, rows in parts:
        text += _section(settings, rows)
    return "\n\n".join(text) + "\n"


def of(rows: Sequence[Result], bits: int, method: str, epoch: int) -> list[Result]:
    """The rows of one method, by seed."""
    found = [row for row in rows if (row.bits, row.method, row.epoch) == (bits, method, epoch)]
    return sorted(found, key=lambda row: row.seed)


def renormed(rows: Sequence[Result]) -> list[Result]:
    """The same networks with batch norm estimated anew."""
    return [replace(row, top1=row.top1_renormed) for row in rows]


def _section(settings: QuantizationSettings, rows: Sequence[Result]) -> list[str]:
    subject, last = settings.subject, settings.epochs
    methods = list(dict.fromkeys(row.method for row in rows if row.bits))
    methods.sort(key=lambda name: name != "empirical")

    def table(rows: Sequence[Result], form: Callable[[Result], float]) -> str:
        head = "|  | " + " | ".join(f"{bits} bits" for bits in settings.bits) + " |"
        lines = [head, "| --- |" + " ---: |" * len(settings.bits)]
        for method in methods:
            found = [of(rows, bits, method, last) for bits in settings.bits]
            lines.append(f"| {method} | " + " | ".join(spread(own, form, ".1f") if own else "" for own in found) + " |")
        return "\n".join(lines)

    full = of(rows, 0, FLOAT32, last)
    training = "\n".join(
        f"| {name} | {_after_training(rows, name, last, subject.seeds)} |" for name in settings.formats
    )
    return [
        f"## {settings.title}",
        f"Network `{subject.network.name}` at width {subject.network.width:g}, batch {subject.training.batch}, "
        f"{settings.epochs} epochs, learning rate {subject.training.learning_rate:g}, {subject.seeds} seeds. "
        f"Float32: {spread(full, points)} % top-1, {spread(renormed(full), points)} % with batch norm estimated anew.",
        "Top-1 accuracy in percent after rounding the trained weights:",
        table(rows, points),
        "The same, batch norm estimated anew:",
        table(renormed(rows), points),
        "Signal to quantization noise of all weights in dB:",
        table(rows, lambda row: row.sqnr_db),
        f"Trained in the formats (weights, activations, errors and weight gradients; allocated anew every "
        f"{ESTIMATED_EVERY} steps):",
        "|  | top-1 % | CPU s of training |\n| --- | ---: | ---: |\n" + training,
        "\n".join(f"* {sentence}" for sentence in claims(settings, rows)),
    ]


def _after_training(rows: Sequence[Result], name: str, last: int, seeds: int) -> str:
    own = of(rows, 0, name, last)
    diverged = sum(row.diverged for row in rows if row.method == name and not row.bits)
    if len(own) < 2:
        return f"diverged in {diverged} of {seeds} | "
    note = f" ({diverged} of {seeds} diverged)" if diverged else ""
    return f"{spread(own, points)}{note} | {spread(own, lambda row: row.cpu_s, '.3g')}"


def _claim(settings: QuantizationSettings, rows: Sequence[Result], bits: int) -> str:
    ours = of(rows, bits, "empirical", settings.epochs)
    rivals = {name: of(rows, bits, name, settings.epochs) for name in CONVENTIONAL}
    rivals = {name: own for name, own in rivals.items() if own}
    best = max(rivals, key=lambda name: mean(map(points, rivals[name])))
    integer = Difference.between(ours, rivals["integer-absmax"])
    against = Difference.between(ours, rivals[best])
    return (
        f"against the best conventional quantizer, {best}: **{against.verdict(0)}**, {against}; against integers with max "
        f"scaling: {integer}"
    )


def claims(settings: QuantizationSettings, rows: Sequence[Result]) -> list[str]:
    """What the rows of one configuration say about M3."""
    last = settings.epochs
    sentences = []
    for bits in settings.bits:
        sentences.append(f"{bits} bits, as converted: {_claim(settings, rows, bits)}.")
        sentences.append(f"{bits} bits, batch norm estimated anew: {_claim(settings, renormed(rows), bits)}.")
    gains = []
    for bits in settings.bits:
        means = {
            name: mean(row.gain_db for row in of(rows, bits, name, last))
            for name in ("gaussian", "e2-absmax")
            if of(rows, bits, name, last)
        }
        gains.append(f"{bits} bits " + ", ".join(f"{gain:.1f} dB over {name}" for name, gain in means.items()))
    least = min((row.least_gain_db for row in rows if row.bits and row.method != "microscaling"), default=0.0)
    return [
        "Claim: more accuracy kept at the same bits than conventional quantizers (integer with max scaling, fixed split, "
        "split under an assumed distribution). By width:",
        *sentences,
        f"Mean gain in signal to noise per channel: {'; '.join(gains)}. Least gain over any method of the same granularity "
        f"on any channel: {least:.2g} dB.",
    ]


def draw(parts: Sequence[Part], path: Path) -> None:
    """Accuracy after rounding against bits, as converted and with batch norm estimated anew, above accuracy during training
    in the formats; a column per configuration."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ConfigError(f"figures need matplotlib ({error}); pip install 'codesign[plot]'") from error
    figure = Figure(figsize=(5 * len(parts), 11), layout="constrained")
    panels = figure.subplots(3, len(parts), squeeze=False)
    for column, (settings, rows) in enumerate(parts):
        for axes, own_rows, what in (
            (panels[0][column], rows, ""),
            (panels[1][column], renormed(rows), "\nbatch norm anew"),
        ):
            _draw_widths(axes, settings, own_rows)
            axes.set_ylabel(f"top-1 test accuracy (%){what}")
        panels[0][column].set_title(settings.title.replace(", ", "\n", 1), fontsize=9)
        bottom = panels[2][column]
        for name, line, (colour, _) in zip(settings.formats, _LINES, _STYLES.values(), strict=False):
            epochs = range(1, settings.epochs + 1)
            curve = [(epoch, of(rows, 0, name, epoch)) for epoch in epochs]
            curve = [(epoch, own) for epoch, own in curve if own]
            bottom.plot(
                [epoch for epoch, _ in curve],
                [mean(map(points, own)) for _, own in curve],
                color=colour, ls=line, lw=1.4, label=name,
            )  # fmt: skip
        bottom.set_xlabel("training in the formats (epochs)")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom.set_ylabel("top-1 test accuracy (%)")
        bottom.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small", title="after training")
    panels[2][0].legend(fontsize="small", title="in training")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_widths(axes: Any, settings: QuantizationSettings, rows: Sequence[Result]) -> None:
    full = mean(map(points, of(rows, 0, FLOAT32, settings.epochs)))
    axes.axhline(full, color="#777777", lw=0.8, ls="--", label="float32")
    for method, (colour, marker) in _STYLES.items():
        found = [(bits, of(rows, bits, method, settings.epochs)) for bits in settings.bits]
        found = [(bits, own) for bits, own in found if len(own) > 1]
        axes.errorbar(
            [bits for bits, _ in found],
            [mean(map(points, own)) for _, own in found],
            yerr=[stdev(map(points, own)) for _, own in found],
            color=colour, marker=marker, ms=5, lw=1, elinewidth=0.8, capsize=2, label=method,
        )  # fmt: skip
    axes.set_xlabel("width of a weight (bit)")
    axes.set_xticks(settings.bits)
    axes.grid(alpha=0.3)
