"""A page that simulates again at every move of a slider: the C core as WebAssembly, and the network as numbers."""

from __future__ import annotations

import base64
import json
from html import escape
from importlib import resources
from typing import Any

from codesign.cost.lower import Product
from codesign.cost.mac import native_area_um2
from codesign.cost.machine import UnitCosts, machine_of
from codesign.cost.report import owner_of
from codesign.cost.vector import VectorWork
from codesign.design import LayerFormats, Role, uniform
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.whatif.grids import kept_network
from codesign.whatif.work import IMAGE_COLUMNS, Row, rows_of, sizes_of
from codesign.workload import Phase, Workload

KEEPS = tuple(percent / 100 for percent in range(5, 101, 5))
FORMATS = ("float32", "e8m10", "bfloat16", "float16", "e5m2", "e4m3fn", "e3m2", "e2m3", "e2m1", "e0m7")
MOST_ROWS = 4096  # of csrc/page.c
_ROLES = list(Role)
_NARROW, _WIDE = "e4m3", "float16"  # any two widths do: bits of a tensor are linear in the width
_PHASES = list(Phase)


def what_if_page(
    network: Workload,
    accelerator: Accelerator,
    *,
    formats: LayerFormats | None = None,
    optimizer: Optimizer = Optimizer.MOMENTUM,
) -> str:
    """One HTML file without server or network. It starts at `network` with `formats` (bfloat16 when left out)."""
    template = resources.files("codesign.whatif").joinpath("page.html").read_text(encoding="utf-8")
    wasm = resources.files("codesign.whatif").joinpath("page.wasm").read_bytes()
    title = f"{network.name} on {accelerator.name}: what if"
    document = _document(network, accelerator, formats or uniform("bf16"), optimizer)
    # "</script>" inside a string would end the script element; JSON may escape any character
    data = json.dumps(document, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    code = base64.b64encode(wasm).decode()
    return template.replace("{{title}}", escape(title)).replace("{{wasm}}", code).replace("{{data}}", data)


def _document(
    network: Workload, accelerator: Accelerator, formats: LayerFormats, optimizer: Optimizer
) -> dict[str, Any]:
    labels = {str(FloatFormat.parse(name)): name for name in FORMATS}
    labels |= {name: name for name in formats.names().values() if name not in labels}
    parsed = [FloatFormat.parse(name) for name in labels]
    array, dram = accelerator.array, accelerator.dram
    can_cut = any(group.producers and not group.pinned for group in network.groups)
    keeps = KEEPS if can_cut else (1.0,)
    groups: list[tuple[int, int]] = []
    tables = [lowered(kept_network(network, keep if can_cut else None), optimizer, groups) for keep in keeps]
    return {
        "schema": "codesign.whatif.page/1",
        "workload": network.name,
        "accelerator": accelerator.name,
        "optimizer": optimizer.value,
        "groups": [[network.layers[i].name, owner_of(network.layers[i]), _PHASES[j].value] for i, j in groups],
        "phases": [phase.value for phase in Phase],
        "roles": [role.value for role in Role],
        "keeps": keeps,
        "tables": tables,
        "formats": [{"name": str(fmt), "label": labels[str(fmt)], "bits": fmt.bits} for fmt in parsed],
        "units": _units(accelerator, parsed),
        "start": {
            "rows": array.rows,
            "cols": array.cols,
            "arrays": array.count,
            "clock_hz": array.clock_hz,
            "bandwidth_bytes_per_s": dram.bandwidth_bytes_per_s,
            "sram_bytes": accelerator.sram.capacity_bytes,
            "batch": network.batch,
            "keep": 1.0,
            "dataflows": machine_of(accelerator)["dataflows"],
            **formats.names(),
        },
        "constants": {
            "dram_latency_s": dram.latency_s,
            "sram_pj_per_bit": accelerator.sram.energy_pj_per_bit,
            "dram_pj_per_bit": dram.energy_pj_per_bit,
            "lanes": accelerator.vector.lanes,
            "element_um2": native_area_um2(accelerator),
            "area_scale": accelerator.mac.area_scale,
            "byte_um2": accelerator.sram.area_um2_per_byte,
        },
    }


def _units(accelerator: Accelerator, formats: list[FloatFormat]) -> list[list[list[list[float] | None]]]:
    """[first][second][accumulator] -> rate and picojoules of a multiply-accumulate; None where it cannot run."""
    units = UnitCosts(accelerator)

    def of(first: FloatFormat, second: FloatFormat, accumulator: FloatFormat) -> list[float] | None:
        try:
            return list(units.of(first, second, accumulator))
        except CostError:
            return None

    return [[[of(first, second, last) for last in formats] for second in formats] for first in formats]


def lowered(network: Workload, optimizer: Optimizer, groups: list[tuple[int, int]]) -> list[list[float]]:
    """Rows of csrc/page.c: sizes as (value at batch 0, more per example), tensors as (bits per role's width).

    groups : (layer, phase) by number; new ones are added
    """
    narrow = _rows(network, 1, optimizer, {})
    twice = _rows(network, 2, optimizer, {})
    wide = {role: [_rows(network, batch, optimizer, {role: _WIDE}) for batch in (1, 2)] for role in _ROLES}
    table: list[list[float]] = []
    number = {group: i for i, group in enumerate(groups)}
    for i, row in enumerate(narrow):
        group = (row.layer, row.phase)
        if group not in number:
            number[group] = len(groups)
            groups.append(group)
        head: list[float] = [int(isinstance(row.work, VectorWork)), number[group], row.phase]
        if isinstance(row.work, Product):
            table.append(head + _product(row.work, _as_product(twice[i])))
        else:
            wider = {role: [_as_pass(rows[i]) for rows in pair] for role, pair in wide.items()}
            table.append(head + _pass(row.work, _as_pass(twice[i]), wider))
    if len(table) > MOST_ROWS:
        raise CostError(f"workload '{network.name}' has {len(table)} rows of work; the page holds {MOST_ROWS}")
    _check(table, _rows(network, 7, optimizer, {Role.ERROR: _WIDE}), 7)
    return table


def _rows(network: Workload, batch: int, optimizer: Optimizer, other: dict[Role, str]) -> list[Row]:
    names = {role.value: other.get(role, _NARROW) for role in _ROLES}
    return rows_of(network.with_batch(batch), LayerFormats.parse(names), optimizer)


def _as_product(row: Row) -> Product:
    assert isinstance(row.work, Product)
    return row.work


def _as_pass(row: Row) -> VectorWork:
    assert isinstance(row.work, VectorWork)
    return row.work


def _line(one: int, two: int) -> list[float]:
    return [2 * one - two, two - one]


def _product(one: Product, two: Product) -> list[float]:
    first, second = sizes_of(one), sizes_of(two)
    lines = [value for pair in zip(first[:4], second[:4], strict=True) for value in _line(*pair)]
    return [*lines, *(_ROLES.index(role) for role in one.roles), *first[-len(IMAGE_COLUMNS) :]]


def _pass(one: VectorWork, two: VectorWork, wider: dict[Role, list[VectorWork]]) -> list[float]:
    narrow, wide = FloatFormat.parse(_NARROW).bits, FloatFormat.parse(_WIDE).bits
    words = _line(one.operations, two.operations)
    rest = [one.traffic_bits, two.traffic_bits]
    for role in _ROLES:
        each = [
            (work.traffic_bits - base.traffic_bits) // (wide - narrow)
            for work, base in zip(wider[role], (one, two), strict=True)
        ]
        words += _line(*each)
        rest = [bits - count * narrow for bits, count in zip(rest, each, strict=True)]
    return words + _line(*rest)


def _check(table: list[list[float]], rows: list[Row], batch: int) -> None:
    """The straight lines hold at another batch and another width."""
    narrow, wide = FloatFormat.parse(_NARROW).bits, FloatFormat.parse(_WIDE).bits

    def at(words: list[float], i: int) -> float:
        return words[i] + words[i + 1] * batch

    for words, row in zip(table, rows, strict=True):
        if isinstance(row.work, Product):
            same = sizes_of(row.work) == (*(int(at(words, 3 + 2 * d)) for d in range(4)), *map(int, words[14:]))
        else:
            bits = [wide if role is Role.ERROR else narrow for role in _ROLES]
            moved = at(words, 17) + sum(at(words, 5 + 2 * i) * width for i, width in enumerate(bits))
            same = (row.work.operations, row.work.traffic_bits) == (at(words, 3), moved)
        if not same:
            raise CostError(f"layer {row.layer}: its work does not grow evenly with the batch; the page cannot show it")
