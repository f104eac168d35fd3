"""Weights of the bilateral filter of uint8 images as tables of bytes, for processors with byte permutes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from codesign.native import ffi
from codesign.preprocess.images import pointer

# Sums of one byte plane stay within int32 up to 2**31 / (255 * 128) = 65793 taps; a circle of radius 140 has fewer.
LARGEST_RADIUS = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class BilateralTables:
    """A `cs_bilateral_tables *`, with the arrays that it points into."""

    described: Any
    arrays: tuple[np.ndarray, ...]


def _quads(radius: int) -> dict[int, list[list[tuple[int, int]]]]:
    """Squared distance to the quads (four taps dy, dx) at that distance, the farthest first."""
    found: dict[int, list[list[tuple[int, int]]]] = {}
    for a in range(1, radius + 1):
        found.setdefault(a * a, []).append([(0, -a), (0, a), (-a, 0), (a, 0)])
    for dy, dx in itertools.product(range(1, radius + 1), repeat=2):
        if dy * dy + dx * dx <= radius * radius:
            found.setdefault(dy * dy + dx * dx, []).append([(-dy, -dx), (-dy, dx), (dy, -dx), (dy, dx)])
    return dict(sorted(found.items(), reverse=True))


@lru_cache(maxsize=64)
def bilateral_tables(sigma_space: float, sigma_range: float, radius: int, planes: int) -> BilateralTables:
    """Tables of the weights, rounded to `planes` bytes.

    With one plane, each class is scaled up by the power of two that its spatial weight leaves free, so that far taps
    keep eight bits too; the sums are scaled back on the way to the nearer ones.
    """
    quads = _quads(radius)
    difference = np.arange(256.0)
    scale = 256.0**planes - 1
    spatial = np.exp(-np.array(list(quads)) / (2 * sigma_space**2))
    free = (
        np.floor(-np.log2(np.maximum(spatial, 2.0**-20))).astype(np.int64) if planes == 1 else np.zeros(len(quads), int)
    )
    weights = np.rint(
        scale * (spatial * 2.0**free)[:, None] * np.exp(-np.square(difference) / (2 * sigma_range**2))
    ).astype(np.int64)
    split = (weights[:, None, :] >> (8 * np.arange(planes))[None, :, None] & 255).astype(np.uint8)
    upper = [plane + 1 for plane in range(planes) if split[:, plane, 127:].any()]
    taps = np.array([quad for group in quads.values() for quad in group], np.int32)  # [quads, 4, 2]
    sizes = [len(group) for group in quads.values()]
    shift = np.zeros(sum(sizes), np.int64)
    shift[np.cumsum([0, *sizes[:-1]])] = -np.diff(free, prepend=free[:1])
    table = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    pairs = 0
    if planes > 1:  # twos that share a table first
        place = np.concatenate([np.arange(size) for size in sizes])
        alone = place // 2 * 2 + 1 == np.repeat(sizes, sizes)
        order = np.argsort(alone, kind="stable")
        taps, table, pairs = taps[order], table[order], int((~alone).sum()) // 2
    taps = taps.reshape(-1, 2)
    dy, dx = (np.ascontiguousarray(taps[:, axis]) for axis in (0, 1))
    bytes_ = _on_cache_line(split)  # uint8 [tables, planes, 256]
    described = ffi.new("cs_bilateral_tables *")
    described.planes, described.upper, described.own = planes, max(upper, default=0), scale * 2.0 ** int(free[-1])
    described.reach = int(weights.any(axis=0).nonzero()[0].max(initial=0)) + 1
    described.quads, described.pairs = len(table), pairs
    described.table, described.shift = pointer(table, "int64_t *"), pointer(shift, "int64_t *")
    described.dy, described.dx = pointer(dy, "int32_t *"), pointer(dx, "int32_t *")
    described.weights = pointer(bytes_, "uint8_t *")
    return BilateralTables(described=described, arrays=(table, shift, dy, dx, bytes_))


def _on_cache_line(values: np.ndarray) -> np.ndarray:
    """A copy whose first byte has an address that 64 divides."""
    room = np.empty(values.size + 63, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + values.size].reshape(values.shape)
    copy[...] = values
    return copy
