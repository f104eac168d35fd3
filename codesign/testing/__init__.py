"""Hypothesis strategies for the values of this package; needs `pip install codesign[test]`."""

from codesign.testing.prune import cuts, prunable_networks

__all__ = ["cuts", "prunable_networks"]
