/* Rows of a step: cycles and bits of products and passes as seconds and joules. */
#include "schedule.h"

cs_status cs_product_rows(const cs_machine *machine, const cs_products *products, const cs_costs *costs,
                          const cs_rows *rows) {
    if (!machine_is_possible(machine)) return CS_ERR_MACHINE;
    const double clock = machine->clock_hz;
    const double full = 256 / ((double)(machine->rows * machine->cols * machine->arrays) * clock);
    const double sram_j = machine->sram_pj_per_bit * 1e-12, dram_j = machine->dram_pj_per_bit * 1e-12;
    for (size_t i = 0; i < products->count; ++i) {
        const double macs = (double)(products->m[i] * products->n[i] * products->k[i] * products->repeats[i]);
        const double bits = (double)(costs->a_bits[i] + costs->b_bits[i] + costs->c_bits[i]);
        rows->latency_s[i] = (double)costs->cycles[i] / clock;
        rows->compute_s[i] = (double)costs->compute_cycles[i] / clock;
        rows->vector_s[i] = 0;
        rows->memory_s[i] = (double)costs->transfer_cycles[i] / clock;
        rows->ideal_s[i] = macs * full / (double)products->rate[i];
        rows->macs[i] = macs;
        rows->traffic_bits[i] = bits;
        rows->first_bits[i] = (double)costs->a_bits[i];
        rows->second_bits[i] = (double)costs->b_bits[i];
        rows->result_bits[i] = (double)costs->c_bits[i];
        rows->sram_bits[i] = (double)costs->sram_bits[i];
        rows->mac_j[i] = macs * products->mac_pj[i] * 1e-12;
        rows->sram_j[i] = (double)costs->sram_bits[i] * sram_j;
        rows->dram_j[i] = bits * dram_j;
    }
    return CS_OK;
}

cs_status cs_pass_rows(const cs_machine *machine, const cs_passes *passes, const cs_rows *rows) {
    if (!machine_is_possible(machine)) return CS_ERR_MACHINE;
    const double clock = machine->clock_hz;
    const double sram_j = machine->sram_pj_per_bit * 1e-12, dram_j = machine->dram_pj_per_bit * 1e-12;
    for (size_t i = 0; i < passes->count; ++i) {
        const double bits = passes->traffic_bits[i];
        const pass_cycles cycles = cycles_of_pass(machine, passes->operations[i], bits);
        rows->latency_s[i] = longest(&cycles) / clock;
        rows->vector_s[i] = cycles.busy / clock;
        rows->memory_s[i] = cycles.moving / clock;
        rows->compute_s[i] = rows->ideal_s[i] = rows->macs[i] = rows->mac_j[i] = 0;
        rows->first_bits[i] = rows->second_bits[i] = rows->result_bits[i] = 0;
        rows->traffic_bits[i] = bits;
        rows->sram_bits[i] = pass_sram_bits(bits);
        rows->sram_j[i] = pass_sram_bits(bits) * sram_j;
        rows->dram_j[i] = bits * dram_j;
    }
    return CS_OK;
}
