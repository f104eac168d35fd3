"""What is computed: layers, phases, channel groups, whole networks. Only reading a torch module imports torch."""

from codesign.network import ChannelGroup
from codesign.workload import layers
from codesign.workload.builtin import builtin_workload, workload_names
from codesign.workload.gemm import GemmShape, Phase, gemm_of
from codesign.workload.layers import (
    Convolution,
    Embedding,
    Extent,
    Layer,
    Linear,
    Matmul,
    VectorKind,
    VectorOp,
    WeightLayer,
)
from codesign.workload.network import Workload
from codesign.workload.single import single_convolution, single_linear

__all__ = [
    "ChannelGroup",
    "Convolution",
    "Embedding",
    "Extent",
    "GemmShape",
    "Layer",
    "Linear",
    "Matmul",
    "Phase",
    "VectorKind",
    "VectorOp",
    "WeightLayer",
    "Workload",
    "builtin_workload",
    "gemm_of",
    "layers",
    "single_convolution",
    "single_linear",
    "workload_names",
]
