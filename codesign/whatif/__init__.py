"""What if the machine, the formats or the channels were others: whole grids of training steps, and a page with sliders."""

from codesign.whatif.grids import Grid, grid, sweep
from codesign.whatif.select import pareto, top

__all__ = ["Grid", "grid", "pareto", "sweep", "top"]
