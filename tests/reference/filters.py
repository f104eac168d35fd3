"""The filters by definition: every tap, float64, no shared code. An oracle for small images."""

import math

import numpy as np

PAD_MODE = {"reflect101": "reflect", "reflect": "symmetric", "replicate": "edge", "constant": "constant"}


def padded(plane, radius, border):
    """`plane` with `radius` pixels around it; numpy repeats a reflection of its own accord."""
    return np.pad(plane.astype(np.float64), radius, mode=PAD_MODE[border])


def windows(plane, radius, border):
    """[2r+1, 2r+1, height, width]: the plane as each tap sees it."""
    height, width = plane.shape
    around = padded(plane, radius, border)
    side = 2 * radius + 1
    return np.array([[around[i : i + height, j : j + width] for j in range(side)] for i in range(side)])


def gaussian(plane, sigma, radius, border):
    square = np.add.outer(np.arange(-radius, radius + 1) ** 2, np.arange(-radius, radius + 1) ** 2)
    weights = np.exp(-square / (2 * sigma**2))
    return np.einsum("ij,ijyx->yx", weights / weights.sum(), windows(plane, radius, border))


def box(plane, radius, border):
    return windows(plane, radius, border).mean(axis=(0, 1))


def bilateral(channels, sigma_space, sigma_range, radius, distance, border):
    """`channels`: [C, height, width] with one joint weight."""
    seen = np.array([windows(channel, radius, border) for channel in channels])
    apart = np.abs(seen - channels.astype(np.float64)[:, None, None])
    squared = apart.sum(axis=0) ** 2 if distance == "l1" else (apart**2).sum(axis=0)
    square = np.add.outer(np.arange(-radius, radius + 1) ** 2, np.arange(-radius, radius + 1) ** 2)
    weights = np.exp(-square[:, :, None, None] / (2 * sigma_space**2) - squared / (2 * sigma_range**2))
    weights *= (square <= radius**2)[:, :, None, None]
    return (weights * seen).sum(axis=(1, 2)) / weights.sum(axis=(0, 1))


def guided(plane, radius, eps, border):
    x = plane.astype(np.float64)
    mean = box(x, radius, border)
    variance = box(x * x, radius, border) - mean**2
    slope = variance / (variance + eps)
    return box(slope, radius, border) * x + box(mean - slope * mean, radius, border)


def default_radius(sigma):
    return math.ceil(3 * sigma)
