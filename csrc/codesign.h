/* codesign.h - the one header of the C core.
 *
 * The core knows nothing of Python. Its rules:
 *   - the caller owns all memory; no function allocates, prints, reads a clock or keeps state between calls;
 *   - inputs are const and come first, results come last, a cs_status is returned;
 *   - counts (cycles, words, bits) are int64_t and exact; a product that could wrap is refused with CS_ERR_OVERFLOW;
 *   - batches are structures of arrays: row i of every column belongs together.
 *
 * Everything between the two cdef marks is also what Python sees: the build slices it out and hands it to cffi.
 */
#ifndef CODESIGN_H
#define CODESIGN_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

/* Raised whenever a struct or a signature below changes; compared with the Python side at import. */
#define CS_ABI_VERSION 7

typedef enum {
    CS_OK = 0,
    CS_ERR_RANGE = 1,    /* a value outside its documented range; *bad_row names the row */
    CS_ERR_OVERFLOW = 2, /* 2^55 multiply-accumulates, or 2^61 bits or cycles, could be exceeded */
    CS_ERR_CAPACITY = 3, /* the smallest tile does not fit into a buffer */
    CS_ERR_MACHINE = 4,  /* a machine is outside its documented range; *bad_row names the machine */
} cs_status;

/* The ABI version that this library was compiled with. */
int32_t cs_abi_version(void);

/* ---- cost: matrix products on systolic arrays ----
 *
 * A product is C[m,n] += A[m,k] B[k,n], `repeats` times with other operands each time. It is cut into tiles; a loop nest
 * over the tiles runs on a double-buffered machine: while one step computes, the operands of the next step are loaded
 * and the result of the step before is stored, over one DRAM channel. All times are cycles of the array clock.
 *
 * A pass is everything else: norms, activations, pools, look-ups, updates. The lanes of the vector unit and the DRAM channel
 * work side by side.
 */

typedef enum { CS_OS = 0, CS_WS = 1, CS_IS = 2 } cs_dataflow; /* output, second operand, first operand stationary */

/* An accelerator, its parts and fields named as in its file. Filled by name from `Accelerator` (codesign/hardware). */
typedef struct { int64_t rows, cols, count; double clock_hz; } cs_array;
typedef struct { int64_t capacity_bytes; double energy_pj_per_bit, area_um2_per_byte; } cs_sram;
typedef struct { double bandwidth_bytes_per_s, latency_s, energy_pj_per_bit; } cs_dram;
typedef struct { int64_t lanes; } cs_vector;
typedef struct { double area_scale; } cs_mac;
typedef struct {
    cs_array array;
    cs_sram sram;
    cs_dram dram;
    cs_vector vector;
    cs_mac mac;
    double element_um2; /* area of one processing element at the node of its fit */
    int32_t dataflows;  /* as in cs_machine */
} cs_accelerator;

/* The machine in cycles and bits. 1 <= rows, cols, arrays <= 65536; sram_bits < 2^55; 2^-20 <= dram_bits_per_cycle <= 2^40;
 * dram_latency_cycles <= 2^30; lanes >= 1; clock_hz > 0. */
typedef struct {
    int64_t rows, cols;           /* processing elements of one array */
    int64_t arrays;               /* equal arrays that share the folds of a tile */
    int32_t dataflows;            /* bit d set: dataflow d is possible; at least one */
    int64_t sram_bits;            /* holds the tiles of all operands */
    double dram_bits_per_cycle;
    int64_t dram_latency_cycles;  /* from a request to its first bit; one request a step, so hidden behind compute only */
    double sram_pj_per_bit, dram_pj_per_bit;
    int64_t lanes;                /* of the vector unit, one operation a cycle each */
    double clock_hz;              /* turns cycles into seconds; changes no count */
    double area_um2;              /* arrays and on-chip memory; changes nothing else */
} cs_machine;

/* The machine of each accelerator. Where a quantity does not fit into its field, the machine is one that is refused. */
void cs_machines_of(const cs_accelerator *accelerators, size_t count, cs_machine *machines);

