"""CPU seconds of the dynamic program: `python -m tests.bench.search_solve` (bar: 54 layers in at most 1 s)."""

from __future__ import annotations

import statistics
import time

import numpy as np

from codesign.search.dp.solve import Step, solve

LEVELS, OPTIONS = 8, 28  # 224 choices a layer
ROUNDS = 5


def network(layers: int, *, coupled: bool) -> tuple[list[Step], list[np.ndarray]]:
    """Random tables; `coupled`: the outputs of each layer are the inputs of the next."""
    rng = np.random.default_rng(layers)
    steps = []
    for i in range(layers):
        ins = LEVELS if coupled and i else 1
        table = rng.random((ins, LEVELS, OPTIONS))
        loss = np.broadcast_to(0.01 * rng.random(OPTIONS), table.shape)
        steps.append(Step(in_group=i - 1 if ins > 1 else None, out_group=i, latency_s=table, loss=loss))
    return steps, [0.01 * np.sort(rng.random(LEVELS)) for _ in range(layers)]


def main() -> None:
    """Print one line per size."""
    for coupled in (False, True):
        solve(*network(2, coupled=coupled))  # compiles
        for layers in (16, 54, 200):
            tables = network(layers, coupled=coupled)
            spent = []
            for _ in range(ROUNDS):
                before_s = time.process_time()
                solve(*tables)
                spent.append(time.process_time() - before_s)
            kind = "coupled channels" if coupled else "separate layers"
            print(f"{layers:4d} layers, {kind:17s}{statistics.median(spent):8.3f} CPU s")


if __name__ == "__main__":
    main()
