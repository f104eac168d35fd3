/* The cost core on random and extreme rows, for a build under sanitizers: nothing wraps, nothing leaves its columns, and
 * the mapping that the search returns costs what the search said. Buffers have exactly the promised size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codesign.h"

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
    const cs_machine machines[2] = {{16, 8, 1, 7, sram_bits, bits_per_cycle, latency, 0.1, 8},
                                    {128, 128, 65536, 5, sram_bits, 1e4, 0, 0.1, 8}};
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

int main(void) {
    check_costs(7, (int64_t)1 << 20, 3.7, 100);
    check_costs(12, (int64_t)1 << 26, 3.7, 100);
    check_costs(20, (int64_t)1 << 54, 3.7, 100);
    check_costs(40, (int64_t)1 << 54, 3.7, 100); /* most are refused as too large */
    check_costs(4, 4096, 3.7, 100);              /* some have no tile that fits */
    check_costs(14, (int64_t)1 << 40, 0x1p-20, (int64_t)1 << 30); /* the slowest memory: transfers are refused first */
    check_scalesim();
    return 0;
}