/* Rows of products. Every column has `count` entries.
 *
 * Operand A may be an image read through convolution windows (image = 1: rows m are output pixels, columns k are
 * channels x taps; image = 2: the transpose). Then only the image rows under a tile move between DRAM and chip: a tile of
 * p pixels and t columns moves min(p t, ceil(t / taps) (whole images + rows under the rest) in_cols) numbers, where r
 * output rows lie on (r - 1) row_step + row_span input rows, at most in_rows. image = 0: a plain matrix; the other image
 * columns are ignored. */
typedef struct {
    size_t count;
    const int32_t *machine;                        /* index into the machines */
    const int64_t *m, *n, *k, *repeats;            /* positive */
    const int32_t *a_bits, *b_bits, *c_bits;       /* width in DRAM and SRAM, 1 to 64 */
    const int32_t *accumulator_bits;               /* width of a partial sum, 1 to 64 */
    const int32_t *scale_block, *scale_bits;       /* scale_bits more bits per scale_block numbers of A, B, C; 0, 0: none */
    const int32_t *rate;                           /* multiply-accumulates per element in 256 cycles, along k; positive */
    const double *mac_pj;
    const int32_t *image;
    const int64_t *out_rows, *out_cols, *in_rows, *in_cols, *row_step, *row_span, *taps;
} cs_products;

/* How a product is run. Loop order: outermost first, 0 mnk, 1 mkn, 2 nmk, 3 nkm, 4 kmn, 5 knm; the repeats are outside.
 * tile_repeats > 1: so many whole products a step, which asks for tile_m = m, tile_n = n, tile_k = k. */
typedef struct {
    int32_t *dataflow, *order;
    int64_t *tile_m, *tile_n, *tile_k, *tile_repeats;
} cs_mappings;

/* What a product costs. Bits count both directions. */
typedef struct {
    int64_t *cycles;          /* from the first request to the last bit stored */
    int64_t *compute_cycles;  /* arrays busy, filling and draining included */
    int64_t *transfer_cycles; /* DRAM channel busy, latencies included */
    int64_t *a_bits, *b_bits; /* DRAM reads */
    int64_t *c_bits;          /* DRAM writes, and partial sums written and read back */
    int64_t *sram_bits;       /* SRAM accesses, from both the array and the DRAM side */
    double *energy_pj;        /* multiply-accumulates, SRAM and DRAM */
} cs_costs;

/* Cost of each row under its given mapping. CS_ERR_CAPACITY where its tiles do not fit. */
cs_status cs_cost_mapped(const cs_machine *machines, size_t machine_count, const cs_products *products,
                         const cs_mappings *mappings, const cs_costs *costs, size_t *bad_row);

/* The mapping of least cycles, then least DRAM bits, of each row.
 *
 * Tried: each dataflow of the machine; for each dimension X with array side U (rows for m, cols for n, rows for k; input
 * stationary: cols for m) the tiles ceil(X / d) for d = 1, 2, 3, 4, 6, 8, 12, ..., each rounded up to a multiple of U, down
 * to U; every loop order; for repeats > 1 also whole products together. These sets do not depend on memory, bandwidth
 * or widths, so more memory, more bandwidth and fewer bits never cost cycles.
 *
 * `slots`: scratch of `slot_count` entries, a power of two above the row count, contents ignored: equal rows are solved
 * once. NULL: every row is solved. */
cs_status cs_cost_searched(const cs_machine *machines, size_t machine_count, const cs_products *products,
                           const cs_mappings *mappings, const cs_costs *costs, int64_t *slots, size_t slot_count,
                           size_t *bad_row);

/* Passes of the vector unit. Every column has `count` entries. */
typedef struct {
    size_t count;
    const double *operations;   /* whole numbers: operations of a lane */
    const double *traffic_bits; /* whole numbers: bits between DRAM and chip, both directions */
} cs_passes;

