"""Hypothesis strategies for the nouns of this package: test your own code with what we test ours with."""

from codesign.testing.formats import ChannelTensor, channel_tensors, float32_near_ties, float32s, float_formats

__all__ = ["ChannelTensor", "channel_tensors", "float32_near_ties", "float32s", "float_formats"]
