"""What if the machine, the formats or the channels were others: whole grids of training steps, and a page with sliders."""

from codesign.whatif.select import pareto, top
from codesign.whatif.sweep import Grid, grid, sweep

__all__ = ["Grid", "grid", "pareto", "sweep", "top"]
