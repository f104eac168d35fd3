"""Hypothesis strategies for the values of this package: test your own code with what we test ours with.

Needs hypothesis (`pip install codesign[test]`).
"""

from codesign.testing.cost import accelerators, convolutions, gemm_shapes
from codesign.testing.filters import borders, images
from codesign.testing.formats import ChannelTensor, channel_tensors, float32_near_ties, float32s, float_formats
from codesign.testing.prune import cuts, prunable_networks
from codesign.testing.search import spaces

__all__ = [
    "ChannelTensor",
    "accelerators",
    "borders",
    "channel_tensors",
    "convolutions",
    "cuts",
    "float32_near_ties",
    "float32s",
    "float_formats",
    "gemm_shapes",
    "images",
    "prunable_networks",
    "spaces",
]
