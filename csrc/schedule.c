/* The closed form of a double-buffered loop nest over tiles.
 *
 *   time = load(first) + sum over steps of max(compute(step), load(next step) + store(step before)) + store(last)
 *
 * A step loads an operand tile when its index differs from that of the step before, reads partial sums back when it
 * returns to an unfinished tile of C, and the tile of C is stored when the next step works on another one. Steps differ
 * only by where they stand in each loop (first, inside, last but one, last), so at most 4^3 kinds of steps are summed.
 */
#include "schedule.h"

const int32_t ORDERS[6][3] = {{M, N, K}, {M, K, N}, {N, M, K}, {N, K, M}, {K, M, N}, {K, N, M}};

int64_t tile_folds(const computer *machine, cs_dataflow dataflow, int64_t m, int64_t n, int64_t steps) {
    switch (dataflow) {
        case CS_OS: return ceil_div(m, machine->rows) * ceil_div(n, machine->cols);
        case CS_WS: return ceil_div(steps, machine->rows) * ceil_div(n, machine->cols);
        case CS_IS: break;
    }
    return ceil_div(steps, machine->rows) * ceil_div(m, machine->cols);
}

/* Skewed operands cross the array in rows + cols - 2 cycles more than they are long. Output stationary then shifts its
 * results out over `rows` cycles; the others first shift the stationary operand in over `rows` cycles. */
int64_t fold_cycles(const computer *machine, cs_dataflow dataflow, int64_t m, int64_t n, int64_t steps) {
    const int64_t overhead = 2 * machine->rows + machine->cols - 2;
    switch (dataflow) {
        case CS_OS: return steps + overhead;
        case CS_WS: return m + overhead;
        case CS_IS: break;
    }
    return n + overhead;
}

static int64_t scaled_bits(const product *p, int64_t words, int64_t bits) {
    return words * bits + (p->scale_block ? ceil_div(words, p->scale_block) * p->scale_bits : 0);
}

static int64_t image_words(const product *p, int64_t pixels, int64_t columns) {
    const int64_t per_image = p->out_rows * p->out_cols;
    const int64_t rest = pixels % per_image;
    int64_t rows = pixels / per_image * p->in_rows;
    if (rest) {
        const int64_t under = (ceil_div(rest, p->out_cols) - 1) * p->row_step + p->row_span;
        rows += under < p->in_rows ? under : p->in_rows;
    }
    const int64_t words = ceil_div(columns, p->taps) * rows * p->in_cols;
    return words < pixels * columns ? words : pixels * columns;
}

int64_t a_tile_bits(const product *p, int64_t m, int64_t k) {
    const int64_t words = p->image == 0 ? m * k : p->image == 1 ? image_words(p, m, k) : image_words(p, k, m);
    return scaled_bits(p, words, p->a_bits);
}

int64_t b_tile_bits(const product *p, int64_t k, int64_t n) { return scaled_bits(p, k * n, p->b_bits); }

int64_t c_tile_bits(const product *p, int64_t m, int64_t n) { return scaled_bits(p, m * n, p->c_bits); }

void cut(const computer *machine, const product *p, cs_dataflow dataflow, const int64_t tile[3], tiling *t) {
    for (int d = 0; d < 3; ++d) {
        t->count[d] = ceil_div(p->size[d], tile[d]);
        t->length[d][FULL] = tile[d];
        t->length[d][EDGE] = p->size[d] - (t->count[d] - 1) * tile[d];
    }
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            t->a[i][j] = a_tile_bits(p, t->length[M][i], t->length[K][j]);
            t->b[i][j] = b_tile_bits(p, t->length[K][i], t->length[N][j]);
            t->c[i][j] = c_tile_bits(p, t->length[M][i], t->length[N][j]);
            t->partial[i][j] = t->length[M][i] * t->length[N][j] * p->accumulator_bits;
            for (int l = 0; l < 2; ++l) {
                const int64_t m = t->length[M][i], n = t->length[N][j], steps = k_steps(p, t->length[K][l]);
                t->compute[i][j][l] = ceil_div(tile_folds(machine, dataflow, m, n, steps), machine->arrays) *
                                      fold_cycles(machine, dataflow, m, n, steps);
            }
        }
    }
}

int64_t sram_need(const product *p, const tiling *t, int64_t tile_repeats) {
    const int64_t groups = ceil_div(p->repeats, tile_repeats);
    const int64_t a = groups * t->count[M] * t->count[K] > 1 ? 2 : 1;
    const int64_t b = groups * t->count[K] * t->count[N] > 1 ? 2 : 1;
    const int64_t c = groups * t->count[M] * t->count[N] > 1 ? 2 : 1;
    return tile_repeats * (a * t->a[FULL][FULL] + b * t->b[FULL][FULL] + c * t->partial[FULL][FULL]);
}

