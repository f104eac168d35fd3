"""Strategies for image filters."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from codesign.preprocess import BORDERS


def borders() -> st.SearchStrategy[str]:
    """Names of borders."""
    return st.sampled_from(BORDERS)


@st.composite
def images(draw: st.DrawFn, *, largest_side: int = 40) -> np.ndarray:
    """uint8 images, or float32 ones in [0, 1): [H, W], [C, H, W] or [N, C, H, W], contiguous or channels-last.

    Noise, or few grey levels (steps and plateaus), drawn by a seed.
    """
    shapes: list[tuple[int, ...]] = [(), (1,), (3,), (2, 1), (2, 3)]
    leading = draw(st.sampled_from(shapes))
    height, width = draw(st.integers(1, largest_side)), draw(st.integers(1, largest_side))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([256, 3]))
    x: np.ndarray = (generator.integers(0, levels, (*leading, height, width)) * (255 // (levels - 1))).astype(np.uint8)
    if draw(st.booleans()):
        x = (x / np.float32(256)).astype(np.float32)
    if len(leading) > 0 and draw(st.booleans()):
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -3, -1)), -1, -3)
    return x
