/* The symmetric separable filter of uint8 in 16-bit fixed point, for one instruction set: faster than float32 while the
 * window is small (docs/decisions/0034).
 *
 * A pixel p is 256 p, without sign; two that share a weight are averaged, and the weight of the two is in units of 2^-16.
 * The product of both, rounded down, is in units of 1/256 of a level again: the result of one axis is the input of the
 * other. What rounding down loses, half a unit a product, is put back in the end.
 * Four rows at a time are filtered down, straight from the image, and then along.
 */
#define FIXED_TILE 2048

#if MOST_LANES == 16
#define WORDS 32 /* of a vector */
typedef __m512i words;
static inline words read_words(const int16_t *from) { return _mm512_loadu_si512((const void *)from); }
static inline void write_words(int16_t *to, words value) { _mm512_storeu_si512((void *)to, value); }
static inline words all_words(int16_t value) { return _mm512_set1_epi16(value); }
static inline words all_pairs(int32_t value) { return _mm512_set1_epi32(value); }
static inline words add_words(words a, words b) { return _mm512_add_epi16(a, b); }
static inline words mean_words(words a, words b) { return _mm512_avg_epu16(a, b); }
static inline words product(words a, words b) { return _mm512_mulhi_epu16(a, b); }
static inline words read_pixels(const uint8_t *from) {
    return _mm512_slli_epi16(_mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)from)), 8);
}
static inline void write_pixels(uint8_t *to, words value) {
    _mm256_storeu_si256((void *)to, _mm512_cvtepi16_epi8(_mm512_srli_epi16(value, 8)));
}
#else
#define WORDS 16
typedef __m256i words;
static inline words read_words(const int16_t *from) { return _mm256_loadu_si256((const void *)from); }
static inline void write_words(int16_t *to, words value) { _mm256_storeu_si256((void *)to, value); }
static inline words all_words(int16_t value) { return _mm256_set1_epi16(value); }
static inline words all_pairs(int32_t value) { return _mm256_set1_epi32(value); }
static inline words add_words(words a, words b) { return _mm256_add_epi16(a, b); }
static inline words mean_words(words a, words b) { return _mm256_avg_epu16(a, b); }
static inline words product(words a, words b) { return _mm256_mulhi_epu16(a, b); }
static inline words read_pixels(const uint8_t *from) {
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)from)), 8);
}
static inline void write_pixels(uint8_t *to, words value) {
    const words level = _mm256_srli_epi16(value, 8);
    _mm_storeu_si128((void *)to, _mm_packus_epi16(_mm256_castsi256_si128(level), _mm256_extracti128_si256(level, 1)));
}
#endif

typedef struct {
    const uint8_t **rows; /* [t]: image row t */
    uint8_t *zeros;
    int16_t *lines; /* [4][stride]: rows filtered down, from column x0 - radius on */
    int32_t *weights;
    int64_t radius, first; /* that it is filled in for, or -1 */
    int64_t tile, stride;
} fixed_plan;

/* Units of 2^-16, of both taps at a distance, twice in a word; the centre takes what rounding left over, so that a constant stays constant. */
static void fixed_weights(const float *from, int64_t radius, int32_t *weights) {
    int64_t left = 1 << 16;
    for (int64_t i = radius; i >= 0; --i) {
        const int64_t wanted = i > 0 ? (int64_t)(from[i] * 131072.0f + 0.5f) : left;
        const int64_t weight = larger(0, smaller(smaller(wanted, left), UINT16_MAX));
        left -= weight;
        weights[i] = (int32_t)((uint32_t)weight * 0x10001u);
    }
}

static bool plan_fixed(fixed_plan *plan, arena from, const cs_images *images, int64_t radius) {
    plan->radius = radius, plan->first = -1;
    plan->tile = smaller(FIXED_TILE, images->width);
    plan->stride = round_up(plan->tile + 2 * radius, 32);
    plan->lines = arena_take(&from, 4 * plan->stride * 2);
    plan->zeros = arena_take(&from, images->width);
    plan->weights = arena_take(&from, (radius + 1) * 4);
    plan->rows = arena_take(&from, (images->height + 2 * radius + 4) * (int64_t)sizeof(uint8_t *));
    if (plan->rows == NULL) return false;
    plan->rows += radius;
    memset(plan->zeros, 0, (size_t)images->width);
    return true;
}

/* WORDS columns of four rows, from `rows[0]` on, to lines `stride` apart; compare `fold` of fir_lanes.h. */
static inline __attribute__((always_inline)) void fixed_down(const uint8_t *const *rows, int64_t x, const int32_t *w,
                                                             int64_t radius, int16_t *to, int64_t stride) {
    words a0 = read_pixels(rows[0] + x), a1 = read_pixels(rows[1] + x);
    words a2 = read_pixels(rows[2] + x), a3 = read_pixels(rows[3] + x);
    words b0 = a0, b1 = a1, b2 = a2, b3 = a3, weight = all_pairs(w[0]);
    words s0 = product(a0, weight), s1 = product(a1, weight), s2 = product(a2, weight), s3 = product(a3, weight);
    const uint8_t *const *up = rows + 4, *const *down = rows - 1;
    for (int64_t left = radius; left > 0; left -= 4, w += 4, up += 4, down -= 4) {
#define STEP(I, A0, A1, A2, A3, B0, B1, B2, B3)             \
    A0 = read_pixels(up[I] + x);                            \
    B3 = read_pixels(down[-(I)] + x);                       \
    weight = all_pairs(w[(I) + 1]);                         \
    s0 = add_words(s0, product(mean_words(A1, B3), weight)); \
    s1 = add_words(s1, product(mean_words(A2, B0), weight)); \
    s2 = add_words(s2, product(mean_words(A3, B1), weight)); \
    s3 = add_words(s3, product(mean_words(A0, B2), weight));
        STEP(0, a0, a1, a2, a3, b0, b1, b2, b3)
        if (left == 1) break;
        STEP(1, a1, a2, a3, a0, b3, b0, b1, b2)
        if (left == 2) break;
        STEP(2, a2, a3, a0, a1, b2, b3, b0, b1)
        if (left == 3) break;
        STEP(3, a3, a0, a1, a2, b1, b2, b3, b0)
#undef STEP
    }
    write_words(to, s0);
    write_words(to + stride, s1);
    write_words(to + 2 * stride, s2);
    write_words(to + 3 * stride, s3);
}

