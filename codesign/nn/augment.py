"""Random crops and mirror images of training images."""

from __future__ import annotations

import torch
from torch.nn import functional


def crop_and_flip(images: torch.Tensor, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Each image [N, C, H, W] shifted by up to `padding` pixels into zeros and, every other time, mirrored.

    He et al. 2016, arXiv 1512.03385, section 4.2, with a padding of 4. `generator` is a CPU generator.
    """
    count, channels, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    down = torch.randint(0, 2 * padding + 1, (count, 1), generator=generator)
    right = torch.randint(0, 2 * padding + 1, (count, 1), generator=generator)
    mirrored = torch.randint(0, 2, (count, 1), generator=generator, dtype=torch.bool)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    columns = torch.where(mirrored, columns.flip(1), columns)
    at = (
        torch.arange(count)[:, None, None, None],
        torch.arange(channels)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    )
    return padded[tuple(index.to(images.device) for index in at)]
