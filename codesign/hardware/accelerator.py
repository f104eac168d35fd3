"""The machine: arrays of multiply-accumulate units, memories, a vector unit. Every number has its source beside it.

Each part has `source`, where its numbers come from, and `recalled`, the fields that were recalled, not read there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from codesign.errors import ConfigError, did_you_mean


class Dataflow(StrEnum):
    """Which operand stays in the array while the others pass."""

    OS = "os"  # output stationary
    WS = "ws"  # weight (second operand) stationary
    IS = "is"  # input (first operand) stationary


class ThroughputLaw(StrEnum):
    """What a narrower format buys in multiply-accumulates per cycle."""

    TABLE = "table"  # what the published machine does
    PACKING = "packing"  # power-of-two sub-words of the native operand
    ISO_AREA = "iso-area"  # as many units as fit into the area of one native unit


class MacModel(StrEnum):
    """Which published fit gives area and energy of a multiply-accumulate unit."""

    PUBLISHED_28NM = "published-28nm"
    SYNTHESISED_45NM = "synthesised-45nm"
    BLOCK_DOT = "block-dot"


def _check(record: object, positive: tuple[str, ...]) -> None:
    for name in positive:
        value = getattr(record, name)
        if not value > 0:
            raise ConfigError(f"{name} must be positive, got {value:g}")
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    for name in getattr(record, "recalled", ()):
        if name not in names:
            raise ConfigError(f"recalled names '{name}', which is not a field{did_you_mean(name, names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MacArray:
    """`count` systolic arrays of `rows` x `cols` processing elements.

    The tensor cores of a GPU are described as many small arrays with the same product.
    """

    rows: int
    cols: int
    count: int = 1
    clock_hz: float
    dataflows: tuple[Dataflow, ...]
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, ("rows", "cols", "count", "clock_hz"))
        if not self.dataflows:
            raise ConfigError("dataflows is empty; give at least one of os, ws, is")

    @property
    def elements(self) -> int:
        """Processing elements, each one multiply-accumulate a cycle in the native format."""
        return self.rows * self.cols * self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Multiply-accumulates of a processing element per cycle, by format.

    native, native_accumulator : names of the formats in which an element does one a cycle
    table : for the law `table` only: operand width in bits (as text) -> multiply-accumulates per element and cycle.
        An operand runs at the rate of the narrowest listed width that holds it; a wider one cannot run.
    """

    law: ThroughputLaw
    native: str
    native_accumulator: str
    table: dict[str, float]
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, ())
        if (self.law is ThroughputLaw.TABLE) != bool(self.table):
            raise ConfigError(
                f"law is '{self.law}' and table has {len(self.table)} entries; the law 'table' needs some, others have none"
            )
        for width, rate in self.table.items():
            if not width.isdecimal() or int(width) < 1:
                raise ConfigError(f"table: '{width}' is not a width in bits")
            if not rate >= 1 / 256:
                raise ConfigError(f"table: the rate of {width} bits must be at least 1/256, got {rate:g}")
        rates = [self.table[width] for width in sorted(self.table, key=int)]
        if rates != sorted(rates, reverse=True):
            raise ConfigError("table: a narrower operand must not be slower than a wider one")


@dataclass(frozen=True, slots=True, kw_only=True)
class MacCost:
    """Area and energy of a processing element.

    model : the fit; its node is in its name
    energy_scale, area_scale : this machine's node by that of the fit
    """

    model: MacModel
    energy_scale: float
    area_scale: float
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, ("energy_scale", "area_scale"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sram:
    """On-chip memory that holds the tiles of all operands.

    energy_pj_per_bit : mean of a read and a write
    """

    capacity_bytes: int
    energy_pj_per_bit: float
    area_um2_per_byte: float
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, ("capacity_bytes", "energy_pj_per_bit", "area_um2_per_byte"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """Off-chip memory. `latency_s`: from a request to its first bit."""

    capacity_bytes: int
    bandwidth_bytes_per_s: float
    latency_s: float
    energy_pj_per_bit: float
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, ("capacity_bytes", "bandwidth_bytes_per_s", "energy_pj_per_bit"))
        if self.latency_s < 0:
            raise ConfigError(f"latency_s must not be negative, got {self.latency_s:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorUnit:
    """Elementwise work: `lanes` operations a cycle at the array's clock."""

    lanes: int
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self, ("lanes",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A machine that trains networks."""

    name: str
    description: str
    array: MacArray
    throughput: Throughput
    mac: MacCost
    sram: Sram
    dram: Dram
    vector: VectorUnit

    @property
    def peak_macs_per_s(self) -> float:
        """Multiply-accumulates per second in the native format."""
        return self.array.elements * self.array.clock_hz

    @property
    def ridge_point(self) -> float:
        """Operations (two per multiply-accumulate) per byte of DRAM traffic at which compute and memory balance."""
        return 2 * self.peak_macs_per_s / self.dram.bandwidth_bytes_per_s