/* Sum over the tiles of a plane of (rows x columns) tiles. */
static int64_t plane_sum(const int64_t value[2][2], int64_t rows, int64_t columns) {
    return (rows - 1) * ((columns - 1) * value[FULL][FULL] + value[FULL][EDGE]) + (columns - 1) * value[EDGE][FULL] +
           value[EDGE][EDGE];
}

int64_t total_compute(const tiling *t) {
    return (t->count[M] - 1) * plane_sum(t->compute[FULL], t->count[N], t->count[K]) +
           plane_sum(t->compute[EDGE], t->count[N], t->count[K]);
}

static const int32_t DEPTH[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {2, 0, 1}, {1, 2, 0}, {2, 1, 0}};

/* Does the tile index of dimension `inner` change while that of `outer` stands still? */
static bool turns_inside(const tiling *t, int32_t order, int inner, int outer) {
    return t->count[inner] > 1 && DEPTH[order][inner] > DEPTH[order][outer];
}

void total_traffic(const tiling *t, int32_t order, int64_t *a_bits, int64_t *b_bits, int64_t *c_bits) {
    const int64_t a_passes = turns_inside(t, order, M, N) || turns_inside(t, order, K, N) ? t->count[N] : 1;
    const int64_t b_passes = turns_inside(t, order, N, M) || turns_inside(t, order, K, M) ? t->count[M] : 1;
    const int64_t spills = turns_inside(t, order, M, K) || turns_inside(t, order, N, K) ? t->count[K] - 1 : 0;
    *a_bits = a_passes * plane_sum(t->a, t->count[M], t->count[K]);
    *b_bits = b_passes * plane_sum(t->b, t->count[K], t->count[N]);
    *c_bits = plane_sum(t->c, t->count[M], t->count[N]) +
              2 * spills * plane_sum(t->partial, t->count[M], t->count[N]); /* each written, and read back */
}

/* Where a step stands in one loop, and how many steps stand there. */
typedef struct {
    int64_t times;
    bool first, last, before_last;
} place;

/* The most frequent place first; returns how many there are. `first` and `last` point to the places of that name. */
static int places(int64_t count, place found[4], const place **first, const place **last) {
    int n = 0;
    if (count > 3) found[n++] = (place){count - 3, false, false, false};
    if (count > 2) found[n++] = (place){1, false, false, true};
    *first = &found[n];
    found[n++] = (place){1, true, count == 1, count == 2};
    *last = *first;
    if (count > 1) {
        *last = &found[n];
        found[n++] = (place){1, false, true, false};
    }
    return n;
}

/* Bits of the tiles whose dimension changed; partial sums come back where the tile of C is unfinished. */
static int64_t load_bits(const tiling *t, const int edge[3], const bool changed[3], bool late_k) {
    int64_t bits = 0;
    if (changed[M] || changed[K]) bits += t->a[edge[M]][edge[K]];
    if (changed[K] || changed[N]) bits += t->b[edge[K]][edge[N]];
    if ((changed[M] || changed[N]) && late_k) bits += t->partial[edge[M]][edge[N]];
    return bits;
}

/* Bits loaded for the step that follows one at `at`. */
static int64_t next_load(const tiling *t, const int32_t order[3], const place *at[3]) {
    int turn = 2; /* the innermost loop that advances; -1: the next product begins */
    while (turn >= 0 && at[turn]->last) --turn;
    int edge[3];
    bool changed[3], late_k = false;
    for (int depth = 0; depth < 3; ++depth) {
        const int32_t d = order[depth];
        if (depth < turn) {
            edge[d] = at[depth]->last, changed[d] = false;
            if (d == K) late_k = !at[depth]->first;
        } else if (depth == turn) {
            edge[d] = at[depth]->before_last, changed[d] = true;
            if (d == K) late_k = true;
        } else {
            edge[d] = t->count[d] == 1, changed[d] = turn < 0 || t->count[d] > 1;
        }
    }
    return load_bits(t, edge, changed, late_k);
}

/* Bits stored by the step before one at `at`. */
static int64_t previous_store(const tiling *t, const int32_t order[3], const place *at[3]) {
    int turn = 2; /* the innermost loop that advanced; -1: another product ended */
    while (turn >= 0 && at[turn]->first) --turn;
    int edge[3];
    bool changed[3], finished = false;
    for (int depth = 0; depth < 3; ++depth) {
        const int32_t d = order[depth];
        if (depth < turn) {
            edge[d] = at[depth]->last, changed[d] = false;
            if (d == K) finished = at[depth]->last;
        } else if (depth == turn) {
            edge[d] = FULL, changed[d] = true;
        } else {
            edge[d] = EDGE, changed[d] = turn < 0 || t->count[d] > 1;
            if (d == K) finished = true;
        }
    }
    if (!changed[M] && !changed[N]) return 0;
    return finished ? t->c[edge[M]][edge[N]] : t->partial[edge[M]][edge[N]];
}

