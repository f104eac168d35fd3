"""Short words to write networks down with: a `Builder` for square kernels that computes output sizes itself."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.workload.build import Builder, Tensor
from codesign.workload.channels import reshape
from codesign.workload.layers import VectorKind
from codesign.workload.network import Workload
from codesign.workload.shapes import Atom, Shape, extent_of, size_of


class Sketch:
    """One method per kind of layer; each takes a tensor and the layer's name, and returns a tensor."""

    def __init__(self) -> None:
        self.builder = Builder()

    def input(self, sizes: Sequence[int], *, channels: bool = True) -> Tensor:
        """An input of the network; its first dimension is the channels, if it has any."""
        return self.builder.input(sizes, channels=channels)

    def conv(
        self,
        x: Tensor,
        name: str,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> Tensor:
        """A convolution with a square kernel."""
        size = [size_of(dim) for dim in x.shape[2:]]
        out = [_out(length, kernel, stride, padding) for length in size]
        n = len(size)
        return self.builder.convolution(
            x, name, channels, (kernel,) * n, stride=(stride,) * n, padding=(padding,) * n, dilation=(1,) * n,
            out_size=out, groups=groups, bias=bias,
        )  # fmt: skip

    def linear(self, x: Tensor, name: str, features: int, *, bias: bool = True, units: int = 0) -> Tensor:
        """A linear layer over the last dimension. `units`: as many parts, each of which leaves as a whole."""
        return self.builder.linear(x, name, features, bias=bias, units=units)

    def batch_norm(self, x: Tensor, name: str) -> Tensor:
        """A batch norm over dimension 1, with scale and shift."""
        return self.builder.vector(VectorKind.BATCH_NORM, (x,), name, weights=extent_of((x.shape[1],)).times(2))

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        """A layer norm over the last dimension, with scale and shift."""
        return self.builder.vector(VectorKind.ROW_NORM, (x,), name, weights=extent_of((x.shape[-1],)).times(2))

    def activation(self, x: Tensor, name: str) -> Tensor:
        """ReLU, GELU, ..."""
        return self.builder.vector(VectorKind.ACTIVATION, (x,), name)

    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """A residual sum."""
        shape = self.builder.channels.broadcast(x.shape, y.shape)
        return self.builder.vector(VectorKind.ADD, (x, y), name, shape=shape)

    def multiply(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        """A product element by element."""
        shape = self.builder.channels.broadcast(x.shape, y.shape)
        return self.builder.vector(VectorKind.MULTIPLY, (x, y), name, shape=shape)

    def max_pool(self, x: Tensor, name: str, kernel: int, *, stride: int = 0, padding: int = 0) -> Tensor:
        """Maxima of square windows; the stride is the kernel when left out."""
        sizes = [_out(size_of(dim), kernel, stride or kernel, padding) for dim in x.shape[2:]]
        shape = (*x.shape[:2], *((Atom(size),) for size in sizes))
        return self.builder.vector(VectorKind.MAX_POOL, (x,), name, shape=shape)

    def mean_pool(self, x: Tensor, name: str) -> Tensor:
        """The mean of each map, kept as a map of one pixel."""
        shape = (*x.shape[:2], *((Atom(1),) for _ in x.shape[2:]))
        return self.builder.vector(VectorKind.REDUCE, (x,), name, shape=shape)

    def flatten(self, x: Tensor, start: int = 1, end: int = -1) -> Tensor:
        """Dimensions `start` to `end` as one."""
        sizes = [size_of(dim) for dim in x.shape]
        stop = len(sizes) if end == -1 else end + 1
        product = 1
        for size in sizes[start:stop]:
            product *= size
        return self.view(x, [*sizes[:start], product, *sizes[stop:]])

    def view(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """The same numbers in dimensions of other sizes, the batch included."""
        return _with_shape(x, reshape(x.shape, list(sizes)))

    def swap(self, x: Tensor, one: int, other: int) -> Tensor:
        """Two dimensions exchanged."""
        shape = list(x.shape)
        shape[one], shape[other] = shape[other], shape[one]
        return _with_shape(x, tuple(shape))

    def workload(self, name: str, output: Tensor, batch: int) -> Workload:
        """The finished network."""
        return self.builder.workload(name, (output,), batch)


def _with_shape(x: Tensor, shape: Shape) -> Tensor:
    return Tensor(shape=shape, source=x.source, owner=x.owner, needs_grad=x.needs_grad)


def _out(length: int, kernel: int, stride: int, padding: int) -> int:
    return (length + 2 * padding - kernel) // stride + 1
