/* The folded filter of four neighbouring outputs; included once per lane count after lanes.h. */

/* sum[j] = w[0] x[j] + sum over i = 1..radius of w[i] (x[j-i] + x[j+i]), j = 0..3, for LANES columns at once.
 *
 * x[t] is the vector at tap[t] + at, t = -radius .. radius+3: image rows, or phases of one row. Each step of i needs
 * one new vector above and one below the four outputs; the rest of both windows is at hand, renamed.
 */
static inline __attribute__((always_inline)) void V(fold)(const float *const *tap, int64_t at, const float *w,
                                                          int64_t radius, V(vf) sum[4]) {
    V(vf) a0 = V(load)(tap[0] + at), a1 = V(load)(tap[1] + at), a2 = V(load)(tap[2] + at), a3 = V(load)(tap[3] + at);
    V(vf) b0 = a0, b1 = a1, b2 = a2, b3 = a3, weight = V(all)(w[0]);
    V(vf) s0 = weight * a0, s1 = weight * a1, s2 = weight * a2, s3 = weight * a3;
#if MOST_LANES == 16 /* enough registers for two sets of sums: a multiply-add need not wait for the one before */
    V(vf) r0 = {0}, r1 = {0}, r2 = {0}, r3 = {0};
#else
#define r0 s0
#define r1 s1
#define r2 s2
#define r3 s3
#endif
    const float *const *up = tap + 4, *const *down = tap - 1;
    for (int64_t left = radius; left > 0; left -= 4, w += 4, up += 4, down -= 4) {
#define STEP(I, S, A0, A1, A2, A3, B0, B1, B2, B3) \
    A0 = V(load)(up[I] + at);                      \
    B3 = V(load)(down[-(I)] + at);                 \
    weight = V(all)(w[(I) + 1]);                   \
    S##0 += weight * (A1 + B3);                    \
    S##1 += weight * (A2 + B0);                    \
    S##2 += weight * (A3 + B1);                    \
    S##3 += weight * (A0 + B2);
        STEP(0, r, a0, a1, a2, a3, b0, b1, b2, b3)
        if (left == 1) break;
        STEP(1, s, a1, a2, a3, a0, b3, b0, b1, b2)
        if (left == 2) break;
        STEP(2, r, a2, a3, a0, a1, b2, b3, b0, b1)
        if (left == 3) break;
        STEP(3, s, a3, a0, a1, a2, b1, b2, b3, b0)
#undef STEP
    }
#if MOST_LANES == 16
    s0 += r0, s1 += r1, s2 += r2, s3 += r3;
#else
#undef r0
#undef r1
#undef r2
#undef r3
#endif
    sum[0] = s0, sum[1] = s1, sum[2] = s2, sum[3] = s3;
}

/* 4*LANES pixels of a row to four rows of phases, `stride` floats apart. */
static inline void V(spread_u8)(const uint8_t *from, float *to, int64_t stride) {
    V(vf) phase[4];
    V(split_u8)(from, phase);
    for (int p = 0; p < 4; ++p) V(store)(to + p * stride, phase[p]);
}

static inline void V(spread_f32)(const float *from, float *to, int64_t stride) {
    V(vf) phase[4];
    V(split_f32)(from, phase);
    for (int p = 0; p < 4; ++p) V(store)(to + p * stride, phase[p]);
}

/* Horizontal: 4*LANES pixels of one row, from the phases behind `tap` to four vectors in `row`. */
static inline void V(across)(const float *const *tap, int64_t at, const float *w, int64_t radius, float *row) {
    V(vf) sum[4];
    V(fold)(tap, at, w, radius, sum);
    for (int p = 0; p < 4; ++p) V(store)(row + p * LANES, sum[p]);
}

/* Vertical: 4*LANES pixels of four rows, from rows of phases to pixels in to[0..3]. */
static inline void V(down_u8)(const float *const *tap, int64_t at, const float *w, int64_t radius,
                              uint8_t *const to[4]) {
    V(vu) packed[4] = {{0}, {0}, {0}, {0}};
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
        V(vf) sum[4];
        V(fold)(tap, at + p * LANES, w, radius, sum);
        for (int j = 0; j < 4; ++j) packed[j] |= V(round_u8)(sum[j]) << (8 * p);
    }
    for (int j = 0; j < 4; ++j) *(V(vu_any) *)to[j] = packed[j];
}

static inline void V(down_f32)(const float *const *tap, int64_t at, const float *w, int64_t radius,
                               float *const to[4]) {
    V(vf) sum[4][4];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
        V(vf) column[4];
        V(fold)(tap, at + p * LANES, w, radius, column);
        for (int j = 0; j < 4; ++j) sum[j][p] = column[j];
    }
    for (int j = 0; j < 4; ++j) V(join_f32)(sum[j], to[j]);
}
