"""Speed of what-if sweeps: CPU time of one thread from the keys to the frame, medians of several runs."""

from __future__ import annotations

from codesign.hardware import load_accelerator
from codesign.whatif import sweep
from codesign.workload import builtin_workload
from tests.bench.cost import cpu_s


def spread(base: float, steps: int) -> list[float]:
    """Values from `base` to four times as much."""
    return [base * 4 ** (i / (steps - 1)) for i in range(steps)]


def main() -> None:
    """Print the rows."""
    network = builtin_workload("vgg16-cifar", batch=128)
    print("what-if: VGG-16 training steps, points a second of one core (bar: 100000 with fixed mapping)")
    for name in ("edge", "h100"):
        machine = load_accelerator(name)
        array, dram, sram = machine.array, machine.dram, machine.sram
        grids = {
            "machine": {
                "array.rows": [array.rows, 2 * array.rows, 4 * array.rows],
                "dram.bandwidth_bytes_per_s": spread(dram.bandwidth_bytes_per_s, 40),
                "sram.capacity_bytes": [sram.capacity_bytes * factor for factor in range(4, 24)],
                "array.clock_hz": spread(array.clock_hz / 4, 20),
                "vector.lanes": [machine.vector.lanes, 2 * machine.vector.lanes],
            },
            "machine, formats, channels": {
                "format": ["bf16", "fp8-hybrid", "e4m3"],
                "keep": [1, 0.9, 0.8, 0.7, 0.6, 0.5],
                "dram.bandwidth_bytes_per_s": spread(dram.bandwidth_bytes_per_s, 40),
                "sram.capacity_bytes": [sram.capacity_bytes * factor for factor in range(4, 14)],
                "array.clock_hz": spread(array.clock_hz / 4, 10),
            },
            "bandwidth and clock only": {
                "dram.bandwidth_bytes_per_s": spread(dram.bandwidth_bytes_per_s, 300),
                "array.clock_hz": spread(array.clock_hz / 4, 200),
            },
        }
        for label, vary in grids.items():
            frame = sweep(network, machine, vary, mapping="fixed")
            seconds = cpu_s(lambda machine=machine, vary=vary: sweep(network, machine, vary, mapping="fixed"), 3)
            again = (frame["remapped"] > 0).mean()
            print(
                f"  {name:6} {label:28} {len(frame):7} points {len(frame) / seconds:9.0f} /s, {again:.0%} searched again"
            )
        few = {"dram.bandwidth_bytes_per_s": spread(dram.bandwidth_bytes_per_s, 200)}
        seconds = cpu_s(lambda machine=machine, few=few: sweep(network, machine, few), 3)
        print(f"  {name:6} {'mapping searched':28} {200:7} points {200 / seconds:9.0f} /s")


if __name__ == "__main__":
    main()
