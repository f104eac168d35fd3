"""Rounding against a plain memory copy, and against what people use today.

    python -m tests.bench.quantize

One thread, CPU time, median of interleaved runs in one process. Speeds are given as a share of `np.copyto` of the same
array (reads and writes every byte once); rivals as their time over ours. All write into arrays that are there, except
qtorch, which can only make new ones (whose pages the system has to clear) and is compared where it is installed.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import ml_dtypes
import numpy as np
import torch

from codesign import FloatFormat, round_to_format
from codesign.nn.lowp import convert
from codesign.nn.networks import build
from codesign.quantize import absmax_scale, matmul, round_scaled
from codesign.reproduce.quantization import ESTIMATED_EVERY, policy_of

try:
    from qtorch.quant import float_quantize
except ImportError:
    float_quantize = None

_RUNS = 15
_SIZES = (1 << 22, 1 << 24)


def cpu_seconds(calls: dict[str, Callable[[], object]], runs: int = _RUNS) -> dict[str, float]:
    """Median CPU seconds of each call, taken in turn after one call to warm up."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def _line(name: str, got: float, bar: float | None, unit: str, at_most: bool = False, note: str = "") -> None:
    if bar is None:
        print(f"  {name:<44} {got:8.2f}{unit}{note}")
    else:
        met = got <= bar if at_most else got >= bar
        print(
            f"  {name:<44} {got:8.2f}{unit}   {'<=' if at_most else '>='} {bar:g}{unit}  {'' if met else 'MISSED'}{note}"
        )


def rounding() -> None:
    """Kernels against a copy."""
    for size in _SIZES:
        _rounding_of(np.random.default_rng(0).standard_normal(size).astype(np.float32))


def _rounding_of(x: np.ndarray) -> None:
    y = np.empty_like(x)
    first, last = x.reshape(512, -1), x.reshape(-1, 512)
    mixed = tuple(FloatFormat.parse(("e4m3fn", "e5m2", "e3m2", "e2m1")[c % 4]) for c in range(512))
    power = np.exp2(np.arange(512) % 7 - 3).astype(np.float32)
    real = np.linspace(0.1, 3, 512).astype(np.float32)
    blocks = absmax_scale(last, "e2m1", axis=1, block=32, rule="microscaling")

    def to(array: np.ndarray, fmt: object, rounding: str = "nearest-even", **arguments: object) -> Callable[[], object]:
        return lambda: round_to_format(array, fmt, rounding, out=y.reshape(array.shape), **arguments)

    rows: dict[str, tuple[float | None, Callable[[], object]]] = {}
    for name in ("e4m3fn", "e5m2", "e3m2", "e2m1"):
        rows[f"nearest {name}"] = 0.8, to(x, name)
    for name in ("e4m3fn", "e5m2", "e3m2", "e2m1"):
        rows[f"stochastic {name}"] = 0.6, to(x, name, "stochastic", seed=1)
    rows["toward zero e4m3fn"] = None, to(x, "e4m3fn", "toward-zero")
    rows["channels first, 4 formats"] = 0.7, to(first, mixed, axis=0)
    rows["channels first, 4 formats, scales 2^k"] = 0.7, to(first, mixed, axis=0, scale=power)
    rows["channels first, 4 formats, real scales"] = 0.7, to(first, mixed, axis=0, scale=real)
    rows["channels last, 4 formats"] = 0.7, to(last, mixed, axis=1)
    rows["channels last, 4 formats, scales 2^k"] = 0.7, to(last, mixed, axis=1, scale=power)
    rows["channels last, 4 formats, real scales"] = 0.7, to(last, mixed, axis=1, scale=real)
    rows["blocks of 32 (mxfp4), scales given"] = None, to(last, "e2m1", axis=1, block=32, scale=blocks)
    rows["nearest e4m3fn in place"] = None, to(y, "e4m3fn")
    rows["nearest bfloat16 (general formula)"] = None, to(x, "bfloat16")
    rows["stochastic bfloat16 (general formula)"] = None, to(x, "bfloat16", "stochastic", seed=1)

    seconds = cpu_seconds({"copy": lambda: np.copyto(y, x)} | {name: call for name, (_, call) in rows.items()})
    print(
        f"rounding {x.size:,} float32 elements; share of np.copyto's speed ({4e-9 * x.size / seconds['copy']:.1f} GB/s)"
    )
    for name, (bar, _) in rows.items():
        _line(name, seconds["copy"] / seconds[name], bar, "")


def rivals() -> None:
    """Casts there and back, their time over ours."""
    for size in (1 << 18, *_SIZES):  # the first stays in the cache and has no bar
        _rivals_of(torch.randn(size))
    if float_quantize is None:
        print("  qtorch is not installed: not compared")


