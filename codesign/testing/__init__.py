"""Hypothesis strategies for the nouns of this package: test your own code with what we test ours with."""

from codesign.testing.filters import borders, images

__all__ = ["borders", "images"]
