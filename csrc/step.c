/* Whole training steps on many machines, summed here so that no row has to be written out. */
#include "schedule.h"

/* A product under its mapping on the machine that it was priced on last. */
typedef struct {
    computer machine;
    mapping chosen;
    tiling t;
    cost c;
    int64_t need; /* bits of on-chip memory, of a given mapping */
    bool cut;    /* `t`, and what of `c` follows from it, hold for the arrays of `machine` */
    bool priced; /* all of `c` holds for `machine` */
    bool searched;
} priced_product;

static bool same_arrays(const computer *a, const computer *b) {
    return a->rows == b->rows && a->cols == b->cols && a->arrays == b->arrays;
}

static bool same_channel(const computer *a, const computer *b) {
    return a->dram_cycles_per_bit == b->dram_cycles_per_bit && a->dram_latency_cycles == b->dram_latency_cycles;
}

/* The given mapping, cut to the product's size; false if this machine cannot run it so. What does not depend on the
 * channel is kept from the machine before, if that has the same arrays. */
static bool given_cost(const computer *machine, const product *p, const cs_mappings *mappings, size_t i,
                       priced_product *last) {
    mapping chosen = {(cs_dataflow)mappings->dataflow[i], mappings->order[i],
                      {mappings->tile_m[i], mappings->tile_n[i], mappings->tile_k[i]}, mappings->tile_repeats[i]};
    if (!(machine->dataflows & (1 << chosen.dataflow))) return false;
    if (chosen.tile_repeats > p->repeats) chosen.tile_repeats = p->repeats;
    for (int d = 0; d < 3; ++d) {
        if (chosen.tile[d] > p->size[d]) chosen.tile[d] = p->size[d];
        if (chosen.tile_repeats > 1 && chosen.tile[d] != p->size[d]) return false;
    }
    const bool kept = last->cut && same_arrays(machine, &last->machine);
    if (!kept) cut(machine, p, chosen.dataflow, chosen.tile, &last->t);
    last->cut = kept;
    last->chosen = chosen;
    last->need = sram_need(p, &last->t, chosen.tile_repeats);
    if (last->need > machine->sram_bits) return false;
    if (!kept) {
        last->c = cost_of(machine, p, &last->t, &chosen);
    } else if (chosen.tile_repeats == 1) {
        nest_cycles(machine, p, &last->t, chosen.order, INT64_MAX, &last->c.cycles, &last->c.transfer_cycles);
    } else {
        group_cycles(machine, p, &last->t, chosen.dataflow, chosen.tile_repeats, &last->c.cycles,
                     &last->c.compute_cycles, &last->c.transfer_cycles);
    }
    last->cut = true;
    return true;
}

/* `last` becomes the product on this machine. */
static cs_status price(const computer *machine, const product *p, const cs_mappings *mappings, size_t j,
                       priced_product *last) {
    const bool runs = last->searched ? machine->sram_bits == last->machine.sram_bits &&
                                           machine->dataflows == last->machine.dataflows
                                     : machine->sram_bits >= last->need &&
                                           (machine->dataflows & (1 << last->chosen.dataflow));
    if (last->priced && runs && same_arrays(machine, &last->machine) && same_channel(machine, &last->machine)) {
        return CS_OK;
    }
    last->searched = !mappings || !given_cost(machine, p, mappings, j, last);
    last->priced = true;
    if (last->searched) {
        last->cut = false;
        last->priced = search_mapping(machine, p, &last->chosen, &last->c);
    }
    last->machine = *machine;
    return last->priced ? CS_OK : CS_ERR_CAPACITY;
}

static bool mappings_are_possible(const cs_mappings *mappings, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        if (mappings->dataflow[i] < 0 || mappings->dataflow[i] > 2 || mappings->order[i] < 0 || mappings->order[i] > 5 ||
            mappings->tile_m[i] < 1 || mappings->tile_n[i] < 1 || mappings->tile_k[i] < 1 ||
            mappings->tile_repeats[i] < 1) {
            return false;
        }
    }
    return true;
}

