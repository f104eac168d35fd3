"""Independent oracle: the closed form and the search against a step-by-step event simulation, compared with `==`."""

import random

import numpy as np
import pytest

from codesign.cost.columns import ORDERS, PRODUCT_COLUMNS, RowError, cost_columns
from tests.cost.machines import machine_table
from tests.reference import tile_events

FLOWS = ("os", "ws", "is")
IMAGE = ("out_rows", "out_cols", "in_rows", "in_cols", "row_step", "row_span", "taps")


def some(rng: random.Random, top: int) -> int:
    """1 to `top`, small numbers as likely as large ones."""
    return min(top, int(2 ** rng.uniform(0, np.log2(top + 1))))


def random_machine(rng: random.Random) -> dict:
    return {
        "rows": some(rng, 8),
        "cols": some(rng, 8),
        "arrays": some(rng, 4),
        "dataflows": sorted(rng.sample(FLOWS, rng.randint(1, 3)), key=FLOWS.index),
        "sram_bits": 400 + some(rng, 60000),
        "dram_bits_per_cycle": rng.choice([0.3, 1.0, 7.7, 64.0, 513.3]),
        "dram_latency_cycles": rng.choice([0, 0, 3, 50]),
    }


def random_product(rng: random.Random, top: int) -> dict:
    product = {
        "m": some(rng, top),
        "n": some(rng, top),
        "k": some(rng, top),
        "repeats": rng.choice([1, 1, 1, 2, 3, 7]),
        **{name: rng.randint(1, 32) for name in ("a_bits", "b_bits", "c_bits", "accumulator_bits")},
        "scale_block": 0,
        "scale_bits": 0,
        "rate": rng.choice([256, 512, 1024, 128, 100, 700]),
        "image": rng.choice([0, 0, 1, 2]),
    }
    if rng.random() < 0.3:
        product |= {"scale_block": rng.choice([1, 4, 32]), "scale_bits": 8}
    if product["image"]:
        product |= {name: some(rng, top) for name, top in zip(IMAGE, (5, 5, 9, 9, 3, 4, 9), strict=True)}
    return product


def c_machine(machine: dict) -> dict:
    flows = sum(1 << FLOWS.index(flow) for flow in machine["dataflows"])
    return machine | {"dataflows": flows}


def c_columns(products: list[dict]) -> dict[str, np.ndarray]:
    columns = {name: np.array([product.get(name, 0) for product in products]) for name in PRODUCT_COLUMNS}
    return columns | {"machine": np.arange(len(products)), "mac_pj": np.zeros(1)}


