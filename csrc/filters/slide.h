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
 * LANES columns go down side by side; blocks of LANES x LANES results are transposed on their way out, so that the same
 * routine then goes along the rows. Rounding errors add up on the way: each tile starts afresh.
 */
#define SLIDE_ROWS 256
#define SLIDE_COLUMNS 512

#define LANES MOST_LANES
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

/* LANES vectors of LANES floats: rows to columns. */
static inline __attribute__((always_inline)) void transpose(V(vf) block[LANES]) {
    V(vf) next[LANES];
#if MOST_LANES == 16 /* pairs and fours within 128 bits, then the 128-bit parts: cheaper than moves across them */
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512 a = (__m512)block[i], b = (__m512)block[i + 1];
        const __m512 c = (__m512)block[i + 2], d = (__m512)block[i + 3];
        const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(a, b)), ab2 = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(c, d)), cd2 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
        next[i] = (V(vf))_mm512_unpacklo_pd(ab0, cd0); /* columns 0, 4, 8, 12 of these four rows */
        next[i + 1] = (V(vf))_mm512_unpackhi_pd(ab0, cd0);
        next[i + 2] = (V(vf))_mm512_unpacklo_pd(ab2, cd2);
        next[i + 3] = (V(vf))_mm512_unpackhi_pd(ab2, cd2);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const __m512 a = (__m512)next[i], b = (__m512)next[i + 4];
        const __m512 c = (__m512)next[i + 8], d = (__m512)next[i + 12];
        const __m512 ab_even = _mm512_shuffle_f32x4(a, b, 0x88), ab_odd = _mm512_shuffle_f32x4(a, b, 0xdd);
        const __m512 cd_even = _mm512_shuffle_f32x4(c, d, 0x88), cd_odd = _mm512_shuffle_f32x4(c, d, 0xdd);
        block[i] = (V(vf))_mm512_shuffle_f32x4(ab_even, cd_even, 0x88);
        block[i + 4] = (V(vf))_mm512_shuffle_f32x4(ab_odd, cd_odd, 0x88);
        block[i + 8] = (V(vf))_mm512_shuffle_f32x4(ab_even, cd_even, 0xdd);
        block[i + 12] = (V(vf))_mm512_shuffle_f32x4(ab_odd, cd_odd, 0xdd);
    }
#else /* interleave what is LANES/2 apart, log2(LANES) times */
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
#endif
}

typedef struct {
    float *turned; /* [column][row]: the tile and its halo after the filter down, turned */
    const void **rows;
    void *zeros;
    int64_t stride; /* of `turned` */
} slide_plan;

typedef struct {
    V(vf) mean, now[CS_WAVES], before[CS_WAVES], d_before; /* of row y, but `before` and d_before: y - 1 */
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
