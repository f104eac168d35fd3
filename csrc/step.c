/* Whole training steps on many machines, summed here so that no row has to be written out. */
#include "schedule.h"

static double ceiling(double x) {
    const double whole = (double)(int64_t)x;
    return whole + (whole < x);
}

/* The given mapping of a product, cut to its size; false if this machine cannot run it so. */
static bool given_cost(const computer *machine, const product *p, const cs_mappings *mappings, size_t i, cost *c) {
    mapping chosen = {(cs_dataflow)mappings->dataflow[i], mappings->order[i],
                      {mappings->tile_m[i], mappings->tile_n[i], mappings->tile_k[i]}, mappings->tile_repeats[i]};
    if (!(machine->dataflows & (1 << chosen.dataflow))) return false;
    if (chosen.tile_repeats > p->repeats) chosen.tile_repeats = p->repeats;
    for (int d = 0; d < 3; ++d) {
        if (chosen.tile[d] > p->size[d]) chosen.tile[d] = p->size[d];
        if (chosen.tile_repeats > 1 && chosen.tile[d] != p->size[d]) return false;
    }
    tiling t;
    cut(machine, p, chosen.dataflow, chosen.tile, &t);
    if (sram_need(p, &t, chosen.tile_repeats) > machine->sram_bits) return false;
    *c = cost_of(machine, p, &t, &chosen);
    return true;
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

static cs_status one_step(const computer *machine, int64_t lanes, size_t w, const cs_works *works,
                          const cs_products *products, const cs_mappings *mappings, const cs_steps *steps, size_t i) {
    double cycles = 0, traffic = 0, sram = 0, all_macs = 0, ideal = 0, mac_pj = 0;
    int32_t remapped = 0;
    for (int64_t j = works->first_product[w]; j < works->first_product[w + 1]; ++j) {
        product p;
        const cs_status status = read_product(machine, products, (size_t)j, &p);
        if (status != CS_OK) return status;
        cost c;
        mapping found;
        if (!mappings || !given_cost(machine, &p, mappings, (size_t)j, &c)) {
            if (!search_mapping(machine, &p, &found, &c)) return CS_ERR_CAPACITY;
            remapped += mappings != NULL;
        }
        const double times = (double)works->product_times[j];
        const double macs = times * (double)p.size[M] * (double)p.size[N] * (double)p.size[K] * (double)p.repeats;
        cycles += times * (double)c.cycles;
        traffic += times * (double)(c.a_bits + c.b_bits + c.c_bits);
        sram += times * (double)c.sram_bits;
        all_macs += macs;
        ideal += macs * 256 / (double)p.rate;
        mac_pj += macs * p.mac_pj;
    }
    const double latency = (double)machine->dram_latency_cycles;
    for (int64_t j = works->first_pass[w]; j < works->first_pass[w + 1]; ++j) {
        const double bits = works->pass_traffic_bits[j], times = (double)works->pass_times[j];
        const double busy = ceiling(works->pass_operations[j] / (double)lanes);
        const double moving = bits > 0 ? latency + ceiling(bits / machine->dram_bits_per_cycle) : 0;
        cycles += times * (busy > moving ? busy : moving);
        traffic += times * bits;
        sram += times * 2 * bits;
    }
    steps->remapped[i] = remapped;
    steps->cycles[i] = cycles;
    steps->traffic_bits[i] = traffic;
    steps->sram_bits[i] = sram;
    steps->macs[i] = all_macs;
    steps->ideal_cycles[i] = ideal;
    steps->mac_pj[i] = mac_pj;
    return CS_OK;
}

cs_status cs_step_costs(const cs_machine *machines, const int64_t *lanes, const int64_t *work, size_t count,
                        const cs_works *works, const cs_products *products, const cs_mappings *mappings,
                        const cs_steps *steps) {
    if (mappings && !mappings_are_possible(mappings, products->count)) return CS_ERR_RANGE;
    for (size_t i = 0; i < count; ++i) {
        if (work[i] < 0 || (size_t)work[i] >= works->count || lanes[i] < 1) return CS_ERR_RANGE;
        if (!machine_is_possible(&machines[i])) {
            steps->status[i] = CS_ERR_MACHINE;
            continue;
        }
        const computer machine = computer_of(&machines[i]);
        steps->status[i] = one_step(&machine, lanes[i], (size_t)work[i], works, products, mappings, steps, i);
    }
    return CS_OK;
}
