"""Filters against OpenCV: every row with its bar; one thread, CPU time, interleaved in one process, medians.

A Gaussian is compared with the better of cv2.GaussianBlur and cv2.sepFilter2D, each plane by plane and, for three
channels, image by image in [height, width, 3], on images that are already laid out so; a bilateral filter with the better of IPP on and off. Kernel sizes are
equal: 2 ceil(3 sigma) + 1. `python -m tests.bench.filters [WORD ...]` runs the rows whose name has a WORD.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from codesign.preprocess import bilateral_filter, box_blur, gaussian_blur, instruction_sets

Call = Callable[[], object]
ROUNDS = 7
LEAST_MS = 5  # a shorter call is repeated, for all alike, so that it is not measured while the caches fill


def interleaved(ours: Call, others: dict[str, Call]) -> tuple[float, dict[str, float]]:
    """Median CPU milliseconds of a call of each, one round after the other."""
    calls = {"ours": ours, **others}
    ours()
    start = time.process_time_ns()
    ours()
    repeats = math.ceil(LEAST_MS / max(1e-3, (time.process_time_ns() - start) / 1e6))
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 1):
        for name, call in calls.items():
            start = time.process_time_ns()
            for _ in range(repeats):
                call()
            spent[name].append((time.process_time_ns() - start) / 1e6 / repeats)
    medians = {name: statistics.median(times[1:]) for name, times in spent.items()}
    return medians.pop("ours"), medians


def report(name: str, bar: float, ours: Call, others: dict[str, Call]) -> None:
    """Print one row; the ratio is to the fastest of the others."""
    own, rest = interleaved(ours, others)
    best = min(rest, key=lambda other: rest[other])
    ratio = rest[best] / own
    verdict = "met" if ratio >= bar else "SHORT"
    print(f"{name:<48} {own:9.3f} {rest[best]:9.3f}  {ratio:6.2f}x  {bar:5.1f}x  {verdict:<5}  {best}", flush=True)


def drawn(dtype: type, *shape: int) -> np.ndarray:
    """Noise; none of the filters' cost but the bilateral's in OpenCV depends on the picture."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8).astype(dtype)


def by_plane(x: np.ndarray, call: Callable[[np.ndarray, np.ndarray], object]) -> Call:
    """`call(source, result)` for each plane."""
    result = np.empty_like(x)
    pairs = list(zip(x.reshape(-1, *x.shape[-2:]), result.reshape(-1, *x.shape[-2:]), strict=True))

    def run() -> None:
        for source, target in pairs:
            call(source, target)

    return run


def by_image(x: np.ndarray, call: Callable[[np.ndarray, np.ndarray], object]) -> Call:
    """`call(source, result)` for each image as [height, width, 3]."""
    source = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    pairs = list(zip(source, np.empty_like(source), strict=True))

    def run() -> None:
        for image, target in pairs:
            call(image, target)

    return run


def gaussians() -> Iterator[tuple[str, float, Call, dict[str, Call]]]:
    """The rows of the Gaussian."""
    import cv2

    cases = [
        (np.uint8, (256, 3, 32, 32), {1: 2.5, 2: 2.5}),
        (np.uint8, (64, 3, 224, 224), {1: 1.4, 2: 1.8, 5: 3, 10: 4}),
        (np.uint8, (1, 1, 2048, 2048), {2: 2.3, 10: 9}),
        (np.float32, (64, 3, 224, 224), {1: 1.2, 2: 1.5, 5: 2.4}),
    ]
    for dtype, shape, bars in cases:
        x = drawn(dtype, *shape)
        out = np.empty_like(x)
        for sigma, bar in bars.items():
            size = 2 * math.ceil(3 * sigma) + 1
            taps = cv2.getGaussianKernel(size, sigma, cv2.CV_32F)
            calls = {
                "GaussianBlur": lambda s, t, size=size, sigma=sigma: cv2.GaussianBlur(s, (size, size), sigma, dst=t),
                "sepFilter2D": lambda s, t, taps=taps: cv2.sepFilter2D(s, -1, taps, taps, dst=t),
            }
            others = {f"{name}, planes": by_plane(x, call) for name, call in calls.items()}
            if shape[1] == 3:
                others |= {f"{name}, images": by_image(x, call) for name, call in calls.items()}
            name = f"gaussian {dtype.__name__} {'x'.join(map(str, shape))} sigma {sigma}"
            yield name, bar, lambda x=x, sigma=sigma, out=out: gaussian_blur(x, sigma, out=out), others
            if shape[-1] < 96:  # where exactness is the default
                call = lambda x=x, sigma=sigma, out=out: gaussian_blur(x, sigma, out=out, exact=False)  # noqa: E731
                yield f"{name}, exact=False", bar, call, others


