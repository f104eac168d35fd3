"""The results of M3 as a page and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from codesign.errors import ConfigError
from codesign.reproduce.quantization import ESTIMATED_EVERY, FLOAT32, QuantizationSettings, Result
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
        "biases stay float32, and nothing is retrained.",
        "![Accuracy against bits, and during training](quantization.svg)",
    ]
    for settings, rows in parts:
        text += _section(settings, rows)
    return "\n\n".join(text) + "\n"


def of(rows: Sequence[Result], bits: int, method: str, epoch: int) -> list[Result]:
    """The rows of one method, by seed."""
    found = [row for row in rows if (row.bits, row.method, row.epoch) == (bits, method, epoch)]
    return sorted(found, key=lambda row: row.seed)


def _section(settings: QuantizationSettings, rows: Sequence[Result]) -> list[str]:
    subject, last = settings.subject, settings.epochs
    methods = list(dict.fromkeys(row.method for row in rows if row.bits))
    methods.sort(key=lambda name: name != "empirical")

    def cells(value: str) -> list[str]:
        lines = []
        for method in methods:
            found = [of(rows, bits, method, last) for bits in settings.bits]
            form = points if value == "top1" else lambda row: row.sqnr_db
            shown = [spread(own, form, ".1f") if own else "" for own in found]
            lines.append(f"| {method} | " + " | ".join(shown) + " |")
        return lines

    head = (
        "|  | " + " | ".join(f"{bits} bits" for bits in settings.bits) + " |\n| --- |" + " ---: |" * len(settings.bits)
    )
    full = of(rows, 0, FLOAT32, last)
    training = "\n".join(
        f"| {name} | {_after_training(rows, name, last, subject.seeds)} |" for name in settings.formats
    )
    return [
        f"## {settings.title}",
        f"Network `{subject.network.name}` at width {subject.network.width:g}, batch {subject.training.batch}, "
        f"{settings.epochs} epochs, learning rate {subject.training.learning_rate:g}, {subject.seeds} seeds. "
        f"Float32: {spread(full, points)} % top-1.",
        "Top-1 accuracy in percent after rounding the trained weights:",
        head + "\n" + "\n".join(cells("top1")),
        "Signal to quantization noise of all weights in dB:",
        head + "\n" + "\n".join(cells("sqnr")),
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


def claims(settings: QuantizationSettings, rows: Sequence[Result]) -> list[str]:
    """What the rows of one configuration say about M3."""
    last = settings.epochs
    sentences = []
    for bits in settings.bits:
        ours = of(rows, bits, "empirical", last)
        rivals = {name: of(rows, bits, name, last) for name in CONVENTIONAL}
        rivals = {name: own for name, own in rivals.items() if own}
        best = max(rivals, key=lambda name: mean(map(points, rivals[name])))
        integer = Difference.between(ours, rivals["integer-absmax"])
        against = Difference.between(ours, rivals[best])
        sentences.append(
            f"{bits} bits: against the best conventional quantizer, {best}: **{against.verdict(0)}**, {against}; against "
            f"integers with max scaling: {integer}."
        )
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
    """Accuracy after rounding against bits, above accuracy during training in the formats; a column per data set."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"figures need matplotlib ({error}); pip install 'codesign[plot]'") from error
    figure = Figure(figsize=(5 * len(parts), 8), layout="constrained")
    panels = figure.subplots(2, len(parts), squeeze=False)
    for column, (settings, rows) in enumerate(parts):
        top, bottom = panels[0][column], panels[1][column]
        full = mean(map(points, of(rows, 0, FLOAT32, settings.epochs)))
        top.axhline(full, color="#777777", lw=0.8, ls="--", label="float32")
        for method, (colour, marker) in _STYLES.items():
            found = [(bits, of(rows, bits, method, settings.epochs)) for bits in settings.bits]
            found = [(bits, own) for bits, own in found if len(own) > 1]
            top.errorbar(
                [bits for bits, _ in found],
                [mean(map(points, own)) for _, own in found],
                yerr=[stdev(map(points, own)) for _, own in found],
                color=colour, marker=marker, ms=5, lw=1, elinewidth=0.8, capsize=2, label=method,
            )  # fmt: skip
        top.set_xlabel("width of a weight (bit)")
        top.set_ylabel("top-1 test accuracy (%)")
        top.set_xticks(settings.bits)
        top.set_title(settings.title, fontsize=9)
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
        bottom.set_ylabel("top-1 test accuracy (%)")
        for axes in (top, bottom):
            axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small", title="after training")
    panels[1][0].legend(fontsize="small", title="in training")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
