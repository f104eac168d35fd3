"""Axes, blocks, strides, places and threads. Evidence: properties; everything equals a loop over plain roundings.

The bits are promised on any machine and with any number of threads: no operation depends on another element.
"""

import itertools
import os
import subprocess
import sys
import tempfile

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codesign import FloatFormat, Rounding, round_to_format
from codesign.quantize import absmax_scale
from codesign.testing import channel_tensors

E4M3 = FloatFormat.parse("e4m3fn")
_RNG = np.random.default_rng(0)


def _loop(tensor, rounding):
    """Channel by channel."""
    parts = [
        round_to_format(tensor.x.take([channel], axis=tensor.axis), fmt, rounding, scale=float(scale))
        for channel, (fmt, scale) in enumerate(zip(tensor.formats, tensor.scale, strict=True))
    ]
    return np.concatenate(parts, axis=tensor.axis)


def _bits(x):
    return np.where(np.isnan(x), np.uint32(0x7FC00000), np.ascontiguousarray(x).view(np.uint32))


@given(channel_tensors(), st.sampled_from([Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO]))
def test_per_channel_equals_a_loop_of_per_tensor(tensor, rounding):
    expected = _bits(_loop(tensor, rounding))
    arguments = {"scale": tensor.scale, "axis": tensor.axis}
    assert np.array_equal(_bits(round_to_format(tensor.x, tensor.formats, rounding, **arguments)), expected)
    in_torch = torch.from_numpy(tensor.x.copy())
    assert np.array_equal(_bits(round_to_format(in_torch, tensor.formats, rounding, **arguments).numpy()), expected)
    x = tensor.x.copy()[tuple(slice(None) for _ in tensor.x.shape)]
    assert round_to_format(x, tensor.formats, rounding, **arguments, out=x) is x
    assert np.array_equal(_bits(x), expected)


@pytest.mark.parametrize("shape", [(3, 700), (700, 3), (5, 7, 11), (2, 3, 300), (4, 300, 3), (6,), (1, 1, 1)])
@pytest.mark.parametrize("rounding", Rounding)
def test_every_layout_gives_the_same_bits_as_scales_and_formats_spread_out(shape, rounding):
    """Rows, columns and blocks, formulas fast and general, against one element at a time of torch integers."""
    from codesign.quantize.paths.integer import round_tensor
    from codesign.quantize.paths.layout import ChannelFormats, RoundingJob
    from codesign.quantize.rounding import stochastic_key

    x = (_RNG.standard_normal(shape) * 20).astype(np.float32)
    for axis, names in itertools.product(range(len(shape)), (["e4m3fn", "e2m1"], ["bfloat16", "e5m2-flush-inf"])):
        formats = [FloatFormat.parse(names[channel % 2]) for channel in range(shape[axis])]
        scale = np.exp2(_RNG.integers(-3, 3, shape[axis])).astype(np.float32)
        for some, scales in itertools.product((formats, formats[:1]), (None, scale)):
            job = RoundingJob(
                rounding=rounding,
                formats=ChannelFormats.of(some),
                scale=scales,
                axis=axis,
                block=None,
                key=stochastic_key(rounding, 3, 4),
                threads=1,
            )
            expected = round_tensor(torch.from_numpy(x), job).numpy()
            got = round_to_format(x, some, rounding, scale=scales, axis=axis, seed=3, step=4)
            assert np.array_equal(_bits(got), _bits(expected)), (axis, names, scales is None)


@pytest.mark.parametrize("shape", [(4, 64), (64, 5), (3, 40, 7), (2, 70), (2, 5000)])
@pytest.mark.parametrize("block", [1, 8, 32, 2500])
@pytest.mark.parametrize("rounding", Rounding)
def test_blocks_equal_their_scales_spread_out(shape, block, rounding):
    x = (_RNG.standard_normal(shape) * 100).astype(np.float32)
    for axis in range(len(shape)):
        scale = absmax_scale(x, E4M3, axis=axis, block=block)
        assert scale.shape[axis] == -(-shape[axis] // block)
        spread = np.repeat(scale, block, axis=axis).take(range(shape[axis]), axis=axis)
        expected = round_to_format(x / spread, E4M3, rounding, seed=1) * spread
        got = round_to_format(x, E4M3, rounding, scale=scale, axis=axis, block=block, seed=1)
        assert np.array_equal(_bits(got), _bits(expected))


def test_a_block_of_the_microscaling_format_mxfp4():
    # OCP MX 6.3: X = 2^(floor(log2 6.1) - 2) = 1; 6.1 clips to 6, 2.6 -> 3, 0.24 -> 0, -0.26 -> -0.5, 5.0 -> 4 (tie)
    x = np.zeros((1, 32), np.float32)
    x[0, :5] = 6.1, 2.6, 0.24, -0.26, 5.0
    scale = absmax_scale(x, "e2m1", axis=1, block=32, rule="microscaling")
    assert scale.tolist() == [[1.0]]
    got = round_to_format(x, "e2m1", scale=scale, axis=1, block=32)
    assert got[0, :5].tolist() == [6.0, 3.0, 0.0, -0.5, 4.0]


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2, 1:],
        lambda x: x[::-1, ::-1],
        lambda x: x.reshape(8, 25, 40).transpose(0, 2, 1),
        lambda x: np.broadcast_to(x[:1], x.shape),
        lambda x: x[:0],
        lambda x: x[0, 0],
    ],
    ids=["transposed", "gaps", "backward", "channels last", "broadcast", "empty", "scalar"],
)
def test_strides_do_not_matter(view, rounding):
    base = _RNG.standard_normal((100, 80)).astype(np.float32)
    x = np.asarray(view(base))
    expected = round_to_format(np.array(x, order="C"), E4M3, rounding, seed=9)
    assert np.array_equal(round_to_format(x, E4M3, rounding, seed=9), expected)
    out = np.empty((*x.shape, 2), np.float32)[..., 0]
    round_to_format(x, E4M3, rounding, seed=9, out=out)
    assert np.array_equal(out, expected)
    if x.flags.writeable:
        round_to_format(x, E4M3, rounding, seed=9, out=x)
        assert np.array_equal(x, expected)


