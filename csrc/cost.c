/* Batches of products: check each row, solve it, write it into its columns. */
#include "schedule.h"

static const double MOST = 0x1p55;

static bool width_is_possible(int64_t bits) { return bits >= 1 && bits <= 64; }

cs_status read_product(const computer *machine, const cs_products *rows, size_t i, product *p) {
    *p = (product){0}; /* what is not read too: equal rows are found by comparing all of it */
    p->size[M] = rows->m[i], p->size[N] = rows->n[i], p->size[K] = rows->k[i];
    p->repeats = rows->repeats[i];
    p->a_bits = rows->a_bits[i], p->b_bits = rows->b_bits[i], p->c_bits = rows->c_bits[i];
    p->accumulator_bits = rows->accumulator_bits[i];
    p->scale_block = rows->scale_block[i], p->scale_bits = rows->scale_bits[i];
    p->rate = rows->rate[i];
    p->mac_pj = rows->mac_pj[i];
    p->image = rows->image[i];
    for (int d = 0; d < 3; ++d) {
        if (p->size[d] < 1) return CS_ERR_RANGE;
    }
    if (p->repeats < 1 || p->rate < 1 || p->scale_block < 0 || p->scale_bits < 0 || p->scale_bits > 64 || p->image < 0 ||
        p->image > 2) {
        return CS_ERR_RANGE;
    }
    if (!width_is_possible(p->a_bits) || !width_is_possible(p->b_bits) || !width_is_possible(p->c_bits) ||
        !width_is_possible(p->accumulator_bits)) {
        return CS_ERR_RANGE;
    }
    const double side = (double)(machine->rows + machine->rows + machine->cols);
    const double m = (double)p->size[M], n = (double)p->size[N], k = (double)p->size[K], repeats = (double)p->repeats;
    if (m * n * k * repeats >= MOST) return CS_ERR_OVERFLOW;
    /* every product of folds, fold length and repeats lies below this */
    if ((m + side) * (n + side) * (k * 256 / (double)p->rate + side) * repeats >= 0x1p62) return CS_ERR_OVERFLOW;
    /* nor any sum of bits or of transfers, in the worst of all mappings: every number moved for every product */
    const double widths = (double)(p->a_bits + p->b_bits + p->c_bits + 2 * p->accumulator_bits + 3 * p->scale_bits);
    const double steps = m * n * k * repeats;
    const double transfer = widths / machine->dram_bits_per_cycle + (double)machine->dram_latency_cycles + 1;
    if (steps * widths >= 0x1p61 || steps * transfer >= 0x1p61) return CS_ERR_OVERFLOW;
    if (p->image) {
        p->out_rows = rows->out_rows[i], p->out_cols = rows->out_cols[i];
        p->in_rows = rows->in_rows[i], p->in_cols = rows->in_cols[i];
        p->row_step = rows->row_step[i], p->row_span = rows->row_span[i], p->taps = rows->taps[i];
        const int64_t positive[7] = {p->out_rows, p->out_cols, p->in_rows, p->in_cols, p->row_step, p->row_span, p->taps};
        for (int j = 0; j < 7; ++j) {
            if (positive[j] < 1 || positive[j] > ((int64_t)1 << 31)) return CS_ERR_RANGE;
        }
        const double pixels = p->image == 1 ? m : k, columns = p->image == 1 ? k : m;
        const double images = pixels / ((double)p->out_rows * (double)p->out_cols) + 1;
        if (images * (double)p->in_rows * (double)p->in_cols * columns >= MOST) return CS_ERR_OVERFLOW;
    }
    return CS_OK;
}

/* Row i and its machine, checked. */
static cs_status read_row(const cs_machine *machines, size_t machine_count, const cs_products *rows, size_t i,
                          computer *machine, product *p) {
    if (rows->machine[i] < 0 || (size_t)rows->machine[i] >= machine_count) return CS_ERR_RANGE;
    *machine = computer_of(&machines[rows->machine[i]]);
    return read_product(machine, rows, i, p);
}

static void write_row(const computer *machine, const product *p, const cost *c, const cs_costs *costs, size_t i) {
    const double macs = (double)p->size[M] * (double)p->size[N] * (double)p->size[K] * (double)p->repeats;
    const double moved = (double)(c->a_bits + c->b_bits + c->c_bits);
    costs->cycles[i] = c->cycles;
    costs->compute_cycles[i] = c->compute_cycles;
    costs->transfer_cycles[i] = c->transfer_cycles;
    costs->a_bits[i] = c->a_bits;
    costs->b_bits[i] = c->b_bits;
    costs->c_bits[i] = c->c_bits;
    costs->sram_bits[i] = c->sram_bits;
    costs->energy_pj[i] =
        macs * p->mac_pj + (double)c->sram_bits * machine->sram_pj_per_bit + moved * machine->dram_pj_per_bit;
}

static cs_status check_machines(const cs_machine *machines, size_t count, size_t *bad_row) {
    for (size_t i = 0; i < count; ++i) {
        *bad_row = i;
        if (!machine_is_possible(&machines[i])) return CS_ERR_MACHINE;
    }
    return CS_OK;
}

