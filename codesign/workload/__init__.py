"""What is computed: layers, phases, channel groups, whole networks. Only tracing a torch module imports torch."""

from codesign.workload.builtin import builtin_workload, workload_names
from codesign.workload.gemm import GemmShape, Phase, gemm_of
from codesign.workload.layers import Convolution, Extent, Layer, Linear, VectorKind, VectorOp, WeightLayer
from codesign.workload.network import ChannelGroup, Workload

__all__ = [
    "ChannelGroup",
    "Convolution",
    "Extent",
    "GemmShape",
    "Layer",
    "Linear",
    "Phase",
    "VectorKind",
    "VectorOp",
    "WeightLayer",
    "Workload",
    "builtin_workload",
    "gemm_of",
    "workload_names",
]
