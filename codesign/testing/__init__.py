"""Hypothesis strategies for the nouns of this project, for its own tests and for yours."""

from codesign.testing.cost import accelerators, convolutions, gemm_shapes

__all__ = ["accelerators", "convolutions", "gemm_shapes"]
