"""What it is computed on: accelerators, as values and as files."""

from codesign.hardware.accelerator import (
    Accelerator,
    Dataflow,
    Dram,
    MacArray,
    MacCost,
    MacModel,
    Sram,
    Throughput,
    ThroughputLaw,
    VectorUnit,
)
from codesign.hardware.load import accelerator_names, accelerator_of, load_accelerator, preset_path

__all__ = [
    "Accelerator",
    "Dataflow",
    "Dram",
    "MacArray",
    "MacCost",
    "MacModel",
    "Sram",
    "Throughput",
    "ThroughputLaw",
    "VectorUnit",
    "accelerator_names",
    "accelerator_of",
    "load_accelerator",
    "preset_path",
]
