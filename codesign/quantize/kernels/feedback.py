"""Rounding with feedback: what a weight loses is made up for by the weights of its channel that are not yet rounded.

What a channel's outputs lose is (t - q)' H (t - q), where H is the covariance of the inputs and t the weights that would
lose nothing. With H = V V', V upper triangular, it is the sum over i of

    V_ii^2 (c_i - q_i)^2,   c_i = t_i + sum over j < i of V_ji / V_ii (t_j - q_j)

so that rounding c_i instead of t_i, one weight after the other, makes each term as small as it can be: Babai's nearest
plane, and the same weights as E. Frantar et al. 2022, "GPTQ" (arXiv 2210.17323), after B. Hassibi and D. Stork 1993, which
push errors forward by the inverse of H. No inverse is needed here, and the sum is known when the last weight is rounded:
many formats and clips of a channel are tried side by side, as lanes of the same loops.

What is left is then lowered weight by weight: each moves to the value of the format that is best while the others stay,
and the scale to its least squares; both only ever lower the loss (cyclic descent, as K. Behdin et al. 2023, "QuantEase",
arXiv 2309.01885).
"""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import numba
import numpy as np

from codesign.quantize.kernels.compiled import compiled
from codesign.quantize.kernels.elements import as_bits, as_float

u32 = np.uint32
_EXPONENT, _SIGN, _MAGNITUDE = u32(0x7F800000), u32(0x80000000), u32(0x7FFFFFFF)
BLOCK = 64  # columns whose errors reach each other at once; the blocks before them come as one matrix product
_TILE = 256  # lanes whose errors of a block stay in the first cache


@numba.njit
def _nearest(y, limit, floor, shift):
    """`y` rounded to a format whose largest binade is [1, 2): its largest value, smallest exponent, and missing bits."""
    bits = as_bits(y)
    held = min(as_float(u32(bits & _MAGNITUDE)), limit)
    magic = as_float(u32(max(u32(as_bits(held) & _EXPONENT), floor) + shift))
    rounded = np.float32(np.float32(held + magic) - magic)
    return as_float(u32(as_bits(rounded) | u32(bits & _SIGN)))


@compiled(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float64[::1], float32[::1], float32[::1], uint32[::1],"
    " uint32[::1], float32[:, ::1], float32[:, ::1], float64[::1])"
)
def round_block(targets, current, ahead, weight, step, limit, floor, shift, rounded, missing, loss):
    """Round the columns of one block, in order.

    targets : [columns, lanes]; current : the same with what the blocks before push into them, overwritten
    ahead : [columns, columns], V_ji / V_ii at [i, j] for j < i
    weight : [columns], V_ii^2
    step, limit, floor, shift : [lanes], what the largest binade [1, 2) of the format stands for, and the format
    rounded : [columns, lanes], in units of the step; missing : targets less rounded weights; loss : [lanes], added to
    """
    columns, lanes = targets.shape
    for start in range(0, lanes, _TILE):
        stop = min(start + _TILE, lanes)
        for i in range(columns):
            for j in range(i):
                factor = ahead[i, j]
                for lane in range(start, stop):
                    current[i, lane] += factor * missing[j, lane]
            for lane in range(start, stop):
                value = _nearest(np.float32(current[i, lane] / step[lane]), limit[lane], floor[lane], shift[lane])
                back = np.float32(value * step[lane])
                rounded[i, lane] = value
                missing[i, lane] = targets[i, lane] - back
                left = np.float64(current[i, lane] - back)
                loss[lane] += weight[i] * (left * left)


@compiled(
    "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], uint32[::1], uint32[::1],"
    " float32[:, ::1], int64, boolean)"
)
def descend(hessian, pull, product, step, limit, floor, shift, rounded, sweeps, refit):
    """Move single weights, and with `refit` the step of a channel, as long as that lowers its loss.

    The loss of a channel with weights q = step * rounded is q' H q - 2 q' pull, but for a constant.

    hessian : [n, n]; pull : [channels, n]
    product : [channels, n], hessian times rounded, which is kept up to date
    rounded : [channels, n] in units of the step, changed in place; step : [channels]
    """
    channels, n = rounded.shape
    for row in range(channels):
        own, held, wanted = rounded[row], product[row], pull[row]
        for _ in range(sweeps):
            moved = 0
            for i in range(n):
                if hessian[i, i] > 0:
                    best = own[i] - (held[i] - wanted[i] / step[row]) / hessian[i, i]
                    value = _nearest(np.float32(best), limit[row], floor[row], shift[row])
                    change = value - own[i]
                    if change != 0:
                        moved += 1
                        own[i] = value
                        for j in range(n):
                            held[j] += change * hessian[i, j]
            if refit:
                along, square = 0.0, 0.0
                for i in range(n):
                    along += np.float64(own[i]) * wanted[i]
                    square += np.float64(own[i]) * held[i]
                if along > 0 and square > 0:
                    step[row] = np.float32(along / square)
            if moved == 0:
                break