def test_read_only_and_overlapping_arrays():
    base = _RNG.standard_normal(1000).astype(np.float32)
    expected = round_to_format(base, E4M3)
    base.flags.writeable = False
    assert np.array_equal(round_to_format(base, E4M3), expected)
    moved = base.copy()
    round_to_format(moved[:-1], E4M3, out=moved[1:])
    assert np.array_equal(moved[1:], expected[:-1])


def test_torch_keeps_memory_format_and_dtype_and_detaches():
    x = torch.randn(2, 8, 6, 6, requires_grad=True).to(memory_format=torch.channels_last)
    y = round_to_format(x, E4M3, scale=torch.full((8,), 0.5), axis=1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not y.requires_grad
    assert torch.equal(y, round_to_format(x.detach().contiguous(), E4M3, scale=0.5))
    weight = torch.nn.Parameter(torch.randn(5, 3))
    expected = round_to_format(weight, E4M3)
    assert round_to_format(weight, E4M3, out=weight) is weight
    assert torch.equal(weight, expected)


def test_half_precision_arrays_of_numpy():
    x = _RNG.standard_normal(1000)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        narrow = x.astype(dtype)
        y = round_to_format(narrow, E4M3, scale=4.0)
        assert y.dtype == dtype
        assert np.array_equal(y.astype(np.float32), round_to_format(narrow.astype(np.float32), E4M3, scale=4.0))


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "e4m3fn-nan", "bfloat16", "e8m0"])
def test_flushing_of_subnormal_numbers_does_not_change_a_bit(name):
    x = _RNG.integers(0, 1 << 32, 1 << 16, dtype=np.uint32).view(np.float32)
    expected = round_to_format(x, name)
    assert torch.set_flush_denormal(True)
    try:
        flushing = round_to_format(x, name)
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(_bits(flushing), _bits(expected))


@pytest.mark.parametrize("rounding", Rounding)
def test_threads_do_not_change_a_bit(rounding):
    x = _RNG.standard_normal((300, 1001)).astype(np.float32)
    many = {"scale": np.full(300, 0.3, np.float32), "axis": 0}
    last = {"scale": np.full(1001, 0.3, np.float32), "axis": 1}
    for arguments in ({}, many, last):
        one = round_to_format(x, E4M3, rounding, seed=1, **arguments)
        for threads in (2, 3, 8):
            assert np.array_equal(round_to_format(x, E4M3, rounding, seed=1, threads=threads, **arguments), one)


def test_a_list_of_formats_may_change_between_calls():
    x = np.full((2, 3), 0.3, np.float32)
    formats = [E4M3, E4M3]
    assert round_to_format(x, formats, axis=0)[:, 0].tolist() == [0.3125, 0.3125]
    formats[1] = FloatFormat.parse("e2m1")
    assert round_to_format(x, formats, axis=0)[:, 0].tolist() == [0.3125, 0.5]
    assert round_to_format(x, tuple(formats), axis=0)[:, 0].tolist() == [0.3125, 0.5]
    for _ in range(200):  # tuples that come and go, some of them in the same place
        assert round_to_format(x, (E4M3, FloatFormat.of(2, 1)), axis=0)[1, 0] == 0.5
        assert round_to_format(x, (E4M3, FloatFormat.of(4, 3)), axis=0)[1, 0] == 0.3125


class _Rounded(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return round_to_format(torch.full((400_000,), 0.3 + i), E4M3, threads=2)[0]


def test_a_forked_worker_rounds_after_its_parent_used_threads():
    expected = [_Rounded()[i] for i in range(4)]
    loader = torch.utils.data.DataLoader(_Rounded(), num_workers=2, multiprocessing_context="fork", timeout=60)
    assert torch.equal(torch.cat(list(loader)), torch.stack(expected))


def test_a_forked_worker_may_be_the_first_to_compile():
    """In a process of its own, without a cache: the parent has imported, and compiled nothing."""
    program = """
import os, numpy as np, torch
from codesign.quantize import matmul, round_scaled
torch.set_num_threads(2); torch.ones(500, 500) @ torch.ones(500, 500)  # the parent has a thread pool of torch's
child = os.fork()
if child == 0:
    x = np.full((70, 70), 0.5, np.float32)
    right = round_scaled(x * 0.6, "e4m3fn")[0, 0] == 0.3125 and matmul(x, x, "e5m10", chunk=8, threads=2)[0, 0] == 17.5
    os._exit(0 if right else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = [sys.executable, "-W", "ignore", "-c", program]
    with tempfile.TemporaryDirectory() as empty:
        assert subprocess.run(run, env={**os.environ, "NUMBA_CACHE_DIR": empty}, timeout=120).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "bfloat16", "e8m0", "e5m2-inf-flush"])
def test_a_gpu_gives_the_same_bits(name, rounding):
    x = torch.from_numpy(_RNG.integers(0, 1 << 32, 1 << 20, dtype=np.uint32).view(np.float32))
    for scale in (None, 0.3) if name != "e8m0" else (None,):
        here = round_to_format(x, name, rounding, scale=scale, seed=1, step=2)
        there = round_to_format(x.cuda(), name, rounding, scale=scale, seed=1, step=2).cpu()
        assert np.array_equal(_bits(here.numpy()), _bits(there.numpy()))
