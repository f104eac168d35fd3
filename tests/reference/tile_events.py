"""A slow event simulation of a double-buffered loop nest over tiles: every step is visited, every tile is remembered.

Imports nothing of the project. It knows the machine as a plain dictionary, a product as a plain dictionary:

machine : rows, cols, arrays, dataflows (list of "os", "ws", "is"), sram_bits, dram_bits_per_cycle, dram_latency_cycles
product : m, n, k, repeats, a_bits, b_bits, c_bits, accumulator_bits, scale_block, scale_bits, rate, image, and for an
    image: out_rows, out_cols, in_rows, in_cols, row_step, row_span, taps
mapping : dataflow, order (a permutation of "mnk", outermost first), tile (m, n, k), tile_repeats
"""

import itertools
import math


def pieces(size, tile):
    """Lengths of the tiles of a dimension, in order."""
    return [min(tile, size - start) for start in range(0, size, tile)]


def image_words(product, pixels, columns):
    """Numbers under `pixels` output pixels and `columns` (channel, tap) pairs: whole image rows of whole channels."""
    channels = math.ceil(columns / product["taps"])
    rows, left = 0, pixels
    while left > 0:  # image after image
        here = min(left, product["out_rows"] * product["out_cols"])
        left -= here
        if here == product["out_rows"] * product["out_cols"]:
            rows += product["in_rows"]
            continue
        touched = set()
        for out_row in range(math.ceil(here / product["out_cols"])):
            touched |= set(range(out_row * product["row_step"], out_row * product["row_step"] + product["row_span"]))
        rows += min(product["in_rows"], max(touched) + 1)
    return min(channels * rows * product["in_cols"], pixels * columns)


def scaled(product, words, bits):
    """Bits of so many numbers, with one scale for each started block."""
    blocks = math.ceil(words / product["scale_block"]) if product["scale_block"] else 0
    return words * bits + blocks * product["scale_bits"]


def tile_bits(product, operand, m, n, k):
    """Bits of the tile of one operand; "partial" is a tile of C in accumulator width."""
    if operand == "a":
        words = {0: m * k, 1: 0, 2: 0}[product["image"]]
        if product["image"] == 1:
            words = image_words(product, m, k)
        if product["image"] == 2:
            words = image_words(product, k, m)
        return scaled(product, words, product["a_bits"])
    if operand == "b":
        return scaled(product, k * n, product["b_bits"])
    if operand == "c":
        return scaled(product, m * n, product["c_bits"])
    return m * n * product["accumulator_bits"]


def tile_cycles(machine, product, dataflow, m, n, k, repeats):
    """Fold after fold over the arrays: a round of folds lasts as long as one of them."""
    steps = math.ceil(k * 256 / product["rate"])
    rows, cols = machine["rows"], machine["cols"]
    down, across, length = {"os": (m, n, steps), "ws": (steps, n, m), "is": (steps, m, n)}[dataflow]
    folds = repeats * len(pieces(down, rows)) * len(pieces(across, cols))
    rounds = 0
    while folds > 0:
        folds -= machine["arrays"]
        rounds += 1
    return rounds * (length + (rows - 1) + (cols - 1) + rows)


def transfer(machine, bits):
    """Cycles of one request."""
    if bits == 0:
        return 0
    return machine["dram_latency_cycles"] + math.ceil(bits / machine["dram_bits_per_cycle"])


def steps_of(machine, product, mapping):
    """[(compute cycles, {operand: (tile identity, bits)}, C tile identity, first k, last k, C bits, partial bits)]."""
    tile = dict(zip("mnk", mapping["tile"], strict=True))
    parts = {d: pieces(product[d], tile[d]) for d in "mnk"}
    steps = []
    groups = pieces(product["repeats"], mapping["tile_repeats"])
    for group, together in enumerate(groups):
        for place in itertools.product(*(range(len(parts[d])) for d in mapping["order"])):
            at = dict(zip(mapping["order"], place, strict=True))
            m, n, k = (parts[d][at[d]] for d in "mnk")
            steps.append(
                {
                    "compute": tile_cycles(machine, product, mapping["dataflow"], m, n, k, together),
                    "a": ((group, at["m"], at["k"]), together * tile_bits(product, "a", m, n, k)),
                    "b": ((group, at["k"], at["n"]), together * tile_bits(product, "b", m, n, k)),
                    "c": (group, at["m"], at["n"]),
                    "k": at["k"],
                    "last": at["k"] == len(parts["k"]) - 1,
                    "final": together * tile_bits(product, "c", m, n, k),
                    "partial": together * tile_bits(product, "partial", m, n, k),
                }
            )
    return steps