def _rivals_of(x: torch.Tensor) -> None:
    y = torch.empty_like(x)
    many = max(1, (1 << 20) // x.numel())
    fp8 = {"e4m3fn": (torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn), "e5m2": (torch.float8_e5m2, ml_dtypes.float8_e5m2)}
    print(f"against others, {x.numel():,} elements, nearest-even; their time over ours (over a plain copy's)")
    for name, (in_torch, in_numpy) in fp8.items():
        fmt = FloatFormat.parse(name)
        narrow, narrow_numpy = torch.empty_like(x, dtype=in_torch), np.empty(x.shape, dtype=in_numpy)
        calls: dict[str, Callable[[], object]] = {
            "ours": lambda fmt=fmt: round_to_format(x, fmt, out=y),
            "copy": lambda: y.copy_(x),
            "torch": lambda narrow=narrow: y.copy_(narrow.copy_(x)),
            "ml_dtypes": lambda narrow=narrow_numpy: _there_and_back(x.numpy(), narrow, y.numpy()),
        }
        if float_quantize is not None:
            calls["ours, into a new array"] = lambda fmt=fmt: round_to_format(x, fmt)
            calls["qtorch"] = lambda f=fmt: float_quantize(x, f.exponent_bits, f.mantissa_bits, "nearest")
        seconds = cpu_seconds({key: functools.partial(_repeat, call, many) for key, call in calls.items()}, runs=7)
        for rival, bar in (("torch", 10), ("ml_dtypes", 35), ("qtorch", 10)):
            for own in ("ours", "ours, into a new array"):
                if rival in seconds and own in seconds and (rival == "qtorch" or own == "ours"):
                    label = f"{name}: {rival}" + ("" if own == "ours" else ", ours into a new array too")
                    note = f"  ({seconds[rival] / seconds['copy']:.1f}x)"
                    over = seconds[rival] / seconds[own]
                    _line(label, over, bar if x.numel() in _SIZES else None, "x", note=note)


def _there_and_back(x: np.ndarray, narrow: np.ndarray, y: np.ndarray) -> None:
    np.copyto(narrow, x, casting="unsafe")
    np.copyto(y, narrow, casting="unsafe")


def accumulators() -> None:
    """Matrix products with rounded sums, their time over torch.mm's."""
    for size in (512, 1024):
        print(f"matrix product {size} x {size} x {size} with rounded sums; time over torch.mm's")
        a, b = torch.randn(size, size), torch.randn(size, size)
        calls: dict[str, Callable[[], object]] = {"torch.mm": functools.partial(torch.mm, a, b)}
        for name, chunk in (("e5m10", 32), ("e5m10", 128), ("e6m9", 32), ("bfloat16", 32), ("e5m10", 1)):
            calls[f"{name}, chunk {chunk}"] = functools.partial(matmul, a, b, name, chunk=chunk)
        seconds = cpu_seconds(calls, runs=9)
        for label, own in seconds.items():
            if label != "torch.mm":
                _line(label, own / seconds["torch.mm"], 2 if "chunk 32" in label else None, "x", at_most=True)


def small_tensors() -> None:
    """What a call costs beside the elements: CPU time of one call."""
    print("calls on small tensors, microseconds a call, scaled by the largest magnitude")
    for size in (1_000, 10_000, 100_000, 1_000_000):
        x = torch.randn(size)
        calls = {
            "clone": x.clone,
            "round_scaled": lambda x=x: round_scaled(x, "e4m3fn"),
            "two calls": lambda x=x: round_to_format(x, "e4m3fn", scale=absmax_scale(x, "e4m3fn")),
        }
        many = max(1, 1_000_000 // size)
        seconds = cpu_seconds({name: functools.partial(_repeat, call, many) for name, call in calls.items()}, runs=9)
        each = "   ".join(f"{name} {1e6 * own / many:7.1f}" for name, own in seconds.items())
        print(f"  {size:>9,} elements   {each}")


def _repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def _small() -> torch.nn.Module:
    """Three convolutions and a head, without norms: what a product costs is nearly all that a step costs."""
    parts: list[torch.nn.Module] = []
    for channels, out in ((3, 32), (32, 64), (64, 64)):
        parts += [torch.nn.Conv2d(channels, out, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2)]
    return torch.nn.Sequential(*parts, torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(64, 10))


def _vgg() -> torch.nn.Module:
    """The VGG-16 of `codesign reproduce quantization`: an eighth of the width, so that tensors are small, and batch norm."""
    layers = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512"
    return build(f"vgg:{layers}", (1, 28, 28), 10, width=0.125)


def training_steps() -> None:
    """A training step with W, A, E and G of every layer rounded, over the same in float32.

    Allocated formats are estimated anew every 100 steps: a hundredth of what such a step costs more is counted.
    """
    for label, make, shape in (("three convolutions", _small, (3, 32, 32)), ("small VGG-16", _vgg, (1, 28, 28))):
        print(f"training step, {label}, batch 64 of {' x '.join(map(str, shape))}; time over float32's")
        x, labels = torch.randn(64, *shape), torch.randint(0, 10, (64,))
        steps = {name: _step_of(make, name, x, labels) for name in ("fp32", "fp8-hybrid", "allocated-8", "allocated-4")}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(2 * ESTIMATED_EVERY + 1):
            for name, step in steps.items():
                start = time.process_time()
                step()
                times[name].append(time.process_time() - start)
        plain = statistics.median(times["fp32"])
        for name, own in times.items():
            ordinary = statistics.median(own)
            estimating = statistics.median(own[ESTIMATED_EVERY::ESTIMATED_EVERY]) - ordinary
            over = (ordinary + (estimating / ESTIMATED_EVERY if "allocated" in name else 0)) / plain
            if name != "fp32":
                _line(name, over, 1.15 if "allocated" in name else 1.05, "x", at_most=True)


def _step_of(
    make: Callable[[], torch.nn.Module], formats: str, x: torch.Tensor, labels: torch.Tensor
) -> Callable[[], object]:
    torch.manual_seed(0)
    network = make().to(memory_format=torch.channels_last)
    if formats != "fp32":
        convert(network, policy_of(formats))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    """Print every table."""
    torch.set_num_threads(1)
    rounding()
    rivals()
    accumulators()
    small_tensors()
    training_steps()


if __name__ == "__main__":
    main()