/* WORDS pixels of four rows, from lines `stride` apart. */
static inline __attribute__((always_inline)) void fixed_along(const int16_t *from, int64_t stride, const int32_t *w,
                                                              int64_t radius, words sum[4]) {
    const words rounding = all_words((int16_t)(128 + radius + 1)); /* half a level, half a unit for each product */
    words weight = all_pairs(w[0]);
#define EACH _Pragma("GCC unroll 4") for (int j = 0; j < 4; ++j)
    EACH sum[j] = add_words(rounding, product(read_words(from + j * stride), weight));
    for (int64_t i = 1; i <= radius; ++i) {
        weight = all_pairs(w[i]);
        EACH {
            const words both = mean_words(read_words(from + j * stride - i), read_words(from + j * stride + i));
            sum[j] = add_words(sum[j], product(both, weight));
        }
    }
#undef EACH
}

/* The columns outside of the image, from first to last-1, of the four lines of the tile at x0. */
static inline void fixed_borders(const fixed_plan *plan, const cs_images *images, int64_t x0, int64_t first, int64_t last) {
    const int64_t start = x0 - plan->radius;
    for (int64_t x = first; x < last; ++x) {
        const int64_t at = border_index(images->border, x, images->width);
        int16_t *line = plan->lines;
        for (int j = 0; j < 4; ++j, line += plan->stride) line[x - start] = at < 0 ? 0 : line[at - start];
    }
}

/* Columns x0 .. x0+count-1 of one plane, at least WORDS. The last vectors may do some columns again. */
static void fixed_tile(const fixed_plan *plan, const cs_images *images, const uint8_t *src, uint8_t *dst, int64_t x0,
                       int64_t count) {
    const int64_t radius = plan->radius, height = images->height, stride = plan->stride, start = x0 - radius;
    const int64_t left = larger(0, start), right = smaller(images->width, x0 + count + radius);
    const int64_t ahead = rows_ahead(count, 1);
    for (int64_t y = 0; y < height; y += 4) {
        const int64_t rows = smaller(4, height - y);
        for (int64_t j = 0; j < rows; ++j) {
            fetch((uintptr_t)(src + x0) + (uintptr_t)((y + j + radius + ahead) * images->src_row), count);
            fetch_to_write((uintptr_t)(dst + x0) + (uintptr_t)((y + j + ahead) * images->dst_row), count);
        }
        for (int64_t x = left; x < right; x += WORDS) {
            const int64_t at = smaller(x, right - WORDS);
            fixed_down(plan->rows + y, at, plan->weights, radius, plan->lines + at - start, stride);
        }
        fixed_borders(plan, images, x0, start, left);
        fixed_borders(plan, images, x0, right, x0 + count + radius);
        for (int64_t x = 0; x < count; x += WORDS) {
            const int64_t at = smaller(x, count - WORDS);
            words sum[4];
            fixed_along(plan->lines + radius + at, stride, plan->weights, radius, sum);
            for (int64_t j = 0; j < rows; ++j) write_pixels(dst + (y + j) * images->dst_row + x0 + at, sum[j]);
        }
    }
}

static void fixed_plane(const fixed_plan *plan, const cs_images *images, const uint8_t *src, uint8_t *dst) {
    const int64_t radius = plan->radius, height = images->height;
    for (int64_t y = 0; y < height; ++y) plan->rows[y] = src + y * images->src_row;
    for (int64_t t = -radius; t < height + radius + 4; t = t == -1 ? height : t + 1) {
        const int64_t y = border_index(images->border, t, height);
        plan->rows[t] = y < 0 ? plan->zeros : src + y * images->src_row;
    }
    for (int64_t x = 0; x < images->width; x += plan->tile) {
        const int64_t x0 = smaller(x, images->width - WORDS); /* a tile is at least a vector */
        fixed_tile(plan, images, src, dst, x0, smaller(plan->tile, images->width - x0));
    }
}

cs_filter_status KERNEL(fir_fixed)(const cs_images *images, const uint8_t *src, const cs_taps *taps, void *scratch,
                            int64_t scratch_bytes, uint8_t *dst) {
    fixed_plan plan = {.radius = -1};
    for (int64_t n = 0; n < images->planes; ++n) {
        if (taps->radius[n] != plan.radius &&
            !plan_fixed(&plan, arena_of(scratch, scratch_bytes), images, taps->radius[n]))
            return CS_FILTER_ERR_CAPACITY;
        if (taps->first[n] != plan.first)
            fixed_weights(taps->weights + taps->first[n], plan.radius, plan.weights), plan.first = taps->first[n];
        fixed_plane(&plan, images, src + images->src_plane[n], dst + images->dst_plane[n]);
    }
    return CS_FILTER_OK;
}
#undef WORDS
