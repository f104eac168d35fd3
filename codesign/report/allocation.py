"""A figure of an allocation: one tensor's distribution under its grid, and the exponent bits of every channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codesign.errors import ConfigError
from codesign.quantize import Allocation


def draw_allocation(chosen: Mapping[str, Allocation], name: str, values: npt.NDArray[np.float32], path: Path) -> None:
    """Write a .png, .svg or .pdf.

    chosen : of each tensor; channels are their first axis
    name, values : the tensor whose distribution is shown: its numbers in units of their channel's scale, under the grid of
        the split that most of its channels have
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError("a figure needs matplotlib; pip install 'codesign[plot]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import BoundaryNorm

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"a figure must be a .png, .svg or .pdf file, got '{path}'")
    allocation = chosen[name]
    fmt, count = Counter(allocation.formats).most_common(1)[0]
    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(8, 4.5 + 0.22 * len(chosen)), height_ratios=[4, 1.2 + 0.3 * len(chosen)], layout="constrained"
    )
    if allocation.block is None:
        rows = [i for i, own in enumerate(allocation.formats) if own == fmt]
        scaled = (values.reshape(len(values), -1)[rows] / allocation.scale[rows][:, None]).ravel()
        reach = max(fmt.max, float(np.abs(scaled).max()))
        grid = np.array(fmt.values())
        for value in grid:
            top.axvline(value, color="#d55e00", linewidth=0.7, alpha=0.6)
        top.hist(scaled, bins=201, range=(-reach, reach), color="#0072b2", histtype="stepfilled", alpha=0.8, log=True)
        top.set_title(
            f"{name}: the {count} of {len(allocation.formats)} channels in {str(fmt).removesuffix('all')}", fontsize=10
        )
        top.set_xlabel("weight / scale of its channel (1); lines: values of the format")
    else:
        top.hist(values.ravel(), bins=201, color="#0072b2", histtype="stepfilled", log=True)
        top.set_title(f"{name}: {allocation.formats[0]} in blocks of {allocation.block}", fontsize=10)
        top.set_xlabel("weight (1)")
    top.set_ylim(bottom=0.5)  # on the logarithmic axis a bin of one weight is seen
    top.set_ylabel("weights in a bin (1)")

    widest = max(len(each.formats) for each in chosen.values())
    image = np.full((len(chosen), widest), np.nan)
    for row, each in enumerate(chosen.values()):
        image[row, : len(each.formats)] = sorted(f.exponent_bits for f in each.formats)
    levels = np.arange(-0.5, np.nanmax(image) + 1.5)
    shown = bottom.imshow(image, aspect="auto", interpolation="nearest", cmap="viridis", norm=BoundaryNorm(levels, 256))
    bottom.set_yticks(range(len(chosen)), list(chosen), fontsize=7)
    bottom.set_xlabel("channels, sorted by their exponent bits (1)")
    bottom.set_title("exponent bits chosen (0: integer)", fontsize=10)
    figure.colorbar(shown, ax=bottom, ticks=range(int(np.nanmax(image)) + 1), label="exponent bits (bit)")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
