"""A page that simulates again at every move of a slider: the C core as WebAssembly, and the network as numbers."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np

from codesign.cost import (
    IMAGE_COLUMNS,
    SIZE_COLUMNS,
    dataflow_mask,
    lower,
    mac_unit,
    native_area_um2,
)
from codesign.design import LayerFormats, Role, uniform
from codesign.errors import CostError
from codesign.formats import FloatFormat
from codesign.hardware import Accelerator
from codesign.optimizers import Optimizer
from codesign.whatif.plan import kept_network
from codesign.workload import Phase, Workload

KEEPS = tuple(percent / 100 for percent in range(5, 101, 5))
FORMATS = ("float32", "e8m10", "bfloat16", "float16", "e5m2", "e4m3fn", "e3m2", "e2m3", "e2m1", "e0m7")
MOST_ROWS = 4096  # of csrc/page.c
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
) -> dict[str, object]:
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
        "groups": [[network.layers[i].name, network.layers[i].owner, _PHASES[j].value] for i, j in groups],
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
            "dataflows": dataflow_mask(array.dataflows),
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

    def of(first: FloatFormat, second: FloatFormat, accumulator: FloatFormat) -> list[float] | None:
        try:
            return list(mac_unit(accelerator, first, second, accumulator))
        except CostError:
            return None

    return [[[of(first, second, last) for last in formats] for second in formats] for first in formats]


def lowered(network: Workload, optimizer: Optimizer, groups: list[tuple[int, int]]) -> list[list[int]]:
    """Rows of csrc/page.c, by layer, phase, products before passes. What grows with the batch: (at batch 0, by example).

    groups : (layer, phase) by number; new ones are added
    """
    one, two, seven = (_tables(network, optimizer, batch) for batch in (1, 2, 7))
    if len(one.order) > MOST_ROWS:
        raise CostError(f"workload '{network.name}' has {len(one.order)} rows of work; the page holds {MOST_ROWS}")
    lines = [_lines(first, second) for first, second in zip(one.growing, two.growing, strict=True)]
    at_seven = [line[:, ::2] + 7 * line[:, 1::2] for line in lines]
    if not all(map(np.array_equal, (*at_seven, one.product_rest), (*seven.growing, seven.product_rest))):
        raise CostError(f"workload '{network.name}': work does not grow evenly with the batch; no page can show it")
    number = {group: i for i, group in enumerate(groups)}
    found: list[list[int]] = []
    for layer, phase, kind, row in one.order:
        if (layer, phase) not in number:
            number[layer, phase] = len(groups)
            groups.append((layer, phase))
        fixed = one.product_rest[row].tolist() if kind == _PRODUCT else []
        found.append([kind, number[layer, phase], phase, *lines[kind][row].tolist(), *fixed])
    return found


_PRODUCT, _PASS = 0, 1  # kinds of rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tables:
    """The work of a step at one batch.

    order : (layer, phase, kind, row of its kind), as the page has the rows
    growing : for each kind, what may grow with the batch: of products m, n, k, repeats; of passes operations, numbers of
        each role, mask bits
    product_rest : roles, image
    """

    order: list[tuple[int, int, int, int]]
    growing: tuple[np.ndarray, np.ndarray]
    product_rest: np.ndarray


def _tables(network: Workload, optimizer: Optimizer, batch: int) -> _Tables:
    any_format = uniform("bf16")  # the page multiplies by widths itself
    work = lower(((layer, any_format) for layer in network.layers), batch, optimizer)
    labels = ((_PRODUCT, work.product_layers, work.product_phases), (_PASS, work.pass_layers, work.pass_phases))
    order = [
        (layer, phase, kind, row)
        for kind, layers, phases in labels
        for row, (layer, phase) in enumerate(zip(layers.tolist(), phases.tolist(), strict=True))
    ]
    sizes = np.stack([work.sizes[name] for name in SIZE_COLUMNS], axis=1)
    passes = np.column_stack((work.pass_operations, work.pass_numbers, work.pass_mask_bits))
    image = np.stack([work.sizes[name] for name in IMAGE_COLUMNS], axis=1)
    return _Tables(
        order=sorted(order), growing=(sizes, passes), product_rest=np.concatenate((work.product_roles, image), axis=1)
    )


def _lines(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Columns (at batch 0, by example) of each column, from batches 1 and 2."""
    return np.stack((2 * one - two, two - one), axis=2).reshape(len(one), -1)