def test_the_closed_form_equals_the_event_simulation_on_random_mappings():
    rng = random.Random(1)
    machines, products, mappings = [], [], []
    for _ in range(4000):
        machine, product = random_machine(rng), random_product(rng, 40)
        tile = tuple(rng.randint(1, product[d]) for d in "mnk")
        steps = np.prod([-(-product[d] // t) for d, t in zip("mnk", tile, strict=True)]) * product["repeats"]
        if steps > 3000:
            tile = tuple(product[d] for d in "mnk")
        together = rng.randint(1, product["repeats"]) if tile == tuple(product[d] for d in "mnk") else 1
        machines.append(machine | {"sram_bits": 2**40})
        products.append(product)
        mappings.append(
            {"dataflow": rng.choice(FLOWS), "order": rng.choice(ORDERS), "tile": tile, "tile_repeats": together}
        )
    columns = {
        "dataflow": np.array([FLOWS.index(mapping["dataflow"]) for mapping in mappings]),
        "order": np.array([ORDERS.index(mapping["order"]) for mapping in mappings]),
        "tile_repeats": np.array([mapping["tile_repeats"] for mapping in mappings]),
        **{f"tile_{d}": np.array([mapping["tile"][i] for mapping in mappings]) for i, d in enumerate("mnk")},
    }
    _, costs = cost_columns(machine_table(map(c_machine, machines)), c_columns(products), mappings=columns)
    for i, (machine, product, mapping) in enumerate(zip(machines, products, mappings, strict=True)):
        expected = tile_events.run(machine, product, mapping)
        assert expected == {name: costs[name][i] for name in expected}, (machine, product, mapping)


def test_the_search_finds_the_best_of_all_mappings_that_it_promises_to_try():
    rng = random.Random(2)
    infeasible = 0
    for _ in range(150):
        machine, product = random_machine(rng), random_product(rng, 10)
        expected = tile_events.best(machine, product)
        try:
            mappings, costs = cost_columns(machine_table([c_machine(machine)]), c_columns([product]))
        except RowError as error:
            assert (error.reason, expected) == ("capacity", None), (machine, product)
            infeasible += 1
            continue
        found = costs["cycles"][0], costs["a_bits"][0] + costs["b_bits"][0] + costs["c_bits"][0]
        assert found == expected, (machine, product)
        chosen = {
            "dataflow": FLOWS[mappings["dataflow"][0]],
            "order": ORDERS[mappings["order"][0]],
            "tile": tuple(int(mappings[f"tile_{d}"][0]) for d in "mnk"),
            "tile_repeats": int(mappings["tile_repeats"][0]),
        }
        assert tile_events.sram_need(machine, product, chosen) <= machine["sram_bits"]
    assert 0 < infeasible < 100  # both outcomes occur


def test_equal_rows_threads_and_order_do_not_change_a_result():
    rng = random.Random(3)
    machines = machine_table(c_machine(random_machine(rng) | {"sram_bits": 10**6}) for _ in range(5))
    products = [random_product(rng, 200) for _ in range(40)] * 3
    columns = c_columns(products) | {"machine": np.arange(len(products)) % 5}
    alone = [cost_columns(machines, {name: c[i : i + 1] if len(c) > 1 else c for name, c in columns.items()})
             for i in range(len(products))]  # fmt: skip
    for threads in (1, 2, 3):
        mappings, costs = cost_columns(machines, columns, threads=threads)
        for name, values in (mappings | costs).items():
            assert values.tolist() == [(m | c)[name][0] for m, c in alone], name


def event_sram(machine: dict, product: dict, mapping: dict) -> int:
    """SRAM bits of the arrays, counted fold by fold, and those of the DRAM side."""
    a = b = sums = 0
    tile = dict(zip("mnk", mapping["tile"], strict=True))
    for m in tile_events.pieces(product["m"], tile["m"]):
        for n in tile_events.pieces(product["n"], tile["n"]):
            for number, k in enumerate(tile_events.pieces(product["k"], tile["k"])):
                steps = -(-k * 256 // product["rate"])
                rows, cols = machine["rows"], machine["cols"]
                across = -(-n // cols)
                if mapping["dataflow"] == "os":  # the sum of a tile is read once and written once
                    a, b = a + across * m * k, b + -(-m // rows) * k * n
                    sums += m * n * (1 if number == 0 else 2)
                else:  # each fold along k adds to what is there
                    folds = -(-steps // rows)
                    a += (across if mapping["dataflow"] == "ws" else 1) * m * k
                    b += (1 if mapping["dataflow"] == "ws" else -(-m // cols)) * k * n
                    sums += m * n * (2 * folds - (1 if number == 0 else 0))
    bits = a * product["a_bits"] + b * product["b_bits"] + sums * product["accumulator_bits"]
    moved = tile_events.run(machine, product, mapping)
    return product["repeats"] * bits + moved["a_bits"] + moved["b_bits"] + moved["c_bits"]


def test_on_chip_accesses_are_those_counted_fold_by_fold():
    rng = random.Random(4)
    for _ in range(150):
        machine, product = random_machine(rng) | {"sram_bits": 2**40}, random_product(rng, 30)
        mapping = {
            "dataflow": rng.choice(FLOWS),
            "order": rng.choice(ORDERS),
            "tile": tuple(rng.randint(max(1, product[d] // 4), product[d]) for d in "mnk"),
            "tile_repeats": 1,
        }
        columns = {
            "dataflow": np.array([FLOWS.index(mapping["dataflow"])]),
            "order": np.array([ORDERS.index(mapping["order"])]),
            "tile_repeats": np.array([1]),
            **{f"tile_{d}": np.array([mapping["tile"][i]]) for i, d in enumerate("mnk")},
        }
        _, costs = cost_columns(machine_table([c_machine(machine)]), c_columns([product]), mappings=columns)
        assert costs["sram_bits"][0] == event_sram(machine, product, mapping)


def pixels_touched(out_rows, out_cols, in_rows, step, span, pixels, start):
    """Input rows, image by image, under `pixels` output pixels from `start` on."""
    touched = set()
    for pixel in range(start, start + pixels):
        image, inside = divmod(pixel, out_rows * out_cols)
        first = inside // out_cols * step
        touched |= {(image, row) for row in range(first, min(in_rows, first + span))}
    return touched


def test_whole_images_and_whole_rows_move_just_the_rows_under_their_windows():
    rng = random.Random(5)
    for _ in range(300):
        out_rows, out_cols, step, span = (some(rng, top) for top in (6, 5, 3, 4))
        in_rows, taps = (out_rows - 1) * step + span, span
        product = {"out_rows": out_rows, "out_cols": out_cols, "in_rows": in_rows, "in_cols": 1, "row_step": step,
                   "row_span": span, "taps": taps}  # fmt: skip
        rows = rng.randint(1, 2 * out_rows)
        here = pixels_touched(out_rows, out_cols, in_rows, step, span, rows * out_cols, 0)
        if step <= span:  # windows without gaps
            assert tile_events.image_words(product, rows * out_cols, 10**6 * taps) == len(here) * 10**6


BAD = {"m": 0, "n": -1, "k": 0, "repeats": 0, "a_bits": 0, "b_bits": 65, "accumulator_bits": 0, "rate": 0, "image": 3}


@pytest.mark.parametrize("name", BAD)
def test_a_value_out_of_range_names_its_row(name):
    product = random_product(random.Random(6), 10) | {"image": 0}
    columns = c_columns([product, product | {name: BAD[name]}]) | {"machine": np.zeros(2, int)}
    with pytest.raises(RowError, match="row 1: range"):
        cost_columns(machine_table([c_machine(random_machine(random.Random(6)) | {"sram_bits": 10**6})]), columns)


def test_counts_that_could_wrap_are_refused():
    product = random_product(random.Random(7), 10) | {"image": 0, "m": 2**20, "n": 2**20, "k": 2**15, "repeats": 1}
    with pytest.raises(RowError, match="row 0: overflow"):
        cost_columns(machine_table([c_machine(random_machine(random.Random(7)))]), c_columns([product]))


@pytest.mark.parametrize("broken", [{"rows": 0}, {"cols": 65537}, {"arrays": 0}, {"dataflows": 0}, {"sram_bits": 0},
                                    {"dram_bits_per_cycle": 0.0}, {"dram_latency_cycles": -1}])  # fmt: skip
def test_a_machine_out_of_range_is_named(broken):
    rng = random.Random(8)
    machines = machine_table([c_machine(random_machine(rng)), c_machine(random_machine(rng)) | broken])
    with pytest.raises(RowError, match="row 1: machine"):
        cost_columns(machines, c_columns([random_product(rng, 5)]))
