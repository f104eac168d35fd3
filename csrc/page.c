/* The what-if page: a whole step from numbers that a browser writes into memory.
 *
 *   sh page.sh page.wasm
 *
 * Costs are those of the core; sums are in the order of cost/report.py, so that equal inputs give equal digits.
 */
#include "schedule.h"

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name)))
#else
#define EXPORT(name)
#endif

enum {
    MOST_ROWS = 4096,
    MOST_GROUPS = 4096,
    SLOTS = 8192, /* a power of two above MOST_ROWS */
    ROW_WORDS = 24,
    FIELDS = 14,  /* of cs_rows */
    RECORD = FIELDS + 3,
};
enum { ROWS, COLS, ARRAYS, DATAFLOWS, SRAM_BYTES, CLOCK_HZ, BANDWIDTH, LATENCY_S, SRAM_PJ, DRAM_PJ, LANES, ELEMENT_UM2,
       AREA_SCALE, BYTE_UM2, BATCH, BITS, SETTINGS = BITS + 6 };
enum { KIND, GROUP, PHASE, SIZES = 3, ROLES = 11, IMAGE = 14, RATE = 22, MAC_PJ = 23, /* of a product */
       OPERATIONS = 3, NUMBERS = 5, OTHER_BITS = 17 /* of a pass: numbers of 6 roles; each at batch 0 and by example */ };
/* Fields of a record that are read here, by their place in cs_rows; then three that follow from them. */
enum { LATENCY = 0, COMPUTE = 1, VECTOR = 2, MEMORY = 3, IDEAL = 4, MAC_J = 11, SRAM_J = 12, DRAM_J = 13,
       ENERGY = FIELDS, UTILISATION, BOUND };

static double settings[SETTINGS], rows[MOST_ROWS * ROW_WORDS];
static double records[(1 + 4 + MOST_GROUPS) * RECORD + 1]; /* area, then the step, its phases, layers by phase */
static double priced[FIELDS][MOST_ROWS]; /* products, then passes */
static double found[FIELDS][MOST_ROWS], gathered[MOST_ROWS];
static int64_t whole[22][MOST_ROWS];
static int32_t narrow[11][MOST_ROWS];
static double energies[2][MOST_ROWS], operations[MOST_ROWS], traffic_bits[MOST_ROWS];
static int32_t place_of[MOST_ROWS];
static int64_t slots[SLOTS];

EXPORT(settings) double *settings_place(void) { return settings; }
EXPORT(rows) double *rows_place(void) { return rows; }
EXPORT(records) double *records_place(void) { return records; }

#ifdef __wasm__ /* the compiler may ask for these by name */
void *memset(void *to, int value, size_t count) {
    unsigned char *bytes = to;
    for (size_t i = 0; i < count; ++i) bytes[i] = (unsigned char)value;
    return to;
}
void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    unsigned char *bytes = to;
    for (size_t i = 0; i < count; ++i) bytes[i] = ((const unsigned char *)from)[i];
    return to;
}
#endif

/* The sum as numpy has it: pairs of halves, eight running sums in blocks of at most 128. */
static double pairwise(const double *x, int count) {
    if (count < 8) {
        double sum = 0;
        for (int i = 0; i < count; ++i) sum += x[i];
        return sum;
    }
    if (count <= 128) {
        double r[8];
        int i;
        for (i = 0; i < 8; ++i) r[i] = x[i];
        for (i = 8; i < count - count % 8; i += 8) {
            for (int j = 0; j < 8; ++j) r[j] += x[i + j];
        }
        double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
        for (; i < count; ++i) sum += x[i];
        return sum;
    }
    const int half = count / 2 - count / 2 % 8;
    return pairwise(x, half) + pairwise(x + half, count - half);
}

static double at_batch(const double *line) { return line[0] + line[1] * settings[BATCH]; }

static cs_machine machine_here(void) {
    const cs_accelerator accelerator = {
        .array = {.rows = (int64_t)settings[ROWS],
                  .cols = (int64_t)settings[COLS],
                  .count = (int64_t)settings[ARRAYS],
                  .clock_hz = settings[CLOCK_HZ]},
        .sram = {.capacity_bytes = (int64_t)settings[SRAM_BYTES],
                 .energy_pj_per_bit = settings[SRAM_PJ],
                 .area_um2_per_byte = settings[BYTE_UM2]},
        .dram = {.bandwidth_bytes_per_s = settings[BANDWIDTH],
                 .latency_s = settings[LATENCY_S],
                 .energy_pj_per_bit = settings[DRAM_PJ]},
        .vector = {.lanes = (int64_t)settings[LANES]},
        .mac = {.area_scale = settings[AREA_SCALE]},
        .element_um2 = settings[ELEMENT_UM2],
        .dataflows = (int32_t)settings[DATAFLOWS],
    };
    cs_machine machine;
    cs_machines_of(&accelerator, 1, &machine);
    return machine;
}

