/* The cost core, and the program of the what-if page, on random and extreme rows, for a build under sanitizers: nothing wraps, nothing leaves its columns, and
 * the mapping that the search returns costs what the search said. Buffers have exactly the promised size. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codesign.h"

/* csrc/page.c, which has no header: a browser calls it. */
double *settings_place(void), *rows_place(void), *records_place(void);
int32_t step(int32_t count, int32_t groups);

#define CHECK(truth) \
    if (!(truth)) { printf("line %d, row %zu: %s\n", __LINE__, bad, #truth); exit(1); }

enum { ROWS = 400 };
static uint64_t state = 1;

static uint64_t bits(void) { /* xorshift64 (Marsaglia 2003) */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

/* Between 1 and 2^most, small and large sizes alike. */
static int64_t size_up_to(int most) { return (int64_t)(bits() % (2ull << (bits() % (uint64_t)most))) + 1; }

static void *column(size_t width) { return calloc(ROWS, width); }

#define INT32(name) int32_t *name = column(sizeof(int32_t))
#define INT64(name) int64_t *name = column(sizeof(int64_t))

static void check_costs(int most, int64_t sram_bits, double bits_per_cycle, int64_t latency) {
    size_t bad = 0;
    const cs_machine machines[2] = {{16, 8, 1, 7, sram_bits, bits_per_cycle, latency, 0.1, 8, 64, 1e9, 0},
                                    {128, 128, 65536, 5, sram_bits, 1e4, 0, 0.1, 8, 1024, 1e9, 0}};
    INT32(machine); INT64(m); INT64(n); INT64(k); INT64(repeats);
    INT32(a); INT32(b); INT32(c); INT32(accumulator); INT32(block); INT32(scale); INT32(rate); INT32(image);
    INT64(out_rows); INT64(out_cols); INT64(in_rows); INT64(in_cols); INT64(row_step); INT64(row_span); INT64(taps);
    double *pj = column(sizeof(double)), *energy = column(sizeof(double)), *again_energy = column(sizeof(double));
    for (int i = 0; i < ROWS; ++i) {
        machine[i] = (int32_t)(bits() % 2);
        m[i] = size_up_to(most), n[i] = size_up_to(most), k[i] = size_up_to(most), repeats[i] = size_up_to(most / 2);
        a[i] = (int32_t)(bits() % 64 + 1), b[i] = (int32_t)(bits() % 64 + 1), c[i] = (int32_t)(bits() % 64 + 1);
        accumulator[i] = (int32_t)(bits() % 64 + 1);
        block[i] = (int32_t)(bits() % 33), scale[i] = block[i] ? 8 : 0, rate[i] = (int32_t)(bits() % 1024 + 1);
        image[i] = (int32_t)(bits() % 3);
        out_rows[i] = size_up_to(5), out_cols[i] = size_up_to(5), row_step[i] = size_up_to(2), row_span[i] = size_up_to(3);
        in_rows[i] = out_rows[i] * row_step[i] + row_span[i], in_cols[i] = out_cols[i] + 2, taps[i] = size_up_to(3);
    }
    INT32(dataflow); INT32(order); INT64(tile_m); INT64(tile_n); INT64(tile_k); INT64(tile_repeats);
    INT64(cycles); INT64(compute); INT64(transfer); INT64(a_out); INT64(b_out); INT64(c_out); INT64(sram);
    INT64(cycles2); INT64(compute2); INT64(transfer2); INT64(a_out2); INT64(b_out2); INT64(c_out2); INT64(sram2);
    int64_t *slots = malloc(2 * sizeof *slots);
    int solved = 0;
    for (size_t i = 0; i < ROWS; ++i) { /* one row a call: a row that is refused must not end the batch */
        const cs_products row = {1, machine + i, m + i, n + i, k + i, repeats + i, a + i, b + i, c + i, accumulator + i,
                                 block + i, scale + i, rate + i, pj + i, image + i, out_rows + i, out_cols + i,
                                 in_rows + i, in_cols + i, row_step + i, row_span + i, taps + i};
        const cs_mappings mapping = {dataflow + i, order + i, tile_m + i, tile_n + i, tile_k + i, tile_repeats + i};
        const cs_costs costs = {cycles + i, compute + i, transfer + i, a_out + i, b_out + i, c_out + i, sram + i, energy + i};
        const cs_costs again = {cycles2 + i, compute2 + i, transfer2 + i, a_out2 + i, b_out2 + i, c_out2 + i, sram2 + i,
                                again_energy + i};
        const cs_status status = cs_cost_searched(machines, 2, &row, &mapping, &costs, slots, 2, &bad);
        CHECK(status == CS_OK || status == CS_ERR_OVERFLOW || status == CS_ERR_CAPACITY)
        if (status != CS_OK) continue;
        CHECK(cs_cost_mapped(machines, 2, &row, &mapping, &again, &bad) == CS_OK)
        CHECK(cycles[i] == cycles2[i] && transfer[i] == transfer2[i] && sram[i] == sram2[i] && a_out[i] == a_out2[i])
        ++solved;
        CHECK(cycles[i] >= compute[i] && compute[i] > 0 && sram[i] > 0 && c_out[i] > 0)
    }
    CHECK(solved > ROWS / 20)
}

static void check_scalesim(void) {
    size_t bad = 0;
    for (int round = 0; round < 60; ++round) {
        const int32_t dataflow = (int32_t)(bits() % 3);
        const int64_t span = size_up_to(2), rows = size_up_to(4), cols = size_up_to(4);
        const cs_scalesim_convolution layer = {span + size_up_to(3), span + size_up_to(3), size_up_to(2), span,
                                               span, size_up_to(1), size_up_to(4)};
        const size_t words = (size_t)(layer.in_rows * layer.in_cols * layer.channels);
        int32_t *scratch = malloc(words * sizeof *scratch);
        int64_t reads = 0;
        CHECK(cs_scalesim_ifmap(&layer, dataflow, rows, cols, size_up_to(6), scratch, words, &reads) == CS_OK)
        CHECK(reads > 0)
        free(scratch);
    }
}

static bool nearly(double a, double b) { return a == b || fabs(a - b) <= 1e-12 * fabs(b); }

/* Two works on many machines, some of them impossible: each step is the sum of its products and passes alone. */
static void check_steps(bool given) {
    enum { PRODUCTS = 12, PASSES = 9, STEPS = 60 };
    size_t bad = 0;
    INT32(machine); INT64(m); INT64(n); INT64(k); INT64(repeats);
    INT32(a); INT32(b); INT32(c); INT32(accumulator); INT32(zero32); INT32(rate);
    INT64(one);
    double pj[PRODUCTS], energy[PRODUCTS], operations[PASSES], traffic[PASSES];
    int64_t product_times[PRODUCTS], pass_times[PASSES];
    for (int i = 0; i < PRODUCTS; ++i) {
        m[i] = size_up_to(9), n[i] = size_up_to(9), k[i] = size_up_to(9), repeats[i] = size_up_to(2), one[i] = 1;
        a[i] = b[i] = c[i] = (int32_t)(bits() % 32 + 1), accumulator[i] = 32, rate[i] = (int32_t)(bits() % 1024 + 1);
        pj[i] = 0.25, product_times[i] = size_up_to(2);
    }
    for (int i = 0; i < PASSES; ++i) {
        operations[i] = (double)size_up_to(i == 0 ? 62 : 20), traffic[i] = (double)(i == 1 ? 0 : size_up_to(30));
        pass_times[i] = size_up_to(3);
    }
    INT32(dataflow); INT32(order); INT64(tile_m); INT64(tile_n); INT64(tile_k); INT64(tile_repeats);
    INT64(cycles); INT64(compute); INT64(transfer); INT64(a_out); INT64(b_out); INT64(c_out); INT64(sram);
    const cs_products products = {PRODUCTS, machine, m, n, k, repeats, a, b, c, accumulator, zero32, zero32, rate, pj,
                                  zero32, one, one, one, one, one, one, one};
    const cs_mappings mappings = {dataflow, order, tile_m, tile_n, tile_k, tile_repeats};
    const cs_costs costs = {cycles, compute, transfer, a_out, b_out, c_out, sram, energy};
    const cs_passes passes = {PASSES, operations, traffic};
    const int64_t first_product[3] = {0, 7, PRODUCTS}, first_pass[3] = {0, 4, PASSES};
    const cs_works works = {2, first_product, first_pass, product_times, pass_times};
    cs_accelerator accelerators[STEPS];
    cs_machine machines[STEPS];
    int64_t work[STEPS];
    for (int i = 0; i < STEPS; ++i) {
        accelerators[i] = (cs_accelerator){
            .array = {size_up_to(5), size_up_to(5), size_up_to(2), 1e9},
            .sram = {size_up_to(22), 0.1, 1.5},
            .dram = {1e9 * (double)size_up_to(9), 1e-9 * (double)size_up_to(8), 8},
            .vector = {size_up_to(9)},
            .mac = {0.5},
            .element_um2 = 300,
            .dataflows = (int32_t)(bits() % 7 + 1),
        };
        work[i] = i >= STEPS / 2;
    }
    accelerators[3].dram.latency_s = 1e300, accelerators[4].dram.latency_s = NAN, accelerators[5].dram.latency_s = -1;
    accelerators[6].sram.capacity_bytes = INT64_MAX, accelerators[7].sram.capacity_bytes = INT64_MIN;
    accelerators[8].array.clock_hz = 0, accelerators[9].vector.lanes = 0, accelerators[10].array.rows = INT64_MAX;
    accelerators[11].dataflows = 8, accelerators[12].dram.bandwidth_bytes_per_s = INFINITY;
    cs_machines_of(accelerators, STEPS, machines);
    int64_t slots[32];
    CHECK(cs_cost_searched(machines, 1, &products, &mappings, &costs, slots, 32, &bad) != CS_ERR_RANGE)
    for (int i = 0; i < PRODUCTS; ++i) { /* whether or not machine 0 could run them: some mapping of each */
        if (tile_m[i]) continue;
        tile_m[i] = m[i], tile_n[i] = n[i], tile_k[i] = k[i], tile_repeats[i] = 1;
    }
    int32_t status[STEPS], remapped[STEPS];
    double columns[8][STEPS];
    const cs_steps steps = {status, remapped, columns[0], columns[1], columns[2], columns[3], columns[4], columns[5],
                            columns[6], columns[7]};
    CHECK(cs_step_costs(machines, work, STEPS, &works, &products, &passes, given ? &mappings : NULL, &steps) == CS_OK)
    int ran = 0;
    for (size_t i = 0; i < STEPS; ++i) {
        bad = i;
        CHECK((status[i] == CS_ERR_MACHINE) == (i >= 3 && i <= 12))
        if (status[i] != CS_OK) continue;
        double found[14][PRODUCTS], sum_s = 0, sum_j = 0;
        const cs_rows rows = {found[0], found[1], found[2], found[3], found[4], found[5], found[6], found[7], found[8],
                              found[9], found[10], found[11], found[12], found[13]};
        ++ran;
        if (!given) {
            INT64(again_m); INT64(again_n); INT64(again_k); INT64(again_repeats);
            const cs_mappings own = {dataflow, order, again_m, again_n, again_k, again_repeats};
            bool all = cs_cost_searched(&machines[i], 1, &products, &own, &costs, slots, 32, &bad) == CS_OK;
            free(again_m), free(again_n), free(again_k), free(again_repeats);
            if (!all) continue; /* the other work's products do not fit */
            CHECK(cs_product_rows(&machines[i], &products, &costs, &rows) == CS_OK)
            for (int64_t j = first_product[work[i]]; j < first_product[work[i] + 1]; ++j) {
                sum_s += (double)product_times[j] * found[0][j];
                sum_j += (double)product_times[j] * (found[11][j] + found[12][j] + found[13][j]);
            }
            CHECK(cs_pass_rows(&machines[i], &passes, &rows) == CS_OK)
            for (int64_t j = first_pass[work[i]]; j < first_pass[work[i] + 1]; ++j) {
                sum_s += (double)pass_times[j] * found[0][j];
                sum_j += (double)pass_times[j] * (found[12][j] + found[13][j]);
            }
            CHECK(nearly(columns[0][i], sum_s) && nearly(columns[1][i], sum_j))
        }
        CHECK(columns[0][i] > 0 && columns[1][i] > 0 && columns[2][i] > 0 && columns[2][i] <= 1)
    }
    CHECK(ran > STEPS / 3)
}

/* The page, with as many rows as it holds: products and passes in turn, each a group of its own. */
static void check_page(void) {
    size_t bad = 0;
    enum { MOST = 4096, ROW = 24, RECORD = 17 };
    double *settings = settings_place(), *rows = rows_place(), *records = records_place();
    const double start[21] = {16, 8, 2, 7, 1 << 20, 1e9, 1e10, 1e-7, 0.1, 8, 64, 300, 0.5, 1.5, 3, 8, 8, 16, 16, 32, 32};
    memcpy(settings, start, sizeof start);
    for (int i = 0; i < MOST; ++i) {
        double *row = rows + i * ROW;
        memset(row, 0, ROW * sizeof *row);
        row[0] = i % 2, row[1] = i, row[2] = (double)(bits() % 4);
        for (int j = 3; j < 19; j += 2) row[j + 1] = i % 2 || j < 11 ? (double)size_up_to(5) : 0;
        if (i % 2) continue;
        for (int j = 11; j < 14; ++j) row[j] = (double)(bits() % 4);
        row[14] = 0, row[22] = 256, row[23] = 0.25;
    }
    CHECK(step(MOST, MOST) == CS_OK)
    CHECK(records[0] == 16 * 8 * 2 * 300 * 0.5 + (1 << 20) * 1.5)
    double phases = 0, groups = 0;
    for (int i = 0; i < 4; ++i) phases += records[1 + (1 + i) * RECORD];
    for (int i = 0; i < MOST; ++i) groups += records[1 + (5 + i) * RECORD];
    CHECK(records[1] > 0 && nearly(phases, records[1]) && nearly(groups, records[1]))
    CHECK(step(MOST + 1, 1) == CS_ERR_RANGE && step(1, MOST + 1) == CS_ERR_RANGE && step(-1, 0) == CS_ERR_RANGE)
    settings[4] = 1;
    CHECK(step(MOST, MOST) == CS_ERR_CAPACITY && records[1] == 0)
    settings[10] = 0;
    CHECK(step(MOST, MOST) == CS_ERR_MACHINE)
}

int main(void) {
    check_costs(7, (int64_t)1 << 20, 3.7, 100);
    check_costs(12, (int64_t)1 << 26, 3.7, 100);
    check_costs(20, (int64_t)1 << 54, 3.7, 100);
    check_costs(40, (int64_t)1 << 54, 3.7, 100); /* most are refused as too large */
    check_costs(4, 4096, 3.7, 100);              /* some have no tile that fits */
    check_costs(14, (int64_t)1 << 40, 0x1p-20, (int64_t)1 << 30); /* the slowest memory: transfers are refused first */
    check_scalesim();
    for (int round = 0; round < 20; ++round) check_steps(round % 2);
    check_page();
    return 0;
}