def against_torch() -> Iterator[tuple[str, float, Call, dict[str, Call]]]:
    """A sigma for each sample against the depthwise convolution that a pipeline on torch runs."""
    import torch

    torch.set_num_threads(1)
    size = 23
    x = torch.from_numpy(drawn(np.uint8, 64, 3, 224, 224))
    sigmas = np.random.default_rng(1).uniform(0.1, 2.0, 64)
    out = torch.empty_like(x)
    offsets = torch.arange(size) - size // 2

    def convolve() -> None:
        for sample, sigma in zip(x, sigmas, strict=True):
            half = torch.exp(-0.5 * (offsets / sigma) ** 2)
            kernel = torch.outer(half, half) / half.sum() ** 2
            image = torch.nn.functional.pad(sample[None].float(), [size // 2] * 4, mode="reflect")
            torch.nn.functional.conv2d(image, kernel.expand(3, 1, size, size), groups=3).round_().to(torch.uint8)

    name = f"gaussian uint8 64x3x224x224 random sigma, k {size}"
    yield name, 100, lambda: gaussian_blur(x, sigmas, kernel_size=size, out=out), {"conv2d depthwise": convolve}


def boxes() -> Iterator[tuple[str, float, Call, dict[str, Call]]]:
    """The rows of the box."""
    import cv2

    for dtype in (np.uint8, np.float32):
        x = drawn(dtype, 64, 3, 224, 224)
        out = np.empty_like(x)
        for radius in (1, 2, 5, 10):
            size = (2 * radius + 1, 2 * radius + 1)
            others = {
                "blur, planes": by_plane(x, lambda s, t, size=size: cv2.blur(s, size, dst=t)),
                "blur, images": by_image(x, lambda s, t, size=size: cv2.blur(s, size, dst=t)),
            }
            name = f"box {dtype.__name__} 64x3x224x224 radius {radius}"
            bar = 1.0 if radius == 1 else 1.3
            yield name, bar, lambda x=x, radius=radius, out=out: box_blur(x, radius, out=out), others


def bilaterals() -> Iterator[tuple[str, float, Call, dict[str, Call]]]:
    """The rows of the bilateral filter; sigma_space 3, radius 9."""
    import cv2

    def with_ipp(use: bool, source: np.ndarray, sigma_range: float) -> Call:
        target = np.empty_like(source)

        def run() -> None:
            cv2.ipp.setUseIPP(use)
            cv2.bilateralFilter(source, 19, sigma_range, 3, dst=target)

        return run

    cases = [
        ("grey uint8, exact", np.uint8, 1, 30, True, 8.0),
        ("grey uint8, fast", np.uint8, 1, 30, False, 13.0),
        ("colour uint8, fast", np.uint8, 3, 30, False, 7.0),
        ("grey float32", np.float32, 1, 30, True, 4.5),
    ]
    for name, dtype, channels, sigma_range, exact, bar in cases:
        if dtype is np.uint8 and "vbmi" not in instruction_sets():
            print(f"bilateral {name}: skipped, this processor lacks AVX-512 VBMI")
            continue
        x = drawn(dtype, channels, 224, 224)
        out = np.empty_like(x)
        source = np.ascontiguousarray(np.moveaxis(x, 0, -1))
        others = {f"bilateralFilter, IPP {use}": with_ipp(use, source, sigma_range) for use in (True, False)}
        yield (
            f"bilateral {name}, 224x224",
            bar,
            lambda x=x, out=out, exact=exact, sigma_range=sigma_range: bilateral_filter(
                x, 3, sigma_range, exact=exact, out=out
            ),
            others,
        )


def main(words: list[str] | None = None) -> None:
    """Print every row; without OpenCV only what needs none."""
    print(f"instruction sets: {', '.join(instruction_sets())}; CPU ms, median of {ROUNDS}, one thread")
    print(f"{'':<48} {'ours':>9} {'other':>9}  {'ratio':>7}  {'bar':>6}")
    families = [against_torch]
    try:
        import cv2
    except ImportError:
        print("OpenCV is not installed (pip install 'codesign[bench]'): its rows are left out")
    else:
        cv2.setNumThreads(1)
        families = [gaussians, against_torch, boxes, bilaterals]
    for family in families:
        for name, bar, ours, others in family():
            if not words or any(word in name for word in words):
                report(name, bar, ours, others)


if __name__ == "__main__":
    main(sys.argv[1:])
