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

/* A choice of tiles along m or n, with what every lower bound needs of it. Folds are those of a full and of an edge tile
 * across the array; rounds are summed over the tiles, for all folds along k or for one (stationary k only). */
typedef struct {
    int64_t tile, count, folds[2], whole_rounds, one_rounds;
} cut_line;

static void fill_line(cut_line *line, int64_t size, int64_t tile, int64_t side, int64_t k_folds, int64_t arrays) {
    line->tile = tile;
    line->count = ceil_div(size, tile);
    line->folds[FULL] = ceil_div(tile, side);
    line->folds[EDGE] = ceil_div(size - (line->count - 1) * tile, side);
    line->whole_rounds = (line->count - 1) * ceil_div(line->folds[FULL] * k_folds, arrays) +
                         ceil_div(line->folds[EDGE] * k_folds, arrays);
    line->one_rounds = (line->count - 1) * ceil_div(line->folds[FULL], arrays) + ceil_div(line->folds[EDGE], arrays);
}

static int64_t output_rounds(const cut_line *m, const cut_line *n, int64_t arrays) {
    if (arrays == 1) {
        return ((m->count - 1) * m->folds[FULL] + m->folds[EDGE]) * ((n->count - 1) * n->folds[FULL] + n->folds[EDGE]);
    }
    int64_t sum = ceil_div(m->folds[EDGE] * n->folds[EDGE], arrays);
    if (m->count > 1) sum += (m->count - 1) * ceil_div(m->folds[FULL] * n->folds[EDGE], arrays);
    if (n->count > 1) sum += (n->count - 1) * ceil_div(m->folds[EDGE] * n->folds[FULL], arrays);
    if (m->count > 1 && n->count > 1) {
        sum += (m->count - 1) * (n->count - 1) * ceil_div(m->folds[FULL] * n->folds[FULL], arrays);
    }
    return sum;
}

/* What is to be beaten. */
typedef struct {
    mapping chosen;
    int64_t cycles, traffic;
    bool found;
    bool by_bound; /* compare lower bounds, and compute nothing else */
} incumbent;

static bool is_beaten(const incumbent *best, int64_t cycles, int64_t traffic) {
    return best->found && (cycles > best->cycles || (cycles == best->cycles && traffic >= best->traffic));
}

static void offer(incumbent *best, const mapping *chosen, int64_t cycles, int64_t traffic) {
    if (is_beaten(best, cycles, traffic)) return;
    best->chosen = *chosen;
    best->cycles = cycles;
    best->traffic = traffic;
    best->found = true;
}

/* Whole products together. */
static void try_groups(const computer *machine, const product *p, cs_dataflow dataflow, incumbent *best) {
    tiling t;
    cut(machine, p, dataflow, p->size, &t);
    int64_t sizes[MOST_TILES];
    const int n = tile_sizes(p->repeats, 1, sizes);
    const int64_t traffic = p->repeats * (t.a[EDGE][EDGE] + t.b[EDGE][EDGE] + t.c[EDGE][EDGE]);
    for (int i = 0; i < n && sizes[i] > 1; ++i) {
        if (sram_need(p, &t, sizes[i]) > machine->sram_bits) continue;
        int64_t cycles, compute, busy;
        group_cycles(machine, p, &t, dataflow, sizes[i], &cycles, &compute, &busy);
        const mapping chosen = {dataflow, 0, {p->size[M], p->size[N], p->size[K]}, sizes[i]};
        offer(best, &chosen, cycles, traffic);
    }
}

/* Is every transfer at most as long as the shortest step, whatever comes before and after it? Then the arrays never wait. */
static bool never_waits(const computer *machine, const tiling *t, int32_t order) {
    const bool spills = t->count[K] > 1 && ORDERS[order][2] != K;
    const int64_t partial = spills ? t->partial[FULL][FULL] : 0;
    const int64_t most = t->a[FULL][FULL] + t->b[FULL][FULL] + partial + longer(t->c[FULL][FULL], partial);
    return transfer_cycles(machine, most) <= t->compute[EDGE][EDGE][EDGE];
}

static void try_orders(const computer *machine, const product *p, cs_dataflow dataflow, const tiling *t,
                       const int64_t tile[3], incumbent *best) {
    const int64_t compute = p->repeats * total_compute(t);
    const int m = t->count[M] == 1, n = t->count[N] == 1, k = t->count[K] == 1;
    const int64_t load = t->a[m][k] + t->b[k][n], store = t->c[EDGE][EDGE];
    const int64_t ends = transfer_cycles(machine, load) + transfer_cycles(machine, store);
    if (best->found && ends + compute > best->cycles) return;
    /* every step but the last loads something for the next one */
    const int64_t requests = p->repeats * t->count[M] * t->count[N] * t->count[K] - 1;
    for (int32_t order = 0; order < 6; ++order) {
        if (repeats_another(t, order)) continue;
        int64_t a, b, out;
        total_traffic(t, order, &a, &b, &out);
        const int64_t traffic = p->repeats * (a + b + out);
        /* all steps together cannot move what is left faster than the channel */
        const int64_t moving = (int64_t)((double)(traffic - load - store) / machine->dram_bits_per_cycle) +
                               requests * machine->dram_latency_cycles;
        const int64_t bound = ends + longer(compute, moving);
        if (is_beaten(best, bound, traffic)) continue;
        const mapping chosen = {dataflow, order, {tile[M], tile[N], tile[K]}, 1};
        int64_t cycles = bound, busy;
        if (best->by_bound || never_waits(machine, t, order) ||
            nest_cycles(machine, p, t, order, best->found ? best->cycles : INT64_MAX, &cycles, &busy)) {
            offer(best, &chosen, cycles, traffic);
        }
    }
}

