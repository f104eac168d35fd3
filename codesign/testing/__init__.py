"""Hypothesis strategies for the values of this package: test your own code with what we test ours with.

Needs hypothesis (`pip install codesign[test]`).
"""

from codesign.testing.filters import borders, images
from codesign.testing.formats import ChannelTensor, channel_tensors, float32_near_ties, float32s, float_formats
from codesign.testing.prune import cuts, prunable_networks
from codesign.testing.search import spaces

__all__ = [
    "ChannelTensor",
    "borders",
    "channel_tensors",
    "cuts",
    "float32_near_ties",
    "float32s",
    "float_formats",
    "images",
    "prunable_networks",
    "spaces",
]
