"""Covariance of what a convolution or linear layer reads, without writing its windows down.

Of a window z[c, i] = x[c, p + i], i an offset in the kernel, the sum over positions p of z[c, i] z[c', j] is a sum over
pixels r = p + i of x[c, r] x[c', r + (j - i)]: all pairs of offsets with the same difference share it, but for pixels near
the border, which have partners only for some of them. A 3x3 kernel has 81 pairs of offsets and 13 differences up to sign.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from codesign.errors import ModelError
from codesign.quantize import Missing, Moments

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = Convolution | nn.Linear
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CHUNK = 1 << 25  # numbers that are looked at together; sums of chunks are float64
_EVERY: int | slice = slice(None)


@torch.no_grad()
def moments_of(layer: Layer, inputs: torch.Tensor, missing: torch.Tensor) -> Moments:
    """Moments of a layer's inputs, [images, ...], with what is missing in its outputs on them, of their shape.

    Products are taken in the dtype of the inputs, a chunk of images at a time; sums of chunks are float64.
    """
    if isinstance(layer, nn.Linear):
        return _of_linear(inputs.flatten(0, -2), missing.flatten(0, -2))
    if inputs.ndim != layer.weight.ndim:
        raise ModelError(
            f"a convolution must read batches of images, {layer.weight.ndim} dimensions, got {inputs.ndim}"
        )
    return _of_convolution(layer, inputs, missing)


def _chunks(count: int, numbers: int) -> Iterator[slice]:
    step = max(1, _CHUNK // numbers)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _of_linear(x: torch.Tensor, missing: torch.Tensor) -> Moments:
    mean, missing_mean = x.mean(0, dtype=torch.float64), missing.mean(0, dtype=torch.float64)
    covariance, cross = _zeros(x, x.shape[1], x.shape[1]), _zeros(x, missing.shape[1], x.shape[1])
    variance = _zeros(x, missing.shape[1])
    for own in _chunks(len(x), x.shape[1]):
        z, e = (x[own] - mean).to(x), (missing[own] - missing_mean).to(x)
        covariance += z.T @ z
        cross += e.T @ z
        variance += e.double().square().sum(0)
    return _moments(len(x), covariance[None], mean[None], cross, missing_mean, variance)


def _of_convolution(layer: Convolution, x: torch.Tensor, missing: torch.Tensor) -> Moments:
    """Numbers are taken less their mean over images, which keeps what float32 products lose far below their variance; the
    means themselves, one for each pixel, are a single image."""
    x, padding = _padded(layer, x)
    positions, groups = missing.shape[2:], layer.groups
    images, places = len(x), positions.numel()
    mean_image, mean_missing = x.mean(0, dtype=torch.float64), missing.mean(0, dtype=torch.float64)
    n = layer.weight[0].numel()
    covariance, cross = _zeros(x, groups, n, n), torch.zeros_like(layer.weight, dtype=torch.float64)
    variance = _zeros(x, len(layer.weight))
    how = (layer.stride, padding, layer.dilation, False, [0] * len(positions), groups, [False, True, False])
    for own in _chunks(images, x[0].numel()):
        z, e = (x[own] - mean_image).to(x), (missing[own] - mean_missing).to(x)
        covariance += _pair_sums(layer, z, padding, positions)
        cross += torch.ops.aten.convolution_backward.default(e, z, layer.weight, None, *how)[1]
        variance += e.double().square().transpose(0, 1).flatten(1).sum(1)
    windows = _windows(layer, mean_image, padding, positions).reshape(groups, n, places)
    outputs = mean_missing.flatten(1)
    mean, missing_mean = windows.mean(2), outputs.mean(1)
    windows, outputs = windows - mean[:, :, None], outputs - missing_mean[:, None]
    covariance += images * (windows @ windows.transpose(1, 2))
    between = outputs.reshape(groups, -1, places) @ windows.transpose(1, 2)
    cross += images * between.reshape(cross.shape)
    variance += images * outputs.square().sum(1)
    return _moments(images * places, covariance, mean, cross.flatten(1), missing_mean, variance)


def _zeros(like: torch.Tensor, *shape: int) -> torch.Tensor:
    return like.new_zeros(shape, dtype=torch.float64)


def _moments(
    count: int,
    covariance: torch.Tensor,
    mean: torch.Tensor,
    cross: torch.Tensor,
    missing_mean: torch.Tensor,
    variance: torch.Tensor,
) -> Moments:
    """From means, and sums of products of numbers less their means."""
    return Moments(
        count=count,
        covariance=(covariance / count).cpu().numpy(),
        mean=mean.cpu().numpy(),
        missing=Missing(
            covariance=(cross / count).cpu().numpy(),
            mean=missing_mean.cpu().numpy(),
            variance=(variance / count).cpu().numpy(),
        ),
    )


def _padded(layer: Convolution, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The images, and how many zeros lie on both sides of them; borders of any other kind are written out."""
    both_sides: list[int] = layer._reversed_padding_repeated_twice  # of the last dimension first
    before, after = both_sides[::2][::-1], both_sides[1::2][::-1]
    if layer.padding_mode == "zeros" and before == after:
        return x, tuple(before)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(x, both_sides, mode=mode), (0,) * len(before)


