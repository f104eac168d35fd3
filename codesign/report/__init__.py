"""Finished values to one self-contained HTML file, or a picture. Starts no work."""

from codesign.report.allocation import draw_allocation
from codesign.report.compare import DROPS_POINTS, compare_runs, draw_comparison
from codesign.report.figure import draw_front
from codesign.report.page import SCHEMA, render

__all__ = ["DROPS_POINTS", "SCHEMA", "compare_runs", "draw_allocation", "draw_comparison", "draw_front", "render"]
