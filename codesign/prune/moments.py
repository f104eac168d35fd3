"""Second moments of what readers read, as a stream: memory grows with the square of the width, not with the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from codesign.errors import DataError

_ROWS = 8192  # observations that are turned into float64 at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Means of z and x over `count` observations, and mean products about those means, on the CPU.

    z, x : [blocks, k] and [blocks, channels]
    zz, zx : [blocks, k, k] and [blocks, k, channels]; xx : [blocks, channels], squares of x alone
    """

    count: int
    z: torch.Tensor
    x: torch.Tensor
    zz: torch.Tensor
    zx: torch.Tensor
    xx: torch.Tensor

    def about(self, z: torch.Tensor, x: torch.Tensor) -> Means:
        """The same, with products about other points, which take the place of the means."""
        dz, dx = self.z - z, self.x - x
        return Means(
            count=self.count,
            z=z,
            x=x,
            zz=self.zz + outer(dz, dz),
            zx=self.zx + outer(dz, dx),
            xx=self.xx + dx.square(),
        )

    def about_zero(self) -> Means:
        """The same, with plain products."""
        return self.about(torch.zeros_like(self.z), torch.zeros_like(self.x))

    def plus(self, other: Means) -> Means:
        """Of the observations of both (Chan, Golub and LeVeque 1983)."""
        share = self.count / (self.count + other.count)
        z, x = self.z * share + other.z * (1 - share), self.x * share + other.x * (1 - share)
        one, two = self.about(z, x), other.about(z, x)
        return Means(
            count=self.count + other.count,
            z=z,
            x=x,
            zz=one.zz * share + two.zz * (1 - share),
            zx=one.zx * share + two.zx * (1 - share),
            xx=one.xx * share + two.xx * (1 - share),
        )


def outer(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Outer product of each block: [blocks, k, channels]."""
    return one.unsqueeze(2) * other.unsqueeze(1)


def _square(z: torch.Tensor) -> torch.Tensor:
    """z' z of each block of [blocks, n, k]. On the CPU by numpy, which computes one triangle of it only."""
    if z.device.type == "cpu":
        rows = z.numpy()
        return torch.from_numpy(rows.swapaxes(1, 2) @ rows)
    return z.mT @ z


class Moments:
    """Sums over observations of pairs (z, x): what a reader reads in a smaller network, and in the dense one.

    For a single network, z and x are the same. All sums are float64, on the device of the observations, and about the
    mean of the first observations, so that a large mean does not drown a small variance.
    """

    def __init__(self) -> None:
        self._count = 0
        self._from: tuple[torch.Tensor, torch.Tensor] | None = None
        self._sums: list[torch.Tensor] = []

    def observe(self, z: torch.Tensor, x: torch.Tensor | None = None) -> None:
        """Take in observations [n, blocks, k] of z and, where it is another tensor, [n, blocks, channels] of x."""
        for i in range(0, len(z), _ROWS):
            zs = z[i : i + _ROWS].double().movedim(1, 0)
            xs = zs if x is None else x[i : i + _ROWS].double().movedim(1, 0)
            if self._from is None:
                self._from = zs.mean(1, keepdim=True), xs.mean(1, keepdim=True)
            zs = zs - self._from[0]
            new = [zs.sum(1), _square(zs)]
            if x is not None:
                xs = xs - self._from[1]
                new += [xs.sum(1), zs.mT @ xs, xs.square().sum(1)]
            self._sums = [old.add_(more) for old, more in zip(self._sums, new, strict=True)] if self._sums else new
        self._count += len(z)

    def means(self) -> Means:
        """What was seen so far."""
        assert self._from is not None
        z, zz, *rest = ((total / self._count).cpu() for total in self._sums)
        x, zx, xx = rest or (z, zz, zz.diagonal(dim1=1, dim2=2))
        if not (torch.isfinite(zz).all() and torch.isfinite(zx).all()):
            raise DataError("the observations hold infinite or undefined values (inf or nan)")
        first_z, first_x = (point.squeeze(1).cpu() for point in self._from)
        return Means(
            count=self._count,
            z=first_z + z,
            x=first_x + x,
            zz=zz - outer(z, z),
            zx=zx - outer(z, x),
            xx=xx - x.square(),
        )
