/* The symmetric separable filter (Gaussian, small box) for one instruction set: lane counts and pixel types. */

/* A block is 4*LANES pixels; the widest that does not waste half of itself. */
#define MOST_BLOCK (4 * MOST_LANES)
#define LINE_SLACK MOST_LANES

/* Source rows that go through each step together. */
#define ROWS_READ 4

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

/* Columns per tile: the ring takes at most RING_BYTES, the tile 64 to 3072 columns. */
static inline int64_t fir_tile(int64_t width, int64_t slots) {
    const int64_t fits = larger(64, smaller(3072, RING_BYTES / (4 * slots) / 64 * 64));
    return smaller(fits, round_up(width, 64));
}

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