/* The first step of all has no store before it, the last of all no load after it. */
static void with_ends(const computer *machine, int64_t first_compute, int64_t after_first, int64_t last_compute,
                      int64_t before_last, int64_t load, int64_t store, bool one_step, int64_t *cycles, int64_t *busy) {
    const int64_t in = transfer_cycles(machine, load), out = transfer_cycles(machine, store);
    if (one_step) {
        *cycles = in + first_compute + out;
        *busy = in + out;
        return;
    }
    const int64_t first = transfer_cycles(machine, after_first);
    const int64_t first_both = transfer_cycles(machine, after_first + store);
    const int64_t last = transfer_cycles(machine, before_last);
    const int64_t last_both = transfer_cycles(machine, before_last + load);
    *cycles += in + out + longer(first_compute, first) - longer(first_compute, first_both) +
               longer(last_compute, last) - longer(last_compute, last_both);
    *busy += in + out + first - first_both + last - last_both;
}

/* Sums over the steps of one row: of the innermost loop, from its first to its last. */
typedef struct {
    int64_t sum, work, moving;
} row;

static inline void add_steps(const computer *machine, row *r, int64_t times, int64_t work, int64_t bits) {
    const int64_t transfer = transfer_cycles(machine, bits);
    r->sum += times * longer(work, transfer);
    r->work += times * work;
    r->moving += times * transfer;
}

bool nest_cycles(const computer *machine, const product *p, const tiling *t, int32_t order, int64_t limit,
                 int64_t *cycles, int64_t *busy) {
    const int32_t *dims = ORDERS[order];
    place at[3][4];
    const place *first[3], *last[3];
    int kinds[3];
    for (int depth = 0; depth < 3; ++depth) {
        kinds[depth] = places(t->count[dims[depth]], at[depth], &first[depth], &last[depth]);
    }
    const int m = t->count[M] == 1, n = t->count[N] == 1, k = t->count[K] == 1; /* edge, of the first tile */
    const int64_t load = t->a[m][k] + t->b[k][n], store = t->c[EDGE][EDGE];
    const int64_t compute = total_compute(t), in_and_out = transfer_cycles(machine, load) + transfer_cycles(machine, store);
    /* the transfers of the first and of the last step are shorter than the sum below has it, by no more than this */
    const int64_t saved = transfer_cycles(machine, load + store) * 2;
    int64_t sum = 0, moving = 0, done = 0;
    const int32_t inner = dims[2];
    const int64_t turns = t->count[inner];
    const bool changed[3] = {inner == M, inner == N, inner == K}; /* by a turn of the innermost loop alone */
    for (int i = 0; i < kinds[0]; ++i) {
        for (int j = 0; j < kinds[1]; ++j) {
            int edge[3];
            edge[dims[0]] = at[0][i].last, edge[dims[1]] = at[1][j].last;
            const place *k_place = dims[0] == K ? &at[0][i] : &at[1][j]; /* of no meaning where k is innermost */
            const bool late_k = inner == K || !k_place->first;
            edge[inner] = FULL;
            const int64_t load_full = load_bits(t, edge, changed, late_k);
            const int64_t store_full = inner == K         ? 0
                                       : k_place->last ? t->c[edge[M]][edge[N]]
                                                       : t->partial[edge[M]][edge[N]];
            edge[inner] = EDGE;
            const int64_t load_edge = load_bits(t, edge, changed, late_k);
            const int64_t work_edge = t->compute[edge[M]][edge[N]][edge[K]];
            edge[inner] = FULL;
            const int64_t work_full = t->compute[edge[M]][edge[N]][edge[K]];
            const place *begin[3] = {&at[0][i], &at[1][j], first[2]}, *end[3] = {&at[0][i], &at[1][j], last[2]};
            const int64_t entered = previous_store(t, dims, begin), left = next_load(t, dims, end);
            row r = {0, 0, 0};
            if (turns == 1) {
                add_steps(machine, &r, 1, work_edge, left + entered);
            } else {
                if (turns > 3) add_steps(machine, &r, turns - 3, work_full, load_full + store_full);
                if (turns > 2) add_steps(machine, &r, 1, work_full, load_edge + store_full);
                add_steps(machine, &r, 1, work_full, (turns > 2 ? load_full : load_edge) + entered);
                add_steps(machine, &r, 1, work_edge, left + store_full);
            }
            const int64_t times = at[0][i].times * at[1][j].times;
            sum += times * r.sum, done += times * r.work, moving += times * r.moving;
            if (in_and_out + p->repeats * (sum + compute - done) - saved > limit) return false;
        }
    }
    const bool one_step = p->repeats * t->count[M] * t->count[N] * t->count[K] == 1;
    *cycles = p->repeats * sum;
    *busy = p->repeats * moving;
    with_ends(machine, t->compute[m][n][k], next_load(t, dims, first), t->compute[EDGE][EDGE][EDGE],
              previous_store(t, dims, last), load, store, one_step, cycles, busy);
    return true;
}