def run(machine, product, mapping):
    """Time and traffic: {"cycles", "compute_cycles", "transfer_cycles", "a_bits", "b_bits", "c_bits"}."""
    steps = steps_of(machine, product, mapping)
    resident = {"a": None, "b": None, "c": None}
    loads, stores = [], []
    moved = {"a": 0, "b": 0, "c": 0}
    for i, step in enumerate(steps):
        load = 0
        for operand in "ab":
            identity, bits = step[operand]
            if resident[operand] != identity:
                resident[operand] = identity
                load += bits
                moved[operand] += bits
        if resident["c"] != step["c"]:
            resident["c"] = step["c"]
            if step["k"] > 0:
                load += step["partial"]
                moved["c"] += step["partial"]
        loads.append(load)
        leaves = i + 1 == len(steps) or steps[i + 1]["c"] != step["c"]
        stores.append((step["final"] if step["last"] else step["partial"]) if leaves else 0)
        moved["c"] += stores[-1]
    # the clock: while step i computes, step i + 1 is loaded and step i - 1 is stored
    clock = busy = transfer(machine, loads[0])
    for i, step in enumerate(steps):
        bits = (loads[i + 1] if i + 1 < len(steps) else 0) + (stores[i - 1] if i > 0 else 0)
        clock += max(step["compute"], transfer(machine, bits))
        busy += transfer(machine, bits)
    clock += transfer(machine, stores[-1])
    busy += transfer(machine, stores[-1])
    return {
        "cycles": clock,
        "compute_cycles": sum(step["compute"] for step in steps),
        "transfer_cycles": busy,
        "a_bits": moved["a"],
        "b_bits": moved["b"],
        "c_bits": moved["c"],
    }


def sram_need(machine, product, mapping):
    """Bits of on-chip memory: two of the largest tile of every operand that has more than one, else one."""
    steps = steps_of(machine, product, mapping)
    need = 0
    for operand in "ab":
        identities = {step[operand][0] for step in steps}
        need += max(step[operand][1] for step in steps) * min(2, len(identities))
    return need + max(step["partial"] for step in steps) * min(2, len({step["c"] for step in steps}))


def tile_choices(size, side):
    """The tile sizes of a dimension that the search has to try."""
    found = [size]
    for divisor in sorted({2**i for i in range(1, 60)} | {3 * 2**i for i in range(60)}):
        if found[-1] <= side:
            break
        tile = side * math.ceil(math.ceil(size / divisor) / side)
        if tile < found[-1]:
            found.append(tile)
    return found


def mappings(machine, product):
    """Every mapping that the search has to try, fitting or not."""
    for dataflow in machine["dataflows"]:
        sides = (machine["cols"] if dataflow == "is" else machine["rows"], machine["cols"], machine["rows"])
        choices = [tile_choices(product[d], side) for d, side in zip("mnk", sides, strict=True)]
        for tile in itertools.product(*choices):
            for order in itertools.permutations("mnk"):
                yield {"dataflow": dataflow, "order": "".join(order), "tile": tile, "tile_repeats": 1}
        for together in tile_choices(product["repeats"], 1):
            whole = (product["m"], product["n"], product["k"])
            yield {"dataflow": dataflow, "order": "mnk", "tile": whole, "tile_repeats": together}


def best(machine, product):
    """(cycles, DRAM bits) of the best mapping that fits, or None."""
    found = None
    for mapping in mappings(machine, product):
        if sram_need(machine, product, mapping) > machine["sram_bits"]:
            continue
        cost = run(machine, product, mapping)
        key = (cost["cycles"], cost["a_bits"] + cost["b_bits"] + cost["c_bits"])
        found = key if found is None else min(found, key)
    return found