/* One product, `times` times, on each machine of a run of steps with the same work. */
static void add_product(const cs_machine *machines, size_t from, size_t to, const cs_products *products, size_t j,
                        int64_t times, const cs_mappings *mappings, const cs_steps *steps) {
    priced_product last = {0};
    product p;
    double macs = 0;
    for (size_t i = from; i < to; ++i) {
        if (steps->status[i] != CS_OK) continue;
        const computer machine = computer_of(&machines[i]);
        cs_status status = CS_OK;
        if (!last.priced || !same_arrays(&machine, &last.machine)) {
            status = read_product(&machine, products, j, &p);
            macs = (double)times * (double)p.size[M] * (double)p.size[N] * (double)p.size[K] * (double)p.repeats;
            last.priced = last.priced && status == CS_OK; /* what was refused is not read to its end */
        }
        if (status == CS_OK) status = price(&machine, &p, mappings, j, &last);
        steps->status[i] = (int32_t)status;
        if (status != CS_OK) continue;
        const cost *c = &last.c;
        steps->remapped[i] += mappings && last.searched;
        steps->cycles[i] += (double)times * (double)c->cycles;
        steps->traffic_bits[i] += (double)times * (double)(c->a_bits + c->b_bits + c->c_bits);
        steps->sram_bits[i] += (double)times * (double)c->sram_bits;
        steps->ideal_cycles[i] += macs * 256 / (double)p.rate;
        steps->mac_pj[i] += macs * p.mac_pj;
    }
}

static void add_passes(const cs_machine *machine, size_t w, const cs_works *works, const cs_passes *passes,
                       const cs_steps *steps, size_t i) {
    for (int64_t j = works->first_pass[w]; j < works->first_pass[w + 1]; ++j) {
        const double bits = passes->traffic_bits[j], times = (double)works->pass_times[j];
        const pass_cycles cycles = cycles_of_pass(machine, passes->operations[j], bits);
        steps->cycles[i] += times * longest(&cycles);
        steps->traffic_bits[i] += times * bits;
        steps->sram_bits[i] += times * pass_sram_bits(bits);
    }
}

/* The sums of a step as seconds, joules and a share. */
static void finish(const cs_machine *machine, const cs_steps *steps, size_t i) {
    const double elements = (double)(machine->rows * machine->cols * machine->arrays);
    const double energy_pj = steps->mac_pj[i] + steps->sram_bits[i] * machine->sram_pj_per_bit +
                             steps->traffic_bits[i] * machine->dram_pj_per_bit;
    steps->latency_s[i] = steps->cycles[i] / machine->clock_hz;
    steps->energy_j[i] = energy_pj * 1e-12;
    steps->utilisation[i] = steps->cycles[i] > 0 ? steps->ideal_cycles[i] / elements / steps->cycles[i] : 0;
}

cs_status cs_step_costs(const cs_machine *machines, const int64_t *work, size_t count, const cs_works *works,
                        const cs_products *products, const cs_passes *passes, const cs_mappings *mappings,
                        const cs_steps *steps) {
    if (mappings && !mappings_are_possible(mappings, products->count)) return CS_ERR_RANGE;
    for (size_t i = 0; i < count; ++i) {
        if (work[i] < 0 || (size_t)work[i] >= works->count) return CS_ERR_RANGE;
        steps->status[i] = machine_is_possible(&machines[i]) ? CS_OK : CS_ERR_MACHINE;
        steps->remapped[i] = 0;
        steps->latency_s[i] = steps->energy_j[i] = steps->utilisation[i] = 0;
        steps->cycles[i] = steps->traffic_bits[i] = steps->sram_bits[i] = 0;
        steps->ideal_cycles[i] = steps->mac_pj[i] = 0;
    }
    for (size_t from = 0, to; from < count; from = to) {
        const size_t w = (size_t)work[from];
        for (to = from + 1; to < count && work[to] == work[from]; ++to) continue;
        for (int64_t j = works->first_product[w]; j < works->first_product[w + 1]; ++j) {
            add_product(machines, from, to, products, (size_t)j, works->product_times[j], mappings, steps);
        }
        for (size_t i = from; i < to; ++i) {
            if (steps->status[i] != CS_OK) continue;
            add_passes(&machines[i], w, works, passes, steps, i);
            finish(&machines[i], steps, i);
        }
    }
    return CS_OK;
}