def _windows(layer: Convolution, x: torch.Tensor, padding: tuple[int, ...], positions: torch.Size) -> torch.Tensor:
    """[channels, kernel, positions] of one image [channels, pixels]."""
    padded = functional.pad(x, [side for each in reversed(padding) for side in (each, each)])
    seen = []
    for offset in itertools.product(*map(range, layer.kernel_size)):
        cut = [
            slice(at * dilation, at * dilation + stride * (count - 1) + 1, stride)
            for at, dilation, stride, count in zip(offset, layer.dilation, layer.stride, positions, strict=True)
        ]
        seen.append(padded[(_EVERY, *cut)].flatten(1))
    return torch.stack(seen, dim=1)


def _pair_sums(layer: Convolution, x: torch.Tensor, padding: tuple[int, ...], positions: torch.Size) -> torch.Tensor:
    """Sum over images and positions of all products of two numbers of a window: float64 [groups, n, n]."""
    groups, kernel = layer.groups, layer.kernel_size
    each = x.shape[1] // groups
    inner = torch.movedim(x, 0, -1).contiguous().reshape(groups, each, *x.shape[2:], len(x))  # images last: long rows
    axes = [
        [
            (difference, _pixels(size, offsets, stride, pad, dilation, count, difference))
            for difference in range(-offsets + 1, offsets)
        ]
        for size, offsets, stride, pad, dilation, count in zip(
            x.shape[2:], kernel, layer.stride, padding, layer.dilation, positions, strict=True
        )
    ]
    sums = x.new_zeros((groups, each, *kernel, each, *kernel), dtype=torch.float64)
    for along in itertools.product(*axes):
        difference = tuple(step for step, _ in along)
        if difference < (0,) * len(kernel):
            continue  # the transpose of the opposite
        shift = [step * dilation for step, dilation in zip(difference, layer.dilation, strict=True)]
        for classes in itertools.product(*(pixels.items() for _, pixels in along)):
            found = _products(inner, [pixels for _, pixels in classes], shift)
            for offset in itertools.product(*(offsets for offsets, _ in classes)):
                other = [at + step for at, step in zip(offset, difference, strict=True)]
                sums[(_EVERY, _EVERY, *offset, _EVERY, *other)] += found
                if any(difference):
                    sums[(_EVERY, _EVERY, *other, _EVERY, *offset)] += found.transpose(1, 2)
    n = each * layer.weight[0, 0].numel()
    return sums.reshape(groups, n, n)


def _pixels(
    size: int, offsets: int, stride: int, pad: int, dilation: int, count: int, difference: int
) -> dict[tuple[int, ...], list[slice]]:
    """Pixels of one axis that have a partner `difference` offsets on, by the offsets at which a window holds both."""
    by_offsets: dict[tuple[int, ...], list[int]] = {}
    first, last = max(0, -difference), min(offsets, offsets - difference)
    for pixel in range(size):
        if 0 <= pixel + difference * dilation < size:
            places = ((offset, *divmod(pixel + pad - offset * dilation, stride)) for offset in range(first, last))
            held = tuple(offset for offset, at, rest in places if rest == 0 and 0 <= at < count)
            if held:
                by_offsets.setdefault(held, []).append(pixel)
    return {held: _runs(pixels) for held, pixels in by_offsets.items()}


def _runs(pixels: list[int]) -> list[slice]:
    """Ascending pixels as slices of equal steps."""
    runs = []
    while pixels:
        step = pixels[1] - pixels[0] if len(pixels) > 1 else 1
        length = next((k for k, pixel in enumerate(pixels) if pixel != pixels[0] + k * step), len(pixels))
        runs.append(slice(pixels[0], pixels[0] + (length - 1) * step + 1, step))
        pixels = pixels[length:]
    return runs


def _products(x: torch.Tensor, pixels: list[list[slice]], shift: list[int]) -> torch.Tensor:
    """[groups, each, each]: sums over these pixels and all images of x[:, c] at the pixel and x[:, c'] `shift` on."""
    groups, each = x.shape[:2]
    found = x.new_zeros((groups, each, each), dtype=torch.float64)
    *rows, columns = pixels
    row_numbers = itertools.product(
        *([r for run in runs for r in range(run.start, run.stop, run.step)] for runs in rows)
    )
    for row in row_numbers:
        partner = [at + step for at, step in zip(row, shift[:-1], strict=True)]
        for run in columns:
            moved = slice(run.start + shift[-1], run.stop + shift[-1], run.step)
            a = x[(_EVERY, _EVERY, *row, run)].flatten(2)
            b = a if not any(shift) else x[(_EVERY, _EVERY, *partner, moved)].flatten(2)
            found += a @ b.transpose(1, 2)
    return found