static void read_product_row(const double *row, int j) {
    for (int d = 0; d < 4; ++d) whole[d][j] = (int64_t)at_batch(row + SIZES + 2 * d);
    for (int d = 0; d < 7; ++d) whole[4 + d][j] = (int64_t)row[IMAGE + 1 + d];
    narrow[0][j] = 0;
    for (int d = 0; d < 3; ++d) narrow[1 + d][j] = (int32_t)settings[BITS + (int)row[ROLES + d]];
    narrow[4][j] = (int32_t)settings[BITS + 4]; /* the accumulator */
    narrow[5][j] = narrow[6][j] = 0;
    narrow[7][j] = (int32_t)row[RATE];
    narrow[8][j] = (int32_t)row[IMAGE];
    energies[0][j] = row[MAC_PJ];
}

static void read_pass_row(const double *row, int j) {
    double bits = at_batch(row + OTHER_BITS);
    for (int role = 0; role < 6; ++role) bits += at_batch(row + NUMBERS + 2 * role) * settings[BITS + role];
    operations[j] = at_batch(row + OPERATIONS);
    traffic_bits[j] = bits;
}

/* The columns of `priced` from row `first` on. */
static cs_rows priced_from(int first) {
    double *f[FIELDS];
    for (int field = 0; field < FIELDS; ++field) f[field] = priced[field] + first;
    return (cs_rows){f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13]};
}

/* Sums over `count` rows from `first`; of one phase only, or of all where phase is negative. */
static void sum_up(int first, int count, int phase, double *record) {
    for (int field = 0; field < FIELDS; ++field) {
        const double *values = found[field] + first;
        int n = count;
        if (phase >= 0) {
            n = 0;
            for (int i = 0; i < count; ++i) {
                if ((int)rows[(first + i) * ROW_WORDS + PHASE] == phase) gathered[n++] = values[i];
            }
            values = gathered;
        }
        record[field] = pairwise(values, n);
    }
    record[ENERGY] = record[MAC_J] + record[SRAM_J] + record[DRAM_J];
    record[UTILISATION] = record[LATENCY] > 0 ? record[IDEAL] / record[LATENCY] : 0;
    const double other = record[COMPUTE] > record[VECTOR] ? record[COMPUTE] : record[VECTOR];
    record[BOUND] = record[MEMORY] > other ? 1 : record[COMPUTE] >= record[VECTOR] ? 0 : 2;
}

static int32_t price(const cs_machine *machine, int count, size_t *bad_row) {
    int products = 0, passes = 0;
    for (int i = 0; i < count; ++i) {
        const double *row = rows + i * ROW_WORDS;
        if (row[KIND] == 0) {
            place_of[products] = i;
            read_product_row(row, products++);
        } else {
            read_pass_row(row, passes++);
        }
    }
    const cs_products columns = {(size_t)products, narrow[0], whole[0], whole[1], whole[2], whole[3], narrow[1], narrow[2],
                                 narrow[3], narrow[4], narrow[5], narrow[6], narrow[7], energies[0], narrow[8], whole[4],
                                 whole[5], whole[6], whole[7], whole[8], whole[9], whole[10]};
    const cs_mappings mappings = {narrow[9], narrow[10], whole[18], whole[19], whole[20], whole[21]};
    const cs_costs costs = {whole[11], whole[12], whole[13], whole[14], whole[15], whole[16], whole[17], energies[1]};
    const cs_passes other = {(size_t)passes, operations, traffic_bits};
    const cs_rows of_products = priced_from(0), of_passes = priced_from(products);
    cs_status status = cs_cost_searched(machine, 1, &columns, &mappings, &costs, slots, SLOTS, bad_row);
    if (status == CS_OK) status = cs_product_rows(machine, &columns, &costs, &of_products);
    if (status == CS_OK) status = cs_pass_rows(machine, &other, &of_passes);
    if (status != CS_OK) {
        if (status != CS_ERR_MACHINE) *bad_row = (size_t)place_of[*bad_row];
        return (int32_t)status;
    }
    for (int field = 0; field < FIELDS; ++field) {
        const double *next_product = priced[field], *next_pass = priced[field] + products;
        for (int i = 0; i < count; ++i) found[field][i] = rows[i * ROW_WORDS + KIND] == 0 ? *next_product++ : *next_pass++;
    }
    return CS_OK;
}

/* Price `count` rows that belong to `groups` layers and phases; those of one group stand together, in order. Returns a
 * cs_status; `records[0]` is the area, and after a refusal `records[1]` the row that was refused. */
EXPORT(step) int32_t step(int32_t count, int32_t groups) {
    if (count < 0 || count > MOST_ROWS || groups < 0 || groups > MOST_GROUPS) return CS_ERR_RANGE;
    const cs_machine machine = machine_here();
    records[0] = machine.area_um2;
    size_t bad_row = 0;
    const int32_t status = price(&machine, count, &bad_row);
    if (status != CS_OK) {
        records[1] = (double)bad_row;
        return status;
    }
    sum_up(0, count, -1, records + 1);
    for (int phase = 0; phase < 4; ++phase) sum_up(0, count, phase, records + 1 + (1 + phase) * RECORD);
    for (int group = 0, i = 0; group < groups; ++group) {
        const int first = i;
        while (i < count && (int)rows[i * ROW_WORDS + GROUP] == group) ++i;
        sum_up(first, i - first, -1, records + 1 + (5 + group) * RECORD);
    }
    return CS_OK;
}
