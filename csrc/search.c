/* The best mapping of one product: every tiling of a fixed set, pruned by lower bounds that cannot cut off an optimum. */
#include "schedule.h"

enum { MOST_TILES = 128 }; /* 2 per halving of a 55-bit dimension, and both ends */

/* Tile sizes of a dimension, largest first. See cs_cost_searched. */
static int tile_sizes(int64_t size, int64_t side, int64_t found[MOST_TILES]) {
    int n = 0;
    found[n++] = size;
    for (int64_t half = 2; found[n - 1] > side; half *= 2) {
        const int64_t divisors[2] = {half, half / 2 * 3};
        for (int i = 0; i < 2; ++i) {
            const int64_t tile = ceil_div(ceil_div(size, divisors[i]), side) * side;
            if (tile < found[n - 1]) found[n++] = tile;
        }
    }
    return n;
}

/* Orders that differ only in where a loop of one step stands are the same; one of them is tried. */
static bool repeats_another(const tiling *t, int32_t order) {
    for (int depth = 0; depth < 2; ++depth) {
        const int32_t outer = ORDERS[order][depth], inner = ORDERS[order][depth + 1];
        if (outer > inner && (t->count[outer] == 1 || t->count[inner] == 1)) return true;
    }
    return false;
}

/* No mapping of these tiles into any finer ones computes in less: folds and fold lengths only grow when cut. */
static int64_t least_compute(const cs_machine *machine, const product *p, cs_dataflow dataflow, int64_t m, int64_t n) {
    const int64_t steps = k_steps(p, p->size[K]);
    const int64_t m_tiles = ceil_div(p->size[M], m), n_tiles = ceil_div(p->size[N], n);
    const int64_t m_edge = p->size[M] - (m_tiles - 1) * m, n_edge = p->size[N] - (n_tiles - 1) * n;
    const int64_t ms[2] = {m, m_edge}, ns[2] = {n, n_edge};
    const int64_t m_times[2] = {m_tiles - 1, 1}, n_times[2] = {n_tiles - 1, 1};
    int64_t sum = 0;
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            if (m_times[i] * n_times[j] == 0) continue;
            sum += m_times[i] * n_times[j] *
                   ceil_div(tile_folds(machine, dataflow, ms[i], ns[j], steps), machine->arrays) *
                   fold_cycles(machine, dataflow, ms[i], ns[j], steps);
        }
    }
    return p->repeats * sum;
}

typedef struct {
    mapping chosen;
    int64_t cycles, traffic; /* what is to be beaten */
    bool found;
} incumbent;

static void offer(incumbent *best, cs_dataflow dataflow, int32_t order, const int64_t tile[3], int64_t tile_repeats,
                  int64_t cycles, int64_t traffic) {
    if (best->found && (cycles > best->cycles || (cycles == best->cycles && traffic >= best->traffic))) return;
    best->chosen = (mapping){dataflow, order, {tile[M], tile[N], tile[K]}, tile_repeats};
    best->cycles = cycles;
    best->traffic = traffic;
    best->found = true;
}

/* Whole products together. */
static void try_groups(const cs_machine *machine, const product *p, cs_dataflow dataflow, incumbent *best) {
    tiling t;
    cut(machine, p, dataflow, p->size, &t);
    int64_t sizes[MOST_TILES];
    const int n = tile_sizes(p->repeats, 1, sizes);
    const int64_t traffic = p->repeats * (t.a[EDGE][EDGE] + t.b[EDGE][EDGE] + t.c[EDGE][EDGE]);
    for (int i = 0; i < n && sizes[i] > 1; ++i) {
        if (sram_need(p, &t, sizes[i]) > machine->sram_bits) continue;
        int64_t cycles, compute, busy;
        group_cycles(machine, p, &t, dataflow, sizes[i], &cycles, &compute, &busy);
        offer(best, dataflow, 0, p->size, sizes[i], cycles, traffic);
    }
}

static void try_orders(const cs_machine *machine, const product *p, cs_dataflow dataflow, const tiling *t,
                       const int64_t tile[3], incumbent *best) {
    const int64_t compute = p->repeats * total_compute(t);
    const int m = t->count[M] == 1, n = t->count[N] == 1, k = t->count[K] == 1;
    const int64_t load = t->a[m][k] + t->b[k][n], store = t->c[EDGE][EDGE];
    const int64_t ends = transfer_cycles(machine, load) + transfer_cycles(machine, store);
    if (best->found && ends + compute > best->cycles) return;
    for (int32_t order = 0; order < 6; ++order) {
        if (repeats_another(t, order)) continue;
        int64_t a, b, c;
        total_traffic(t, order, &a, &b, &c);
        const int64_t traffic = p->repeats * (a + b + c);
        /* all steps together cannot move what is left faster than the channel */
        const int64_t moving = (int64_t)((double)(traffic - load - store) / machine->dram_bits_per_cycle);
        const int64_t bound = ends + longer(compute, moving);
        if (best->found && (bound > best->cycles || (bound == best->cycles && traffic >= best->traffic))) continue;
        int64_t cycles, busy;
        nest_cycles(machine, p, t, order, &cycles, &busy);
        offer(best, dataflow, order, tile, 1, cycles, traffic);
    }
}

bool search_mapping(const cs_machine *machine, const product *p, mapping *chosen, cost *best_cost) {
    incumbent best = {.found = false};
    for (int flow = CS_OS; flow <= CS_IS; ++flow) {
        if (!(machine->dataflows & (1 << flow))) continue;
        const cs_dataflow dataflow = (cs_dataflow)flow;
        int64_t ms[MOST_TILES], ns[MOST_TILES], ks[MOST_TILES];
        const int m_count = tile_sizes(p->size[M], dataflow == CS_IS ? machine->cols : machine->rows, ms);
        const int n_count = tile_sizes(p->size[N], machine->cols, ns);
        const int k_count = tile_sizes(p->size[K], machine->rows, ks);
        if (p->repeats > 1) try_groups(machine, p, dataflow, &best);
        for (int i = 0; i < m_count; ++i) {
            for (int j = 0; j < n_count; ++j) {
                if (best.found && least_compute(machine, p, dataflow, ms[i], ns[j]) > best.cycles) continue;
                for (int l = 0; l < k_count; ++l) {
                    const int64_t tile[3] = {ms[i], ns[j], ks[l]};
                    tiling t;
                    cut(machine, p, dataflow, tile, &t);
                    if (sram_need(p, &t, 1) > machine->sram_bits) continue;
                    try_orders(machine, p, dataflow, &t, tile, &best);
                }
            }
        }
    }
    if (!best.found) return false;
    tiling t;
    cut(machine, p, best.chosen.dataflow, best.chosen.tile, &t);
    *chosen = best.chosen;
    *best_cost = cost_of(machine, p, &t, chosen);
    return true;
}
