"""Finished values to one self-contained HTML file. Starts no work."""

from codesign.report.page import render

__all__ = ["render"]