/* A lower bound of the compute cycles, exact but for the folds along k. It only grows with the tiles along k. */
static int64_t least_compute(const computer *machine, const product *p, cs_dataflow dataflow, const cut_line *m,
                             const cut_line *n, int64_t rounds, int64_t k_tiles) {
    const int64_t overhead = 2 * machine->rows + machine->cols - 2;
    switch (dataflow) {
        case CS_OS: return p->repeats * rounds * (k_steps(p, p->size[K]) + k_tiles * overhead);
        case CS_WS:
            return p->repeats * longer(n->whole_rounds, k_tiles * n->one_rounds) *
                   (p->size[M] + m->count * overhead);
        case CS_IS: break;
    }
    return p->repeats * longer(m->whole_rounds, k_tiles * m->one_rounds) * (p->size[N] + n->count * overhead);
}

/* Every tile along k, for given tiles along m and n. */
static void try_k(const computer *machine, const product *p, cs_dataflow dataflow, const cut_line *m,
                  const cut_line *n, const int64_t *ks, int k_count, int stride, incumbent *best) {
    const int64_t partial = m->tile * n->tile * p->accumulator_bits;
    const int64_t shortest = ks[k_count - 1];
    if (partial + a_tile_bits(p, m->tile, shortest) + b_tile_bits(p, shortest, n->tile) > machine->sram_bits) return;
    const int64_t rounds = dataflow == CS_OS ? output_rounds(m, n, machine->arrays) : 0;
    for (int l = 0; l < k_count; l += stride) {
        const int64_t tile[3] = {m->tile, n->tile, ks[l]};
        const int64_t k_tiles = ceil_div(p->size[K], tile[K]);
        const int64_t least = least_compute(machine, p, dataflow, m, n, rounds, k_tiles);
        if (best->found && least > best->cycles) return;
        const int64_t a = a_tile_bits(p, m->tile, tile[K]), b = b_tile_bits(p, tile[K], n->tile);
        const int64_t need = (p->repeats * m->count * k_tiles > 1 ? 2 : 1) * a +
                             (p->repeats * n->count * k_tiles > 1 ? 2 : 1) * b +
                             (p->repeats * m->count * n->count > 1 ? 2 : 1) * partial;
        if (need > machine->sram_bits) continue;
        if (best->found && least + transfer_cycles(machine, a + b) > best->cycles) continue;
        tiling t;
        cut(machine, p, dataflow, tile, &t);
        try_orders(machine, p, dataflow, &t, tile, best);
    }
}

/* The choices of one dataflow. */
typedef struct {
    cs_dataflow dataflow;
    int m_count, n_count, k_count;
    cut_line m[MOST_TILES], n[MOST_TILES];
    int64_t k[MOST_TILES];
} choices;

static void list_choices(const computer *machine, const product *p, cs_dataflow dataflow, choices *list) {
    const int64_t m_side = dataflow == CS_IS ? machine->cols : machine->rows;
    const int64_t k_folds = ceil_div(k_steps(p, p->size[K]), machine->rows);
    int64_t sizes[MOST_TILES];
    list->dataflow = dataflow;
    list->m_count = tile_sizes(p->size[M], m_side, sizes);
    for (int i = 0; i < list->m_count; ++i) {
        fill_line(&list->m[i], p->size[M], sizes[i], m_side, k_folds, machine->arrays);
    }
    list->n_count = tile_sizes(p->size[N], machine->cols, sizes);
    for (int i = 0; i < list->n_count; ++i) {
        fill_line(&list->n[i], p->size[N], sizes[i], machine->cols, k_folds, machine->arrays);
    }
    list->k_count = tile_sizes(p->size[K], machine->rows, list->k);
}

/* Every `stride`-th choice of each dimension. */
static void try_all(const computer *machine, const product *p, const choices *list, int stride, incumbent *best) {
    for (int i = 0; i < list->m_count; i += stride) {
        for (int j = 0; j < list->n_count; j += stride) {
            try_k(machine, p, list->dataflow, &list->m[i], &list->n[j], list->k, list->k_count, stride, best);
        }
    }
}

bool search_mapping(const computer *machine, const product *p, mapping *chosen, cost *best_cost) {
    choices lists[3];
    int flows = 0;
    incumbent best = {.by_bound = true};
    for (int flow = CS_OS; flow <= CS_IS; ++flow) {
        if (!(machine->dataflows & (1 << flow))) continue;
        list_choices(machine, p, (cs_dataflow)flow, &lists[flows]);
        try_all(machine, p, &lists[flows++], 2, &best);
    }
    tiling t;
    if (best.found) { /* the lowest bound of a coarse search is hard to beat: begin with its mapping */
        int64_t busy;
        cut(machine, p, best.chosen.dataflow, best.chosen.tile, &t);
        nest_cycles(machine, p, &t, best.chosen.order, INT64_MAX, &best.cycles, &busy);
    }
    best.by_bound = false;
    for (int i = 0; i < flows; ++i) {
        if (p->repeats > 1) try_groups(machine, p, lists[i].dataflow, &best);
        try_all(machine, p, &lists[i], 1, &best);
    }
    if (!best.found) return false;
    cut(machine, p, best.chosen.dataflow, best.chosen.tile, &t);
    *chosen = best.chosen;
    *best_cost = cost_of(machine, p, &t, chosen);
    return true;
}
