/* Sliding sums of cosines: a filter of any radius at one cost, for one instruction set.
 *
 * A kernel that is a short sum of cosines on |u| <= radius costs the same at every radius. With
 *   F(y) = sum over |u| <= radius of cos(w u) x(y + u),   w = pi h / (2 radius + 1), h = 0, 1, 2, ...
 * the angle sum gives F(y+1) = 2 cos(w) F(y) - F(y-1) + cos(w radius) * input(y), where
 *   input(y) = D(y) - D(y-1), D(y) = x(y+radius+1) - x(y-radius)   for even h (whole waves in the window),
 *   input(y) = E(y) + E(y-1), E(y) = x(y+radius+1) + x(y-radius)   for odd h (half a wave more).
 * The factor cos(w radius) is taken out of F and put into the weights. h = 0 is the running sum S += D.
 * Whole waves alone are the DCT-5 of Sugimoto and Kamata, "Efficient constant-time Gaussian filtering with sliding
 * DCT/DST-5 and dual-domain error minimization", ITE MTA 3(1), 2015.
 *
 * LANES columns go down side by side; blocks of LANES x LANES results are transposed on their way out, so that the same
 * routine then goes along the rows. Rounding errors add up on the way: a tile of at most SLIDE_TILE rows starts afresh.
 */
#define SLIDE_ROWS 256
#define SLIDE_COLUMNS 512

#define LANES MOST_LANES
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

/* LANES vectors of LANES floats: rows to columns, by LANES/2-apart interleaving, log2(LANES) times. */
static inline __attribute__((always_inline)) void transpose(V(vf) block[LANES]) {
    V(vf) next[LANES];
#pragma GCC unroll 4
    for (int step = 1; step < LANES; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; ++i) {
            next[2 * i] = V(interleave_low)(block[i], block[i + LANES / 2]);
            next[2 * i + 1] = V(interleave_high)(block[i], block[i + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) block[i] = next[i];
    }
}

typedef struct {
    float *turned; /* [column][row]: the tile and its halo after the filter down, turned */
    const void **rows;
    void *zeros;
    int64_t stride; /* of `turned` */
} slide_plan;

#define WAVES_MOST 8

typedef struct {
    V(vf) mean, now[WAVES_MOST], before[WAVES_MOST], d_before, e_before;
} slide_state;

#define SOURCE uint8_t
#define S(name) name##_u8
#include "slide_lanes.h"
#undef SOURCE
#undef S
#define SOURCE float
#define S(name) name##_f32
#include "slide_lanes.h"
#undef SOURCE
#undef S

#define PIXEL uint8_t
#define P(name) name##_u8
#include "slide_tiles.h"
#undef PIXEL
#undef P
#define PIXEL float
#define P(name) name##_f32
#include "slide_tiles.h"
#undef PIXEL
#undef P
#undef LANES
