"""The machine: arrays of multiply-accumulate units, memories, a vector unit. Every number has its source beside it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from codesign.errors import ConfigError


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


def _positive(where: str, record: object, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not value > 0:
            raise ConfigError(f"{where}: {name} must be positive, got {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MacArray:
    """`count` systolic arrays of `rows` x `cols` processing elements.

    A GPU's tensor cores are described as many small arrays with the same product.
    recalled : fields whose value was recalled, not read from the source
    """

    rows: int
    cols: int
    count: int = 1
    clock_hz: float
    dataflows: tuple[Dataflow, ...]
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _positive("array", self, "rows", "cols", "count", "clock_hz")
        if not self.dataflows:
            raise ConfigError("array: dataflows is empty; give at least one of os, ws, is")

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle in the native format."""
        return self.rows * self.cols * self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Multiply-accumulates per unit and cycle, by operand width.

    native_bits : operand width at which one unit does one multiply-accumulate a cycle
    table : for `ThroughputLaw.TABLE`: operand bits (as text) -> multiply-accumulates per unit and cycle;
        an operand runs at the rate of the narrowest listed width that holds it
    """

    law: ThroughputLaw
    native_bits: int
    table: dict[str, float]
    source: str
    recalled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sram:
    """On-chip memory that holds the tiles, shared by all operands."""

    capacity_bytes: int
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _positive("sram", self, "capacity_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """Off-chip memory."""

    capacity_bytes: int
    bandwidth_bytes_per_s: float
    latency_s: float
    energy_pj_per_bit: float
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _positive("dram", self, "capacity_bytes", "bandwidth_bytes_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorUnit:
    """Elementwise work: `lanes` operations a cycle at the array's clock."""

    lanes: int
    source: str
    recalled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _positive("vector", self, "lanes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A machine that trains networks."""

    name: str
    description: str
    array: MacArray
    throughput: Throughput
    sram: Sram
    dram: Dram
    vector: VectorUnit

    @property
    def peak_macs_per_s(self) -> float:
        """Multiply-accumulates per second in the native format."""
        return self.array.macs_per_cycle * self.array.clock_hz

    @property
    def ridge_point(self) -> float:
        """Operations (two per multiply-accumulate) per byte of DRAM traffic at which compute and memory balance."""
        return 2 * self.peak_macs_per_s / self.dram.bandwidth_bytes_per_s
