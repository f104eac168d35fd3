"""Finished values to one self-contained HTML file, or a picture. Starts no work."""

from codesign.report.figure import draw_front
from codesign.report.page import SCHEMA, render

__all__ = ["SCHEMA", "draw_front", "render"]
