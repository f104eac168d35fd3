/* Sliding sums of cosines: a filter of any radius at one cost, for one instruction set.
 *
 * A kernel that is a short sum of cosines on |u| <= radius costs the same at every radius. With
 *   F(y) = sum over |u| <= radius of cos(w u) x(y + u),   w = 2 pi k / (2 radius + 1), k = 0, 1, 2, ...
 * whose cosines repeat after 2 radius + 1, the angle sum gives
 *   F(y+1) = 2 cos(w) F(y) - F(y-1) + cos(w radius) (D(y) - D(y-1)),   D(y) = x(y + radius + 1) - x(y - radius).
 * The factor cos(w radius) is taken out of F and put into the weights. k = 0 is the running sum S += D.
 * This is the DCT-5 of Sugimoto and Kamata, "Efficient constant-time Gaussian filtering with sliding DCT/DST-5 and
 * dual-domain error minimization", ITE Transactions on Media Technology and Applications 3(1), 2015.
 *
 * LANES rows of a tile are filtered at a time, so that what lies between the filters stays in the first-level cache: down,
 * LANES columns side by side, their sums kept from strip to strip; turned on their way out, so that the same routine then
 * goes along the rows. Rounding errors add up on the way: sums start afresh after
 * SLIDE_ROWS rows, where a tile ends, and after SLIDE_STEPS columns.
 */
#define SLIDE_ROWS 256
#define SLIDE_COLUMNS 1024 /* of a tile: its strip stays in the second-level cache, its halo is small beside it */
#define SLIDE_STEPS 512

#define LANES MOST_LANES
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

typedef struct {
    V(vf) mean, now[CS_WAVES], before[CS_WAVES], d_before; /* of row y, but `before` and d_before: y - 1 */
} slide_state; /* sums are kept times their weights */

typedef struct {
    V(vf) mean_weight, weight[CS_WAVES], twice_cosine[CS_WAVES]; /* of a cs_waves, in registers */
} slide_factors;

static inline __attribute__((always_inline)) slide_factors factors_of(const cs_waves *waves) {
    slide_factors factors = {.mean_weight = V(all)(waves->mean_weight)};
#pragma GCC unroll 8
    for (int k = 0; k < CS_WAVES; ++k)
        factors.weight[k] = V(all)(waves->weight[k]), factors.twice_cosine[k] = V(all)(waves->twice_cosine[k]);
    return factors;
}

typedef struct {
    float *turned;       /* [column][LANES]: a strip of rows, and its halo, after the filter down */
    slide_state *states; /* of each LANES columns, at the row after the strip */
    const void **down, **along; /* [t]: image row and column of `turned` that lie t - radius - 1 from the tile's first */
    void *zeros;
} slide_plan;

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
