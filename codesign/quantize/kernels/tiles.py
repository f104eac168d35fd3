"""A small matrix product whose sums stay in vector registers, written in LLVM's own instructions.

Numba's loops keep running sums in memory, between a load and a store each; at most half of the processor's multiply-adds
are used so. Here 4 rows of sums are vectors, and only the operands are loaded.
"""

# mypy: ignore-errors
# (numba gives these functions their types)

from __future__ import annotations

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 4  # of the tile
COLUMNS = 64  # of the tile

_WIDE = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
_LANES = 16 if _WIDE else 8  # float32 numbers in a vector
_VECTORS = (
    4 if _WIDE else 2
)  # in a row of sums at a time: 4 x 4 of 32 registers, or 4 x 2 of 16, leave room for operands


@intrinsic
def multiply_add(context, a, b, c, depth):
    """c[row, column] += a[k, row] b[k, column] for k = 0 ... depth - 1, each by one fused multiply-add, in this order.

    a, b, c : addresses of float32 arrays (depth, ROWS), (depth, COLUMNS) and (ROWS, COLUMNS), C order
    """
    return numba.void(numba.int64, numba.int64, numba.int64, numba.int64), _multiply_add


def _multiply_add(context, builder, signature, arguments):
    *addresses, depth = arguments
    vector = ir.VectorType(ir.FloatType(), _LANES)
    a, b, c = (builder.inttoptr(address, ir.FloatType().as_pointer()) for address in addresses)
    fused = builder.module.declare_intrinsic(f"llvm.fma.v{_LANES}f32", fnty=ir.FunctionType(vector, [vector] * 3))
    first_lane = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)

    def element(pointer, row, width, column):
        index = builder.add(builder.mul(row, ir.Constant(row.type, width)), ir.Constant(row.type, column))
        return builder.gep(pointer, [index])

    def as_vector(pointer):
        return builder.bitcast(pointer, vector.as_pointer())

    def spread(x):
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), first_lane)

    for first in range(0, COLUMNS, _VECTORS * _LANES):
        columns = range(first, first + _VECTORS * _LANES, _LANES)
        tile = [(row, column) for row in range(ROWS) for column in columns]
        places = [as_vector(element(c, ir.Constant(ir.IntType(64), row), COLUMNS, column)) for row, column in tile]
        sums = [cgutils.alloca_once_value(builder, builder.load(place, align=4)) for place in places]  # to be registers
        with cgutils.for_range(builder, depth) as loop:
            xs = [spread(builder.load(element(a, loop.index, ROWS, row), align=4)) for row in range(ROWS)]
            loads = [builder.load(as_vector(element(b, loop.index, COLUMNS, y)), align=4) for y in columns]
            ys = dict(zip(columns, loads, strict=True))
            for (row, column), total in zip(tile, sums, strict=True):
                builder.store(builder.call(fused, [xs[row], ys[column], builder.load(total)]), total)
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.load(total), place, align=4)
    return context.get_dummy_value()
