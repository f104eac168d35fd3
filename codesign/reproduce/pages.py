"""The results as Markdown: a table per data set, and a sentence per claim."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from codesign.reproduce import retraining, staged
from codesign.reproduce.ledger import TrainedNetwork
from codesign.reproduce.settings import RetrainingSettings, StagedSettings, Subject
from codesign.reproduce.summary import Difference, of, points, spread

ABOUT_EQUAL = 0.5  # points of accuracy below which two methods are called about equal
SHORTER = 5.0  # the goal for M1: retraining this many times shorter than the conventional long one


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [heads, ["---", *["---:"] * (len(heads) - 1)], *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


def _subject(subject: Subject) -> str:
    recipe = subject.training
    width = f" at width {subject.network.width:g}" if subject.network.width != 1 else ""
    return (
        f"Network `{subject.network.name}`{width}, batch {recipe.batch}, {recipe.optimizer.value}, learning rate "
        f"{recipe.learning_rate:g} with a half-cosine schedule, {subject.seeds} seeds, device {subject.device}; simulated "
        f"on `{subject.accelerator}` in float32."
    )


def _share(part: int, whole: int) -> str:
    return f"-{100 * (1 - part / whole):.1f} %"


def retraining_page(parts: Sequence[tuple[RetrainingSettings, Sequence[TrainedNetwork]]], command: str) -> str:
    """`docs/results/retraining.md`: one section per configuration."""
    text = [
        "# Retraining after pruning: M1 against a conventional prune and retrain",
        f"Written by `{command}`; every row of every seed is in [retraining.csv](retraining.csv). Mean ± standard "
        "deviation over seeds; differences are taken seed by seed. Each retraining has a learning-rate schedule of its "
        "own, of the same shape. Retraining seconds include structure search, ranking and cut.",
        "![Accuracy against retraining time](retraining.svg)",
        "\n".join(f"* **{name}**: {meaning}" for name, meaning in retraining.METHODS.items()),
    ]
    for settings, rows in parts:
        text += _retraining_section(settings, rows)
    return "\n\n".join(text) + "\n"


def _retraining_section(settings: RetrainingSettings, rows: Sequence[TrainedNetwork]) -> list[str]:
    lines = []
    for method in retraining.METHODS:
        own = of(rows, method)
        lines.append(
            [
                method,
                f"{own[0].epochs:g}",
                spread(own, points),
                spread(own, lambda row: 100 * row.top5),
                "" if own[0].cut_top1 < 0 else spread(own, lambda row: 100 * row.cut_top1, ".1f"),
                f"-{spread(own, lambda row: 100 * (1 - row.parameters / row.dense_parameters), '.1f')}",
                f"-{spread(own, lambda row: 100 * (1 - row.macs / row.dense_macs), '.1f')}",
                spread(own, lambda row: row.search_cpu_s + row.cpu_s, ".3g"),
                spread(own, lambda row: row.simulated_s, ".3g"),
            ]
        )
    heads = ("", "epochs", "top-1 %", "top-5 %", "as cut %", "parameters %", "MACs %", "CPU s", "simulated s")
    return [
        f"## {settings.title}",
        f"{_subject(settings.subject)} Dense training {settings.dense_epochs:g} epochs, retraining "
        f"{settings.short_epochs:g} (short) and {settings.long_epochs:g} (long). PCA: {settings.structure}; "
        f"{settings.images} images.",
        _table(heads, lines),
        "\n".join(f"* {sentence}" for sentence in retraining_claims(rows)),
    ]


def retraining_claims(rows: Sequence[TrainedNetwork]) -> list[str]:
    """What the rows of one configuration say about M1."""
    m1, conventional = of(rows, retraining.M1_SHORT), of(rows, retraining.CONVENTIONAL_LONG)
    reaches = Difference.between(m1, conventional)
    above = Difference.between(m1, of(rows, retraining.CONVENTIONAL_SHORT))
    ratios = [
        (other.search_cpu_s + other.cpu_s) / (one.search_cpu_s + one.cpu_s)
        for one, other in zip(m1, conventional, strict=True)
    ]
    simulated = mean(other.simulated_s / one.simulated_s for one, other in zip(m1, conventional, strict=True))
    as_good = reaches.mean > -ABOUT_EQUAL
    shorter = "reached on average" if min(ratios) >= SHORTER and as_good else "missed"
    random, norm = (Difference.between(m1, of(rows, m)) for m in (retraining.RANDOM_SHORT, retraining.NORM_SHORT))
    same_macs = Difference.between(m1, of(rows, retraining.SAME_MACS_SHORT))
    scratch = Difference.between(m1, of(rows, retraining.SCRATCH))
    dense = Difference.between(m1, of(rows, retraining.DENSE_SHORT))
    return [
        f"Claim: with short retraining, M1 reaches about the accuracy of the conventional method with long retraining "
        f"(at most {ABOUT_EQUAL:g} points below). **{reaches.verdict(-ABOUT_EQUAL).capitalize()}**: {reaches}.",
        f"Claim: with short retraining, M1 is above the conventional method with short retraining. "
        f"**{above.verdict(0).capitalize()}**: {above}.",
        f"Goal: retraining at least {SHORTER:g} times shorter than conventional long retraining, at most {ABOUT_EQUAL:g} "
        f"points below it. **{shorter.capitalize()}**: {mean(ratios):.1f} times in CPU seconds ({min(ratios):.1f} to "
        f"{max(ratios):.1f}), {simulated:.1f} times simulated, {reaches.mean:+.2f} points.",
        f"Why: M1's ranking by L1 norm against channels at random, same counts: {random}; against ranking by batch-norm "
        f"scale: {norm}. M1 against uniform width at equal multiply-accumulates: {same_macs}; against its own structure "
        f"from scratch: {scratch}. The honest cost, against the dense network trained on as long: {dense}.",
    ]


def staged_page(parts: Sequence[tuple[StagedSettings, Sequence[TrainedNetwork]]], command: str) -> str:
    """`docs/results/staged.md`: one section per configuration."""
    text = [
        "# Staged pruning: M2 against pruning at initialization",
        f"Written by `{command}`; every row of every seed is in [staged.csv](staged.csv). Mean ± standard deviation over "
        "seeds. All methods train the same epochs in all, with the same learning-rate schedule. At each alpha, every "
        "method is as large as M2 came out with the same seed. For masks, MACs are those that an ideal sparse machine "
        "would do; CPU and simulated seconds are those of the dense products that are done.",
        "![Accuracy against compression](staged.svg)",
        "\n".join(f"* **{name}**: {meaning}" for name, meaning in staged.METHODS.items()),
    ]
    for settings, rows in parts:
        text += _staged_section(settings, rows)
    return "\n\n".join(text) + "\n"


def _staged_section(settings: StagedSettings, rows: Sequence[TrainedNetwork]) -> list[str]:
    dense = of(rows, staged.DENSE, -1)
    levels = range(len(settings.alphas))
    found = [of(rows, staged.M2, level) for level in levels]
    removed = [
        f"-{spread(own, lambda row: 100 * (1 - row.parameters / row.dense_parameters), '.1f')} %" for own in found
    ]
    accuracy = [[method, *(spread(of(rows, method, level), points) for level in levels)] for method in staged.METHODS]
    cost = [
        [
            method,
            *(
                f"-{100 * (1 - mean(row.macs / row.dense_macs for row in own)):.0f} %, "
                f"{mean(row.search_cpu_s + row.cpu_s for row in own):.1f} s, {mean(row.simulated_s for row in own):.3g} s"
                for own in (of(rows, method, level) for level in levels)
            ),
        ]
        for method in staged.METHODS
    ]
    alphas = [f"alpha {alpha:g}" for alpha in settings.alphas]
    whole = settings.first_epochs + settings.rest_epochs
    return [
        f"## {settings.title}",
        f"{_subject(settings.subject)} {whole:g} epochs in all; the second cut of M2 after {settings.first_epochs:g}. PCA of "
        f"{settings.noise_images} random and {settings.images} training images: {_without_alpha(settings)}. "
        f"Dense: {spread(dense, points)} %, {spread(dense, lambda row: row.cpu_s, '.3g')} CPU s, "
        f"{dense[0].simulated_s:.3g} simulated s.",
        "Top-1 accuracy in percent, by parameters removed:",
        _table(["", *(f"{alpha}: {share}" for alpha, share in zip(alphas, removed, strict=True))], accuracy),
        "MACs removed, CPU seconds and simulated seconds of the whole training:",
        _table(["", *alphas], cost),
        "\n".join(f"* {sentence}" for sentence in staged_claims(rows, len(settings.alphas))),
    ]


def _without_alpha(settings: StagedSettings) -> str:
    """The structure search in words, without the alpha that `settings.alphas` takes the place of."""
    return str(settings.structure).replace(f"alpha={settings.structure.alpha}, ", "")


def staged_claims(rows: Sequence[TrainedNetwork], levels: int) -> list[str]:
    """What the rows of one configuration say about M2, at its lowest and its highest compression."""

    def against(level: int, method: str) -> Difference:
        return Difference.between(of(rows, staged.M2, level), of(rows, method, level))

    def removed(level: int) -> float:
        return 100 * (1 - mean(row.parameters / row.dense_parameters for row in of(rows, staged.M2, level)))

    order = sorted(range(levels), key=removed)
    low, high = order[0], order[-1]
    best = {level: max(staged.MASKED, key=lambda m: mean(map(points, of(rows, m, level)))) for level in order}
    at_low, at_high = against(low, best[low]), against(high, best[high])
    below = [method for method in staged.MASKED if against(high, method).mean > 0]
    others = "; ".join(
        f"at -{removed(level):.1f} %, {best[level]}: {against(level, best[level])}" for level in order[1:-1]
    )
    controls = "; ".join(
        f"at -{removed(level):.1f} %, uniform width at equal parameters {against(level, staged.SAME_PARAMETERS)}, at equal "
        f"MACs {against(level, staged.SAME_MACS)}, its structure from scratch {against(level, staged.SCRATCH)}"
        for level in (low, high)
    )
    sentences = [
        f"Claim: at low compression M2 is about equal to pruning at initialization (at most {ABOUT_EQUAL:g} points below "
        f"the best of the five). **{at_low.verdict(-ABOUT_EQUAL).capitalize()}** at -{removed(low):.1f} %, where {best[low]} "
        f"is best: {at_low}.",
        f"Claim: at high compression M2 is above all of them. **{at_high.verdict(0).capitalize()}** at "
        f"-{removed(high):.1f} %, where {best[high]} is best: {at_high}. On average M2 is above {len(below)} of the five "
        f"({', '.join(below) or 'none'}).",
    ]
    if others:
        sentences.append(f"In between, against the best of the five: {others}.")
    return [*sentences, f"Why: M2 against its controls: {controls}."]