void group_cycles(const computer *machine, const product *p, const tiling *t, cs_dataflow dataflow,
                  int64_t tile_repeats, int64_t *cycles, int64_t *compute, int64_t *busy) {
    const int64_t count = ceil_div(p->repeats, tile_repeats);
    const int64_t length[2] = {tile_repeats, p->repeats - (count - 1) * tile_repeats};
    const int64_t steps = k_steps(p, p->size[K]);
    const int64_t folds = tile_folds(machine, dataflow, p->size[M], p->size[N], steps);
    const int64_t each = fold_cycles(machine, dataflow, p->size[M], p->size[N], steps);
    int64_t work[2], load[2], store[2];
    for (int i = 0; i < 2; ++i) {
        work[i] = ceil_div(length[i] * folds, machine->arrays) * each;
        load[i] = length[i] * (t->a[EDGE][EDGE] + t->b[EDGE][EDGE]);
        store[i] = length[i] * t->c[EDGE][EDGE];
    }
    place at[4];
    const place *first, *last;
    const int kinds = places(count, at, &first, &last);
    *cycles = *compute = *busy = 0;
    for (int i = 0; i < kinds; ++i) { /* as if in a circle: before the first comes the last */
        const int64_t bits = load[at[i].before_last || (at[i].last && count == 1)] + store[at[i].first];
        const int64_t transfer = transfer_cycles(machine, bits);
        *cycles += at[i].times * longer(work[at[i].last], transfer);
        *compute += at[i].times * work[at[i].last];
        *busy += at[i].times * transfer;
    }
    with_ends(machine, work[count == 1], load[count == 2], work[EDGE], store[FULL], load[count == 1], store[EDGE],
              count == 1, cycles, busy);
}

/* Bits that the arrays read and write in SRAM for one product. Output stationary keeps a sum in the array for the length
 * of a tile; the others add into SRAM once per fold along k. */
static int64_t array_bits(const computer *machine, const product *p, const tiling *t, cs_dataflow dataflow) {
    const int64_t m = p->size[M], n = p->size[N], k = p->size[K];
    const int64_t m_side = dataflow == CS_IS ? machine->cols : machine->rows;
    const int64_t m_folds = (t->count[M] - 1) * ceil_div(t->length[M][FULL], m_side) +
                            ceil_div(t->length[M][EDGE], m_side);
    const int64_t n_folds = (t->count[N] - 1) * ceil_div(t->length[N][FULL], machine->cols) +
                            ceil_div(t->length[N][EDGE], machine->cols);
    const int64_t k_folds = (t->count[K] - 1) * ceil_div(k_steps(p, t->length[K][FULL]), machine->rows) +
                            ceil_div(k_steps(p, t->length[K][EDGE]), machine->rows);
    const int64_t a_reads = dataflow == CS_IS ? t->count[N] : n_folds; /* the stationary one once for every tile */
    const int64_t b_reads = dataflow == CS_WS ? t->count[M] : m_folds;
    const int64_t sums = dataflow == CS_OS ? t->count[K] : k_folds;
    return a_reads * m * k * p->a_bits + b_reads * k * n * p->b_bits + (2 * sums - 1) * m * n * p->accumulator_bits;
}

cost cost_of(const computer *machine, const product *p, const tiling *t, const mapping *chosen) {
    cost c;
    total_traffic(t, chosen->order, &c.a_bits, &c.b_bits, &c.c_bits);
    c.a_bits *= p->repeats, c.b_bits *= p->repeats, c.c_bits *= p->repeats;
    if (chosen->tile_repeats == 1) {
        nest_cycles(machine, p, t, chosen->order, INT64_MAX, &c.cycles, &c.transfer_cycles);
        c.compute_cycles = p->repeats * total_compute(t);
    } else {
        group_cycles(machine, p, t, chosen->dataflow, chosen->tile_repeats, &c.cycles, &c.compute_cycles,
                     &c.transfer_cycles);
    }
    c.sram_bits = p->repeats * array_bits(machine, p, t, chosen->dataflow) + c.a_bits + c.b_bits + c.c_bits;
    return c;
}