/* Rows of a step in seconds, bits and joules: the fields of `Cost` (codesign/cost/report.py), in its order. */
typedef struct {
    double *latency_s;
    double *compute_s, *vector_s, *memory_s; /* arrays, vector unit, DRAM channel busy; they overlap */
    double *ideal_s;                         /* the multiply-accumulates on arrays that are always full */
    double *macs, *traffic_bits, *first_bits, *second_bits, *result_bits, *sram_bits;
    double *mac_j, *sram_j, *dram_j;
} cs_rows;

/* One row for each product, from its costs on this machine; one for each pass. CS_ERR_MACHINE, or CS_OK. */
cs_status cs_product_rows(const cs_machine *machine, const cs_products *products, const cs_costs *costs,
                          const cs_rows *rows);
cs_status cs_pass_rows(const cs_machine *machine, const cs_passes *passes, const cs_rows *rows);

/* ---- steps: whole training steps on many machines ----
 *
 * A work is a step's products and passes, each `times` times: entries first_product[w] to first_product[w + 1] of the
 * products, likewise of the passes. The products' column `machine` is ignored. */
typedef struct {
    size_t count;
    const int64_t *first_product, *first_pass; /* [count + 1] */
    const int64_t *product_times;
    const int64_t *pass_times;
} cs_works;

/* Whole steps; of a step that is refused, whose `status` is not CS_OK, the numbers mean nothing. */
typedef struct {
    int32_t *status;       /* cs_status */
    int32_t *remapped;     /* products whose given mapping does not fit and was searched */
    double *latency_s, *energy_j;
    double *utilisation;   /* share of the arrays' multiply-accumulates that were used over the whole time */
    double *cycles, *traffic_bits, *sram_bits;
    double *ideal_cycles;  /* of one element, were it always busy */
    double *mac_pj;
} cs_steps;

/* Step i: works[work[i]] on machines[i]. A given mapping is cut to the product's size, and searched where it does not fit
 * or where the machine lacks its dataflow; without mappings all are searched. Fastest where steps of the same work, and
 * among them of the same arrays and the same memory, follow each other. */
cs_status cs_step_costs(const cs_machine *machines, const int64_t *work, size_t count, const cs_works *works,
                        const cs_products *products, const cs_passes *passes, const cs_mappings *mappings,
                        const cs_steps *steps);

/* ---- SCALE-Sim 3.0.0, reproduced ----
 *
 * One word is one number. A buffer of kB kilobytes of words is half of its memory: 50 floor(1024 kB / 100) words for
 * operands, 512 kB for outputs. */
typedef struct {
    size_t count;
    const int32_t *dataflow;
    const int64_t *rows, *cols, *m, *n, *k;
    const int64_t *ifmap_buffer, *filter_buffer, *ofmap_buffer; /* words */
} cs_scalesim_layers;

typedef struct {
    int64_t *folds, *compute_cycles;
    int64_t *sram_ifmap_reads, *sram_filter_reads, *sram_ofmap_writes;
    int64_t *dram_ifmap_reads; /* of a plain matrix; of a convolution see cs_scalesim_ifmap */
    int64_t *dram_filter_reads, *dram_ofmap_writes;
} cs_scalesim_counts;

cs_status cs_scalesim(const cs_scalesim_layers *layers, const cs_scalesim_counts *counts, size_t *bad_row);

/* A convolution without padding of its own: rows and columns are those of the padded image. */
typedef struct {
    int64_t in_rows, in_cols, channels, kernel_rows, kernel_cols, stride, filters;
} cs_scalesim_convolution;

/* DRAM reads of the ifmap, by simulating its stream of words. `scratch`: in_rows in_cols channels entries at least
 * (CS_ERR_CAPACITY if fewer), contents ignored. Takes time in the order of output pixels x window x ceil(filters / cols). */
cs_status cs_scalesim_ifmap(const cs_scalesim_convolution *layer, int32_t dataflow, int64_t rows, int64_t cols,
                            int64_t buffer, int32_t *scratch, size_t scratch_count, int64_t *reads);

/* cdef: end */

#endif
