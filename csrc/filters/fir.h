/* The symmetric separable filter (Gaussian, small box) for one instruction set: lane counts and pixel types. */

/* Source rows that go through each step together. */
#define ROWS_READ 4

/* A block is 4*LANES pixels; the widest that does not waste half of itself. */
static inline int64_t block_of(int64_t left) {
    if (MOST_LANES >= 16 && left > 32) return 64;
    return MOST_LANES >= 8 && left > 16 ? 32 : 16;
}

#define AT_LANES_(name, lanes) name##_x##lanes
#define AT_LANES(name, lanes) AT_LANES_(name, lanes)
#if MOST_LANES == 16
#define BY_BLOCK(block, name, ...)                           \
    do {                                                     \
        if ((block) == 64) AT_LANES(name, 16)(__VA_ARGS__);  \
        else if ((block) == 32) AT_LANES(name, 8)(__VA_ARGS__); \
        else AT_LANES(name, 4)(__VA_ARGS__);                 \
    } while (0)
#elif MOST_LANES == 8
#define BY_BLOCK(block, name, ...)                           \
    do {                                                     \
        if ((block) == 32) AT_LANES(name, 8)(__VA_ARGS__);   \
        else AT_LANES(name, 4)(__VA_ARGS__);                 \
    } while (0)
#else
#define BY_BLOCK(block, name, ...) AT_LANES(name, 4)(__VA_ARGS__)
#endif

/* Columns per tile: the ring takes at most RING_BYTES, the tile 64 to MOST_TILE columns. */
#define MOST_TILE 3072
static inline int64_t fir_tile(int64_t width, int64_t column_bytes) {
    const int64_t fits = larger(64, smaller(MOST_TILE, RING_BYTES / column_bytes / 64 * 64));
    return smaller(fits, round_up(width, 64));
}

static inline void fill_weights_float(const float *from, int64_t radius, float *weights) {
    memcpy(weights, from, (size_t)(radius + 1) * sizeof *from);
}
#define fill_weights_u8 fill_weights_float
#define fill_weights_f32 fill_weights_float

#define VALUE float
#define WEIGHT float
#define BLACK 0
#define ACROSS across
#define MOST_BLOCK (4 * MOST_LANES)
#define BLOCK_OF block_of
#define WITH_LANES BY_BLOCK
#define PIXEL uint8_t
#define P(name) name##_u8
#include "fir_rows.h"
#undef PIXEL
#undef P

#define PIXEL float
#define P(name) name##_f32
#include "fir_rows.h"
#undef PIXEL
#undef P
#undef VALUE
#undef WEIGHT
#undef BLACK
#undef ACROSS
#undef MOST_BLOCK
#undef BLOCK_OF
#undef WITH_LANES

#if MOST_LANES >= 8 /* the same in 16-bit fixed point */
#define WORDS 8
#include "fixed_lanes.h"
#undef WORDS
#define WORDS 16
#include "fixed_lanes.h"
#undef WORDS

/* Units of 2^-15, twice in a word; the centre takes what rounding left over, so that a constant stays constant. */
static void fill_weights_fixed(const float *from, int64_t radius, int32_t *weights) {
    int32_t left = 1 << 15;
    for (int64_t i = radius; i >= 0; --i) {
        const int32_t weight = i > 0 ? (int32_t)(from[i] * 32768.0f + 0.5f) : (int32_t)smaller(left, INT16_MAX);
        left -= 2 * weight;
        weights[i] = weight * 0x10001;
    }
}
#define read_line_fixed read_line_u8
#define write_line_fixed write_line_u8

#define VALUE int16_t
#define WEIGHT int32_t
#define BLACK (-128 * 128)
#define ACROSS across_fixed
#define MOST_BLOCK 64
#define BLOCK_OF(left) ((left) > 32 ? 64 : 32)
#define WITH_LANES(block, name, ...)                      \
    do {                                                  \
        if ((block) == 64) F_(name, 16)(__VA_ARGS__);     \
        else F_(name, 8)(__VA_ARGS__);                    \
    } while (0)
#define PIXEL uint8_t
#define P(name) name##_fixed
#include "fir_rows.h"
#undef PIXEL
#undef P
#endif
