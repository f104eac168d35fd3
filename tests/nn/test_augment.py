"""Crops and mirror images: each result is a shift of its image, mirrored or not."""

import torch
from torch.nn import functional

from codesign.nn.augment import crop_and_flip


def test_every_image_is_shifted_into_zeros_and_every_other_one_mirrored():
    images = 1 + torch.arange(200 * 2 * 5 * 7, dtype=torch.float32).reshape(200, 2, 5, 7)
    got = crop_and_flip(images, 2, torch.Generator().manual_seed(0))
    padded = functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for n in range(len(images)):
        shifts = {
            (down, right): padded[n, :, down : down + 5, right : right + 7] for down in range(5) for right in range(5)
        }
        views = {(*at, False): shift for at, shift in shifts.items()} | {
            (*at, True): shift.flip(2) for at, shift in shifts.items()
        }
        matches = [key for key, view in views.items() if torch.equal(view, got[n])]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {key[2] for key in seen} == {False, True}
    assert {key[0] for key in seen} == {key[1] for key in seen} == set(range(5))


def test_the_generator_alone_decides():
    images = torch.rand(8, 1, 6, 6)
    one, other, next_one = (crop_and_flip(images, 3, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, next_one)
