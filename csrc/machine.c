/* The machine: from an accelerator's own units to cycles and bits, and what range each quantity may have. */
#include "schedule.h"

static const double MOST_BITS = 0x1p55;
static const int64_t MOST_SIDE = 65536, MOST_LATENCY = 1 << 30;

/* The least whole number that is not below x; for what cannot be a latency, one that is refused. */
static int64_t latency_of(double x) { return x >= 0 && x <= (double)MOST_LATENCY ? (int64_t)ceiling(x) : -1; }

static int64_t bits_of(int64_t bytes) { return bytes > 0 && (double)bytes * 8 < MOST_BITS ? bytes * 8 : -1; }

static cs_machine machine_of(const cs_accelerator *a) {
    const double elements = (double)a->array.rows * (double)a->array.cols * (double)a->array.count;
    return (cs_machine){
        .rows = a->array.rows,
        .cols = a->array.cols,
        .arrays = a->array.count,
        .dataflows = a->dataflows,
        .sram_bits = bits_of(a->sram.capacity_bytes),
        .dram_bits_per_cycle = a->dram.bandwidth_bytes_per_s * 8 / a->array.clock_hz,
        .dram_latency_cycles = latency_of(a->dram.latency_s * a->array.clock_hz),
        .sram_pj_per_bit = a->sram.energy_pj_per_bit,
        .dram_pj_per_bit = a->dram.energy_pj_per_bit,
        .lanes = a->vector.lanes,
        .clock_hz = a->array.clock_hz,
        .area_um2 = elements * a->element_um2 * a->mac.area_scale +
                    (double)a->sram.capacity_bytes * a->sram.area_um2_per_byte,
    };
}

void cs_machines_of(const cs_accelerator *accelerators, size_t count, cs_machine *machines) {
    for (size_t i = 0; i < count; ++i) machines[i] = machine_of(&accelerators[i]);
}

bool machine_is_possible(const cs_machine *machine) {
    const int64_t sides[3] = {machine->rows, machine->cols, machine->arrays};
    for (int i = 0; i < 3; ++i) {
        if (sides[i] < 1 || sides[i] > MOST_SIDE) return false;
    }
    if (machine->dataflows < 1 || machine->dataflows > 7) return false;
    if (machine->sram_bits < 1 || (double)machine->sram_bits >= MOST_BITS) return false;
    if (!(machine->dram_bits_per_cycle >= 0x1p-20) || !(machine->dram_bits_per_cycle <= 0x1p40)) return false;
    if (machine->lanes < 1 || !(machine->clock_hz > 0)) return false;
    return machine->dram_latency_cycles >= 0 && machine->dram_latency_cycles <= MOST_LATENCY;
}
