/* schedule.h - one matrix product on one machine: its tiles, and the closed form of the time they take. Internal. */
#ifndef CODESIGN_SCHEDULE_H
#define CODESIGN_SCHEDULE_H

#include <stdbool.h>

#include "codesign.h"

enum { M = 0, N = 1, K = 2 }; /* the dimensions of a product */
enum { FULL = 0, EDGE = 1 };  /* a tile inside, and the last one of its dimension (also when it is the only one) */

/* One row of cs_products. */
typedef struct {
    int64_t size[3];
    int64_t repeats;
    int64_t a_bits, b_bits, c_bits, accumulator_bits, scale_block, scale_bits, rate;
    int64_t image, out_rows, out_cols, in_rows, in_cols, row_step, row_span, taps;
    double mac_pj; /* the last: it changes no mapping */
} product;

typedef struct {
    cs_dataflow dataflow;
    int32_t order;
    int64_t tile[3];
    int64_t tile_repeats;
} mapping;

typedef struct {
    int64_t cycles, compute_cycles, transfer_cycles, a_bits, b_bits, c_bits, sram_bits;
} cost;

/* A product cut into tiles. Indices FULL or EDGE, in the order of the letters: bits of operand A by (m, k). */
typedef struct {
    int64_t count[3];         /* tiles per dimension */
    int64_t length[3][2];     /* tile sizes */
    int64_t a[2][2], b[2][2]; /* bits of one tile */
    int64_t c[2][2], partial[2][2];
    int64_t compute[2][2][2]; /* cycles of one tile */
} tiling;

/* Loop orders, outermost first. */
extern const int32_t ORDERS[6][3];

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static inline int64_t longer(int64_t a, int64_t b) { return a > b ? a : b; }

/* cs_machine, and the reciprocal of its bandwidth. */
typedef struct {
    int64_t rows, cols, arrays, sram_bits, dram_latency_cycles;
    double dram_bits_per_cycle, dram_cycles_per_bit;
    double sram_pj_per_bit, dram_pj_per_bit;
    int32_t dataflows;
} computer;

/* A machine within its documented range. */
bool machine_is_possible(const cs_machine *machine);

/* A machine as the closed form wants it. */
static inline computer computer_of(const cs_machine *m) {
    return (computer){.rows = m->rows,
                      .cols = m->cols,
                      .arrays = m->arrays,
                      .sram_bits = m->sram_bits,
                      .dram_latency_cycles = m->dram_latency_cycles,
                      .dram_bits_per_cycle = m->dram_bits_per_cycle,
                      .dram_cycles_per_bit = 1 / m->dram_bits_per_cycle,
                      .sram_pj_per_bit = m->sram_pj_per_bit,
                      .dram_pj_per_bit = m->dram_pj_per_bit,
                      .dataflows = m->dataflows};
}

/* Row i, checked; no sum or product of the closed form can then wrap. */
cs_status read_product(const computer *machine, const cs_products *rows, size_t i, product *p);

/* Cycles of a transfer: latency + ceil(bits / bits per cycle); nothing to move takes no time.
 *
 * A product with the reciprocal is faster than the division. It is off by less than 2^-10 below 2^40 cycles, so only near
 * a whole number must the division decide. */
static inline int64_t transfer_cycles(const computer *machine, int64_t bits) {
    if (bits == 0) return 0;
    const double near = (double)bits * machine->dram_cycles_per_bit;
    int64_t whole = (int64_t)near;
    const double rest = near - (double)whole;
    if (near < 0x1p40 && rest > 0x1p-10 && rest < 1 - 0x1p-10) return machine->dram_latency_cycles + whole + 1;
    const double exact = (double)bits / machine->dram_bits_per_cycle;
    whole = (int64_t)exact;
    return machine->dram_latency_cycles + whole + ((double)whole < exact);
}

/* The least whole number that is not below x >= 0. */
static inline double ceiling(double x) {
    if (!(x < 0x1p53)) return x; /* whole already */
    const double whole = (double)(int64_t)x;
    return whole + (whole < x);
}

/* Cycles of a pass: the lanes are busy while the channel, an access latency later, moves its bits. */
typedef struct {
    double busy, moving;
} pass_cycles;

static inline pass_cycles cycles_of_pass(const cs_machine *machine, double operations, double traffic_bits) {
    return (pass_cycles){ceiling(operations / (double)machine->lanes),
                         traffic_bits > 0 ? (double)machine->dram_latency_cycles +
                                                ceiling(traffic_bits / machine->dram_bits_per_cycle)
                                          : 0};
}

static inline double longest(const pass_cycles *cycles) {
    return cycles->busy > cycles->moving ? cycles->busy : cycles->moving;
}

/* Every bit of a pass is in on-chip memory once in and once out. */
static inline double pass_sram_bits(double traffic_bits) { return 2 * traffic_bits; }

/* Folds of a tile on one array, and the cycles of each. */
int64_t tile_folds(const computer *machine, cs_dataflow dataflow, int64_t m, int64_t n, int64_t k_steps);
int64_t fold_cycles(const computer *machine, cs_dataflow dataflow, int64_t m, int64_t n, int64_t k_steps);

/* Steps along k that the array takes for k multiply-accumulates. */
static inline int64_t k_steps(const product *p, int64_t k) { return ceil_div(k * 256, p->rate); }

/* Bits of one operand tile in memory, scales included. */
int64_t a_tile_bits(const product *p, int64_t m, int64_t k);
int64_t b_tile_bits(const product *p, int64_t k, int64_t n);
int64_t c_tile_bits(const product *p, int64_t m, int64_t n);

/* Cut a product. */
void cut(const computer *machine, const product *p, cs_dataflow dataflow, const int64_t tile[3], tiling *t);

/* SRAM bits that the tiles need: two of each operand that changes during the run, one of each that does not. */
int64_t sram_need(const product *p, const tiling *t, int64_t tile_repeats);

/* Sum of compute cycles over the tiles of one product. */
int64_t total_compute(const tiling *t);

/* DRAM bits of each operand for one product in the given loop order. */
void total_traffic(const tiling *t, int32_t order, int64_t *a_bits, int64_t *b_bits, int64_t *c_bits);

/* Whole time of all repeats, one product at a time. False, and nothing written, as soon as it is certain that the time
 * exceeds `limit`. */
bool nest_cycles(const computer *machine, const product *p, const tiling *t, int32_t order, int64_t limit,
                 int64_t *cycles, int64_t *busy);

/* Whole time of all repeats, `tile_repeats` whole products a step; `t` has one tile. */
void group_cycles(const computer *machine, const product *p, const tiling *t, cs_dataflow dataflow,
                  int64_t tile_repeats, int64_t *cycles, int64_t *compute, int64_t *busy);

/* Everything about one mapping. The tiles must fit. */
cost cost_of(const computer *machine, const product *p, const tiling *t, const mapping *chosen);

/* The best mapping; false if no tile fits. */
bool search_mapping(const computer *machine, const product *p, mapping *best, cost *best_cost);

#endif
