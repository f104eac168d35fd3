"""Strategies for layers and machines."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st

from codesign.hardware import Accelerator, Dataflow, ThroughputLaw, load_accelerator
from codesign.workload import Convolution, Extent, GemmShape


@st.composite
def gemm_shapes(draw: st.DrawFn, *, largest: int = 4096) -> GemmShape:
    """Products of every proportion: each dimension is about as likely to be small as large."""
    m, n, k = (draw(_any_size(largest)) for _ in range(3))
    return GemmShape(m=m, n=n, k=k)


def _any_size(largest: int) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(1, min(16, largest)), st.integers(1, largest))


@st.composite
def convolutions(draw: st.DrawFn, *, largest_channels: int = 64) -> Convolution:
    """Two-dimensional convolutions: strided, dilated, grouped, depthwise, transposed."""
    depthwise = draw(st.booleans())
    groups = draw(st.integers(1, largest_channels)) if depthwise else draw(st.sampled_from((1, 1, 2, 4)))
    per_group = 1 if depthwise else draw(st.integers(1, max(1, largest_channels // groups)))
    in_channels = groups * per_group
    out_channels = groups if depthwise else groups * draw(st.integers(1, max(1, largest_channels // groups)))
    kernel, stride, dilation = (tuple(draw(st.integers(1, top)) for _ in range(2)) for top in (5, 3, 2))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    small = tuple(draw(st.integers(1, 12)) for _ in range(2))  # the side that the windows slide over to
    large = tuple(
        (o - 1) * s + d * (k - 1) + 1 - 2 * p + draw(st.integers(0, s - 1))
        for o, s, d, k, p in zip(small, stride, dilation, kernel, padding, strict=True)
    )
    large = tuple(max(1, size) for size in large)
    small = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, s, d, k, p in zip(large, stride, dilation, kernel, padding, strict=True)
    )
    transposed = draw(st.booleans())
    return Convolution(
        name="conv",
        sources=("input",),
        in_channels=in_channels,
        out_channels=out_channels,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        in_size=small if transposed else large,
        out_size=large if transposed else small,
        transposed=transposed,
        bias=draw(st.booleans()),
        inputs=Extent((("input", 1),)),
        outputs=Extent((("conv", 1),)),
    )


@st.composite
def accelerators(draw: st.DrawFn, *, law: ThroughputLaw | None = None) -> Accelerator:
    """Variations of the edge preset: array, dataflows, memories, throughput law."""
    edge = load_accelerator("edge")
    chosen = draw(st.sampled_from(ThroughputLaw)) if law is None else law
    table = {"8": 2.0, "16": 1.0, "32": 0.25} if chosen is ThroughputLaw.TABLE else {}
    flows = draw(st.lists(st.sampled_from(Dataflow), min_size=1, max_size=3, unique=True))
    return dataclasses.replace(
        edge,
        array=dataclasses.replace(
            edge.array,
            rows=draw(st.integers(1, 32)),
            cols=draw(st.integers(1, 32)),
            count=draw(st.integers(1, 8)),
            dataflows=tuple(flows),
        ),
        throughput=dataclasses.replace(edge.throughput, law=chosen, table=table),
        sram=dataclasses.replace(edge.sram, capacity_bytes=draw(st.integers(2**15, 2**22))),
        dram=dataclasses.replace(
            edge.dram,
            bandwidth_bytes_per_s=draw(st.floats(1e8, 1e12)),
            latency_s=draw(st.floats(0, 1e-6)),
        ),
    )
