"""Finished values to one self-contained HTML file, or a picture. Starts no work."""

from codesign.report.figure import draw_front
from codesign.report.page import render

__all__ = ["draw_front", "render"]
