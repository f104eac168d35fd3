"""A matrix product whose running sums have few bits, as in an accelerator's accumulators."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from codesign.errors import FormatError, ModelError
from codesign.formats import FloatFormat, Rounding, as_format, as_member
from codesign.quantize.paths.layout import ChannelFormats, RoundingJob, in_parts
from codesign.quantize.rounding import check_kind, stochastic_key, whole

if TYPE_CHECKING:
    import torch

    Matrix = TypeVar("Matrix", npt.NDArray[np.float32], torch.Tensor)


def matmul(
    a: Matrix,
    b: Matrix,
    accumulate: FloatFormat | str,
    *,
    chunk: int = 1,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    seed: int | None = None,
    step: int = 0,
    threads: int = 1,
) -> Matrix:
    """`a @ b` with sums over k in index order, rounded to `accumulate` after every `chunk` additions.

    With `chunk=1` each product is added exactly and the sum rounded once: the result of a bit-true accumulator. With
    more, a chunk is added to the running sum in float32, one fused multiply-add for each product, and the sum is then
    rounded; so is the last, shorter chunk. On other devices than the CPU the order inside a chunk is the device's,
    and the adder of `chunk=1` is a float64 one.

    Parameters
    ----------
    a, b : float32, shapes (m, k) and (k, n), numpy or torch; not rounded, do that first. Result: float32, (m, n), of a
        tensor detached. A sum over nothing, k = 0, is zero.
    accumulate : the accumulator's format; its policies say what an overflowing sum becomes
    chunk : 1 or more; k and more is a float32 sum rounded once
    rounding, seed, step : as in `round_to_format`; the random bits depend also on the chunk
    """
    rounding = as_member(Rounding, rounding)
    fmt = as_format(accumulate)
    if not fmt.signed:
        raise FormatError(f"'{fmt}' has no sign and cannot hold a sum")
    chunk, threads = whole("chunk", chunk, 1), whole("threads", threads, 1)
    for name, matrix in (("a", a), ("b", b)):
        check_kind(matrix, name)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
        raise ModelError(f"shapes (m, k) and (k, n) are needed, got {tuple(a.shape)} and {tuple(b.shape)}")
    for name, matrix in (("a", a), ("b", b)):
        if str(matrix.dtype).removeprefix("torch.") != "float32":
            raise ModelError(f"{name} must be float32, got {matrix.dtype}; convert it first")
    job = RoundingJob(
        rounding=rounding,
        formats=ChannelFormats.of((fmt,)),
        scale=None,
        axis=0,
        block=None,
        key=stochastic_key(rounding, seed, step),
        threads=threads,
    )
    if isinstance(a, np.ndarray):
        return _matmul_numpy(a, b, job, chunk)
    if a.device.type != "cpu":
        return _matmul_torch(a.detach(), b.detach(), job, chunk)
    import torch

    return torch.from_numpy(_matmul_numpy(a.detach().numpy(), b.detach().numpy(), job, chunk))


def _matmul_numpy(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], job: RoundingJob, chunk: int
) -> npt.NDArray[np.float32]:
    from codesign.quantize.kernels import sums

    table, use_fast = job.formats.constants(job.mode)
    kernel = sums.exact(job.mode, use_fast) if chunk == 1 else sums.chunked(job.mode, use_fast)
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b) if chunk == 1 else sums.in_tiles(b)
    result = np.zeros((a.shape[0], b.shape[1]), dtype=np.float32)
    low, high = (np.uint32(half) for half in job.key)

    def part(first: int, last: int) -> None:
        kernel(left[first:last], right, result[first:last], table[0], chunk, first, len(result), low, high)

    in_parts(len(result), job.threads, part)
    return result


def _matmul_torch(a: torch.Tensor, b: torch.Tensor, job: RoundingJob, chunk: int) -> torch.Tensor:
    """The same order of chunks in torch operations, for any device."""
    import torch

    from codesign.quantize.paths.integer import round_tensor

    result = a.new_zeros(a.shape[0], b.shape[1])
    for number, start in enumerate(range(0, a.shape[1], chunk)):
        part_a, part_b = a[:, start : start + chunk], b[start : start + chunk]
        if chunk == 1:
            total = torch.addcmul(result.double(), part_a.double(), part_b.double())
        else:
            total = torch.addmm(result, part_a, part_b)
        result = round_tensor(total, job, first_index=number * result.numel()).float()
    return result