cs_status cs_cost_mapped(const cs_machine *machines, size_t machine_count, const cs_products *products,
                         const cs_mappings *mappings, const cs_costs *costs, size_t *bad_row) {
    cs_status status = check_machines(machines, machine_count, bad_row);
    for (size_t i = 0; status == CS_OK && i < products->count; ++i) {
        *bad_row = i;
        computer machine;
        product p;
        status = read_row(machines, machine_count, products, i, &machine, &p);
        if (status != CS_OK) return status;
        const mapping chosen = {(cs_dataflow)mappings->dataflow[i], mappings->order[i],
                                {mappings->tile_m[i], mappings->tile_n[i], mappings->tile_k[i]},
                                mappings->tile_repeats[i]};
        if (mappings->dataflow[i] < 0 || mappings->dataflow[i] > 2 || chosen.order < 0 || chosen.order > 5 ||
            chosen.tile_repeats < 1 || chosen.tile_repeats > p.repeats) {
            return CS_ERR_RANGE;
        }
        for (int d = 0; d < 3; ++d) {
            if (chosen.tile[d] < 1 || chosen.tile[d] > p.size[d]) return CS_ERR_RANGE;
            if (chosen.tile_repeats > 1 && chosen.tile[d] != p.size[d]) return CS_ERR_RANGE;
        }
        tiling t;
        cut(&machine, &p, chosen.dataflow, chosen.tile, &t);
        if (sram_need(&p, &t, chosen.tile_repeats) > machine.sram_bits) return CS_ERR_CAPACITY;
        const cost c = cost_of(&machine, &p, &t, &chosen);
        write_row(&machine, &p, &c, costs, i);
    }
    return status;
}

/* What a mapping depends on: all members but mac_pj, every one an int64_t. */
enum { KEY_WORDS = offsetof(product, mac_pj) / sizeof(int64_t) };

static const int64_t *key_of(const product *p) { return (const int64_t *)(const void *)p; }

/* FNV-1a over 64-bit words, folded so that low bits depend on all. */
static uint64_t hash_of(const product *p, int64_t machine) {
    uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)machine;
    for (int i = 0; i < KEY_WORDS; ++i) {
        h = (h ^ (uint64_t)key_of(p)[i]) * 0x100000001b3u;
        h ^= h >> 29;
    }
    return h;
}

static bool same(const product *a, const product *b) {
    for (int i = 0; i < KEY_WORDS; ++i) {
        if (key_of(a)[i] != key_of(b)[i]) return false;
    }
    return true;
}

/* The slot of an equal row solved before, or the free slot where this one belongs. */
static size_t find_slot(const cs_machine *machines, size_t machine_count, const cs_products *rows, const product *p,
                        size_t i, const int64_t *slots, size_t slot_count) {
    size_t slot = hash_of(p, rows->machine[i]) & (slot_count - 1);
    while (slots[slot] >= 0) {
        const size_t other = (size_t)slots[slot];
        computer machine;
        product q;
        if (rows->machine[other] == rows->machine[i] &&
            read_row(machines, machine_count, rows, other, &machine, &q) == CS_OK && same(p, &q)) {
            break;
        }
        slot = (slot + 1) & (slot_count - 1);
    }
    return slot;
}

static void copy_mapping(const cs_mappings *mappings, size_t from, size_t to) {
    mappings->dataflow[to] = mappings->dataflow[from];
    mappings->order[to] = mappings->order[from];
    mappings->tile_m[to] = mappings->tile_m[from];
    mappings->tile_n[to] = mappings->tile_n[from];
    mappings->tile_k[to] = mappings->tile_k[from];
    mappings->tile_repeats[to] = mappings->tile_repeats[from];
}

static cost read_cost(const cs_costs *costs, size_t i) {
    return (cost){costs->cycles[i], costs->compute_cycles[i], costs->transfer_cycles[i], costs->a_bits[i],
                  costs->b_bits[i], costs->c_bits[i],         costs->sram_bits[i]};
}

cs_status cs_cost_searched(const cs_machine *machines, size_t machine_count, const cs_products *products,
                           const cs_mappings *mappings, const cs_costs *costs, int64_t *slots, size_t slot_count,
                           size_t *bad_row) {
    const cs_status status = check_machines(machines, machine_count, bad_row);
    if (status != CS_OK) return status;
    if (slots && (slot_count <= products->count || (slot_count & (slot_count - 1)))) return CS_ERR_RANGE;
    for (size_t j = 0; slots && j < slot_count; ++j) slots[j] = -1;
    for (size_t i = 0; i < products->count; ++i) {
        *bad_row = i;
        computer machine;
        product p;
        const cs_status row_status = read_row(machines, machine_count, products, i, &machine, &p);
        if (row_status != CS_OK) return row_status;
        if (slots) {
            const size_t slot = find_slot(machines, machine_count, products, &p, i, slots, slot_count);
            if (slots[slot] >= 0) {
                const cost known = read_cost(costs, (size_t)slots[slot]);
                copy_mapping(mappings, (size_t)slots[slot], i);
                write_row(&machine, &p, &known, costs, i);
                continue;
            }
            slots[slot] = (int64_t)i;
        }
        mapping chosen;
        cost c;
        if (!search_mapping(&machine, &p, &chosen, &c)) return CS_ERR_CAPACITY;
        mappings->dataflow[i] = (int32_t)chosen.dataflow;
        mappings->order[i] = chosen.order;
        mappings->tile_m[i] = chosen.tile[M];
        mappings->tile_n[i] = chosen.tile[N];
        mappings->tile_k[i] = chosen.tile[K];
        mappings->tile_repeats[i] = chosen.tile_repeats;
        write_row(&machine, &p, &c, costs, i);
    }
    return CS_OK;
}
