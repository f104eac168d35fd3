"""Presets: plausible, sourced, and equal to the published numbers; files: every mistake is one clear error."""

import csv
import tomllib

import pytest

from codesign.cost import area_um2, macs_per_256_cycles
from codesign.cost.verify import REFERENCE
from codesign.errors import ConfigError, CostError
from codesign.formats import FloatFormat
from codesign.hardware import ThroughputLaw, accelerator_names, accelerator_of, load_accelerator, preset_path

NAMES = accelerator_names()
PUBLISHED = {
    "tpuv1": "TPUv1", "tpuv2": "TPUv2", "tpuv3": "TPUv3", "tpuv4": "TPUv4", "eyeriss": "Eyeriss v1",
    "a100": "A100 SXM 40GB", "h100": "H100 SXM", "b200": "B200 SXM",
}  # fmt: skip
with (REFERENCE / "published_accelerators.csv").open(newline="") as file:
    ROWS = {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_plausible(name):
    machine = load_accelerator(name)
    assert machine.name == name
    assert 1 < machine.ridge_point < 10_000  # operations per byte; catches a slipped kilo
    # TPUv1 is known for its: 92 TOPS over 34 GB/s
    assert machine.ridge_point < 1000 or name == "tpuv1"
    assert (
        machine.peak_macs_per_s
        == machine.array.rows * machine.array.cols * machine.array.count * machine.array.clock_hz
    )
    for part in (machine.array, machine.throughput, machine.mac, machine.sram, machine.dram, machine.vector):
        assert len(part.source) > 10


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_preset_has_the_published_peak_and_bandwidth(name):
    machine, row = load_accelerator(name), ROWS[PUBLISHED[name]]
    peak = row["bf16_fp16_tflops"] or row["int8_tops"]
    if peak:
        assert 2 * machine.peak_macs_per_s == pytest.approx(float(peak) * 1e12, rel=0.005)
    if row["macs_per_cycle"]:
        assert machine.array.elements == int(row["macs_per_cycle"])
    if row["dram_bw_gbs"]:
        assert machine.dram.bandwidth_bytes_per_s == pytest.approx(float(row["dram_bw_gbs"]) * 1e9)
        assert machine.dram.capacity_bytes == pytest.approx(float(row["dram_gb"]) * 1e9, rel=0.08)


# Peaks of the vendor's data, as multiples of bf16 (or int8 on tpuv1): NVIDIA published dense peaks.
RATES = {
    "a100": {"tf32": 0.5, "bf16": 1, "e0m7": 2}, "h100": {"tf32": 0.5, "bf16": 1, "e4m3fn": 2},
    "b200": {"tf32": 0.5, "bf16": 1, "e4m3fn": 2, "e3m2": 2, "e2m1": 4}, "tpuv4": {"bf16": 1, "e0m7": 1, "e2m1": 1},
    "tpuv1": {"e0m7": 1, "bf16": 0.25}, "edge": {"bf16": 1, "e4m3fn": 2, "e2m1": 4, "e3m2": 2, "fp32": 0.25},
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_narrow_formats_run_at_the_published_rates(name):
    machine, wide = load_accelerator(name), FloatFormat.parse("fp32")
    for text, rate in RATES[name].items():
        fmt = FloatFormat.parse(text)
        assert macs_per_256_cycles(machine, fmt, fmt, wide) == 256 * rate, text
        assert macs_per_256_cycles(machine, fmt, FloatFormat.parse("e2m1"), wide) == 256 * rate  # the wider one counts


def test_an_iso_area_machine_fits_units_into_the_area_of_a_native_one():
    table = tomllib.loads(preset_path("edge").read_text())
    table["throughput"]["law"] = "iso-area"
    machine, wide = accelerator_of(table, "edge"), FloatFormat.parse("fp32")
    assert machine.throughput.law is ThroughputLaw.ISO_AREA
    # 28 nm: bf16 into fp32 3.84 x 64 + 5.92 x 2 x 27 x 5 = 1844.16; e4m3 into bf16 3.84 x 16 + 5.92 x 2 x 11 x 4 = 582.4
    e4m3 = FloatFormat.parse("e4m3")
    assert macs_per_256_cycles(machine, e4m3, e4m3, FloatFormat.parse("bf16")) == int(256 * 1844.16 / 582.4)
    # with the wide accumulator in every element little is gained: 3.84 x 16 + 1598.4 = 1659.84
    assert macs_per_256_cycles(machine, e4m3, e4m3, wide) == int(256 * 1844.16 / 1659.84)


def changed(**changes):
    table = tomllib.loads(preset_path("h100").read_text())
    for path, value in changes.items():
        section, _, key = path.partition("__")
        if key:
            table[section][key] = value
        else:
            table[section] = value
    return table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dram__bandwith_bytes_per_s": 1.0},
            "x.toml: dram: unknown key 'bandwith_bytes_per_s'; did you mean 'bandwidth_",
        ),
        ({"dram__bandwidth_bytes_per_s": -1.0}, "x.toml: dram: bandwidth_bytes_per_s must be positive, got -1"),
        ({"dram__latency_s": -1.0}, "x.toml: dram: latency_s must not be negative, got -1"),
        ({"array__rows": 0}, "x.toml: array: rows must be positive, got 0"),
        ({"array__rows": "16"}, "x.toml: array: rows: must be a whole number, got '16'"),
        ({"array__rows": 1.5}, "x.toml: array: rows: must be a whole number, got 1.5"),
        ({"array__dataflows": []}, "x.toml: array: dataflows is empty; give at least one of os, ws, is"),
        ({"array__dataflows": ["rs"]}, "x.toml: array: dataflows.0.: must be one of os, ws, is, got 'rs'"),
        (
            {"array__recalled": ["clock"]},
            "x.toml: array: recalled names 'clock', which is not a field; did you mean 'clock_hz'",
        ),
        (
            {"throughput__table": {"8": 1.0, "16": 2.0}},
            "x.toml: throughput: table: a narrower operand must not be slower",
        ),
        ({"throughput__table": {"x": 1.0}}, "x.toml: throughput: table: 'x' is not a width in bits"),
        ({"throughput__law": "packing"}, "x.toml: throughput: law is 'packing' and table has 4 entries"),
        ({"mac__model": "guess"}, "x.toml: mac: model: must be one of published-28nm, synthesised-45nm, block-dot"),
        ({"vectr": {}}, "x.toml: unknown key 'vectr'; did you mean 'vector'"),
        ({"sram": 5}, "x.toml: sram: must be a table"),
    ],
)
def test_every_mistake_in_a_file_is_one_clear_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        accelerator_of(changed(**changes), "x.toml")


def test_a_native_format_that_is_none_is_named():
    machine = accelerator_of(changed(throughput__native="e99"), "x.toml")
    with pytest.raises(CostError, match=r"accelerator 'h100': throughput.native: 'e99' is not a float format"):
        area_um2(machine)


def test_a_missing_key_and_a_missing_file_are_named(tmp_path):
    table = changed()
    del table["dram"]["latency_s"]
    with pytest.raises(ConfigError, match=r"x.toml: dram: 'latency_s' is missing"):
        accelerator_of(table, "x.toml")
    with pytest.raises(ConfigError, match="no accelerator 'h10'; did you mean 'h100'"):
        load_accelerator("h10")
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read"):
        load_accelerator("nowhere.toml")
    path = tmp_path / "broken.toml"
    path.write_text("name = ")
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML"):
        load_accelerator(path)
    path.write_text(preset_path("edge").read_text())
    assert load_accelerator(str(path)) == load_accelerator("edge")
