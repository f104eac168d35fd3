"""Rounding against a plain memory copy, and against what people use today.

    python -m tests.bench.quantize

One thread, CPU time, median of interleaved runs in one process. Speeds are given as a share of `np.copyto` of the same
array (reads and writes every byte once); rivals as their time over ours. qtorch is compared where it is installed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import ml_dtypes
import numpy as np
import torch

from codesign import FloatFormat, Rounding, round_to_format
from codesign.quantize import absmax_scale, matmul

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


def _line(name: str, got: float, bar: float | None, unit: str, at_most: bool = False) -> None:
    if bar is None:
        print(f"  {name:<44} {got:8.2f}{unit}")
    else:
        met = got <= bar if at_most else got >= bar
        print(f"  {name:<44} {got:8.2f}{unit}   {'<=' if at_most else '>='} {bar:g}{unit}  {'' if met else 'MISSED'}")


def rounding() -> None:
    """Kernels against a copy."""
    for size in _SIZES:
        x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        y = np.empty_like(x)
        channels, last = x.reshape(512, -1), x.reshape(-1, 512)
        mixed = [FloatFormat.parse(("e4m3fn", "e5m2", "e3m2", "e2m1")[c % 4]) for c in range(512)]
        scale = np.exp2(np.arange(512) % 7 - 3).astype(np.float32)
        real = np.linspace(0.1, 3, 512).astype(np.float32)
        blocks = absmax_scale(last, "e2m1", axis=1, block=32, rule="microscaling")

        def to(
            fmt: object,
            rounding: Rounding = Rounding.NEAREST_EVEN,
            array: np.ndarray = x,
            out: np.ndarray = y,
            **arguments: object,
        ) -> Callable[[], object]:
            return lambda: round_to_format(array, fmt, rounding, out=out.reshape(array.shape), **arguments)

        calls = {"copy": lambda: np.copyto(y, x)}
        bars: dict[str, float | None] = {}
        for name in ("e4m3fn", "e5m2", "e3m2", "e2m1"):
            calls[f"nearest {name}"], bars[f"nearest {name}"] = to(name), 0.8
        for name in ("e4m3fn", "e5m2", "e3m2", "e2m1"):
            label = f"stochastic {name}"
            calls[label], bars[label] = to(name, Rounding.STOCHASTIC, seed=1), 0.6
        calls["toward zero e4m3fn"], bars["toward zero e4m3fn"] = to("e4m3fn", Rounding.TOWARD_ZERO), None
        for label, call, bar in (
            ("channels first, 4 formats, scales 2^k", to(mixed, array=channels, axis=0, scale=scale), 0.7),
            ("channels first, 4 formats, real scales", to(mixed, array=channels, axis=0, scale=real), 0.7),
            ("channels last, 4 formats, scales 2^k", to(mixed, array=last, axis=1, scale=scale), 0.7),
            ("channels last, 4 formats, real scales", to(mixed, array=last, axis=1, scale=real), 0.7),
            ("blocks of 32 (mxfp4), scales given", to("e2m1", array=last, axis=1, block=32, scale=blocks), None),
            ("nearest e4m3fn in place", to("e4m3fn", array=y), None),
            ("nearest bfloat16 (general formula)", to("bfloat16"), None),
            ("nearest e5m2-inf (general formula)", to("e5m2-inf"), None),
            ("stochastic bfloat16 (general formula)", to("bfloat16", Rounding.STOCHASTIC, seed=1), None),
        ):
            calls[label], bars[label] = call, bar
        seconds = cpu_seconds(calls)
        print(
            f"rounding {size:,} float32 elements; speed as a share of np.copyto ({4e-9 * size / seconds['copy']:.1f} GB/s)"
        )
        for name, bar in bars.items():
            _line(name, seconds["copy"] / seconds[name], bar, "")


def rivals() -> None:
    """Casts there and back, their time over ours."""
    size = 1 << 22
    tensor = torch.randn(size)
    array = tensor.numpy()
    fp8 = {"e4m3fn": (torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn), "e5m2": (torch.float8_e5m2, ml_dtypes.float8_e5m2)}
    print(f"against others, {size:,} elements, nearest-even; their time over ours (both allocate their result)")
    for name, (in_torch, in_numpy) in fp8.items():
        fmt = FloatFormat.parse(name)
        calls = {
            "ours": lambda fmt=fmt: round_to_format(tensor, fmt),
            "torch": lambda dtype=in_torch: tensor.to(dtype).float(),
            "ml_dtypes": lambda dtype=in_numpy: array.astype(dtype).astype(np.float32),
        }
        if float_quantize is not None:
            calls["qtorch"] = lambda fmt=fmt: float_quantize(tensor, fmt.exponent_bits, fmt.mantissa_bits, "nearest")
        seconds = cpu_seconds(calls, runs=7)
        for rival, bar in (("torch", 10), ("ml_dtypes", 35), ("qtorch", 10)):
            if rival in seconds:
                _line(f"{name}: {rival}", seconds[rival] / seconds["ours"], bar, "x")
    if float_quantize is None:
        print("  qtorch is not installed: not compared")


def accumulators() -> None:
    """Matrix products with rounded sums, their time over torch.mm's."""
    print("matrix product 1024 x 1024 x 1024 with rounded sums; time over torch.mm")
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    calls: dict[str, Callable[[], object]] = {"torch.mm": lambda: torch.mm(a, b)}
    for name in ("e5m10", "e6m9", "bfloat16"):
        for chunk in (32, 128):
            calls[f"{name}, chunk {chunk}"] = lambda name=name, chunk=chunk: matmul(a, b, name, chunk=chunk)
    seconds = cpu_seconds(calls, runs=9)
    for label, own in seconds.items():
        if label != "torch.mm":
            _line(label, own / seconds["torch.mm"], 2 if "chunk 32" in label else None, "x", at_most=True)


class _Rounded(torch.autograd.Function):
    """Rounds an activation on the way forward, and its gradient on the way back."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return round_to_format(x, "e4m3fn")

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return round_to_format(gradient, "e5m2")


def training_step() -> None:
    """A small convolutional network's step with W, A, error and gradient rounded, over the same in float32."""
    torch.manual_seed(0)
    x, labels = torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,))
    weights = [torch.randn(32, 3, 3, 3) * 0.2, torch.randn(64, 32, 3, 3) * 0.06, torch.randn(64, 64, 3, 3) * 0.04]
    weights = [w.requires_grad_() for w in weights]
    head = (torch.randn(10, 64) * 0.1).requires_grad_()

    def step(rounded: bool) -> None:
        h = x
        for w in weights:
            if rounded:
                h, w = _Rounded.apply(h), w + (round_to_format(w, "e4m3fn") - w).detach()
            h = torch.nn.functional.relu(torch.nn.functional.conv2d(h, w, padding=1))
            h = torch.nn.functional.avg_pool2d(h, 2)
        loss = torch.nn.functional.cross_entropy(h.mean((2, 3)) @ head.T, labels)
        for w, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            if rounded:
                round_to_format(gradient, "e5m2", out=gradient)
            w.data.add_(gradient, alpha=-1e-3)

    seconds = cpu_seconds({"float32": lambda: step(False), "rounded": lambda: step(True)}, runs=25)
    print("training step of a small convolutional network, batch 64 of 3 x 32 x 32; time over float32's")
    _line("W, A, E and G rounded, unscaled", seconds["rounded"] / seconds["float32"], 1.05, "x", at_most=True)


def main() -> None:
    """Print every table."""
    torch.set_num_threads(1)
    rounding()
    rivals()
    accumulators()
    training_step()


if __name__ == "__main__":
    main()
