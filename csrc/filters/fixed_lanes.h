/* The folded filter in 16-bit fixed point, WORDS columns at once; included once per WORDS (8 or 16).
 *
 * A pixel p is (p - 128) * 128, so that the sum of two just fits into 16 bits; a weight is in units of 2^-15, and the
 * rounded product of both is in units of 1/128 of a level again: the result of one axis is the input of the other.
 * Every product is off by at most half a unit.
 */
#undef F
#define F_(name, words) name##_w##words
#define F__(name, words) F_(name, words)
#define F(name) F__(name, WORDS)

typedef int16_t F(word) __attribute__((vector_size(2 * WORDS)));
typedef uint16_t F(uword) __attribute__((vector_size(2 * WORDS)));
typedef uint32_t F(quad) __attribute__((vector_size(4 * WORDS)));
typedef int32_t F(pair) __attribute__((vector_size(2 * WORDS)));
typedef int16_t F(word_any) __attribute__((vector_size(2 * WORDS), aligned(2), may_alias));
typedef uint32_t F(quad_any) __attribute__((vector_size(4 * WORDS), aligned(1), may_alias));

static inline F(word) F(load)(const int16_t *from) { return *(const F(word_any) *)from; }
static inline void F(store)(int16_t *to, F(word) value) { *(F(word_any) *)to = value; }
static inline F(word) F(weight)(int32_t both) { return (F(word))(both - (F(pair)){0}); }

/* a * b / 2^15, rounded. */
static inline F(word) F(product)(F(word) a, F(word) b) {
#if WORDS == 16
    return (F(word))_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
#else
    return (F(word))_mm_mulhrs_epi16((__m128i)a, (__m128i)b);
#endif
}

/* Rounding may leave a sum a few units below black; two of those would not fit. */
static inline F(word) F(at_least_black)(F(word) value) {
    const F(word) black = -16384 - (F(word)){0};
#if WORDS == 16
    return (F(word))_mm256_max_epi16((__m256i)value, (__m256i)black);
#else
    return (F(word))_mm_max_epi16((__m128i)value, (__m128i)black);
#endif
}

/* `fold` of fir_lanes.h in fixed point. */
static inline __attribute__((always_inline)) void F(fold)(const int16_t *const *tap, int64_t at, const int32_t *w,
                                                          int64_t radius, F(word) sum[4]) {
    F(word) a0 = F(load)(tap[0] + at), a1 = F(load)(tap[1] + at), a2 = F(load)(tap[2] + at), a3 = F(load)(tap[3] + at);
    F(word) b0 = a0, b1 = a1, b2 = a2, b3 = a3, weight = F(weight)(w[0]);
    F(word) s0 = F(product)(a0, weight), s1 = F(product)(a1, weight);
    F(word) s2 = F(product)(a2, weight), s3 = F(product)(a3, weight);
    const int16_t *const *up = tap + 4, *const *down = tap - 1;
    for (int64_t left = radius; left > 0; left -= 4, w += 4, up += 4, down -= 4) {
#define STEP(I, A0, A1, A2, A3, B0, B1, B2, B3)        \
    A0 = F(load)(up[I] + at);                          \
    B3 = F(load)(down[-(I)] + at);                     \
    weight = F(weight)(w[(I) + 1]);                    \
    s0 += F(product)(A1 + B3, weight);       \
    s1 += F(product)(A2 + B0, weight);       \
    s2 += F(product)(A3 + B1, weight);       \
    s3 += F(product)(A0 + B2, weight);
        STEP(0, a0, a1, a2, a3, b0, b1, b2, b3)
        if (left == 1) break;
        STEP(1, a1, a2, a3, a0, b3, b0, b1, b2)
        if (left == 2) break;
        STEP(2, a2, a3, a0, a1, b2, b3, b0, b1)
        if (left == 3) break;
        STEP(3, a3, a0, a1, a2, b1, b2, b3, b0)
#undef STEP
    }
    sum[0] = s0, sum[1] = s1, sum[2] = s2, sum[3] = s3;
}

/* 4*WORDS pixels of a row to four rows of phases, `stride` words apart. */
static inline void F(spread_fixed)(const uint8_t *from, int16_t *to, int64_t stride) {
    const F(quad) pixels = *(const F(quad_any) *)from ^ 0x80808080u; /* p - 128, as a signed byte */
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
        const F(uword) high = __builtin_convertvector(p ? pixels >> (8 * p - 8) : pixels << 8, F(uword)) & 0xff00;
        F(store)(to + p * stride, (F(word))high >> 1);
    }
}

static inline void F(across_fixed)(const int16_t *const *tap, int64_t at, const int32_t *w, int64_t radius,
                                   int16_t *row) {
    F(word) sum[4];
    F(fold)(tap, at, w, radius, sum);
    for (int p = 0; p < 4; ++p) F(store)(row + p * WORDS, F(at_least_black)(sum[p]));
}

static inline void F(down_fixed)(const int16_t *const *tap, int64_t at, const int32_t *w, int64_t radius,
                                 uint8_t *const to[4]) {
    F(uword) level[4][4]; /* [row][phase]: p - 128, rounded */
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
        F(word) sum[4];
        F(fold)(tap, at + p * WORDS, w, radius, sum);
        for (int j = 0; j < 4; ++j) level[j][p] = (F(uword))((sum[j] + 64) >> 7);
    }
    for (int j = 0; j < 4; ++j) {
        const F(uword) low = (level[j][0] & 255) | (level[j][1] << 8), high = (level[j][2] & 255) | (level[j][3] << 8);
        const F(quad) pixels = __builtin_convertvector(low, F(quad)) | (__builtin_convertvector(high, F(quad)) << 16);
        *(F(quad_any) *)to[j] = pixels ^ 0x80808080u;
    }
}
