/* Sliding sums down and along the tiles of a plane; included once per pixel type with PIXEL and P(name). */

/* LANES pixels of one row; the kernel may overshoot black and white. */
static inline void P(slide_write)(V(vf) value, int64_t count, PIXEL *to) {
    PIXEL line[LANES];
    if (sizeof(PIXEL) == 4) {
        if (count == LANES) V(store)((float *)(void *)to, value);
        else memcpy(to, &value, (size_t)count * 4);
        return;
    }
#if MOST_LANES == 16
    const __m512i level = _mm512_cvtps_epi32(_mm512_max_ps((__m512)value, _mm512_setzero_ps()));
    _mm_storeu_si128((void *)line, _mm512_cvtusepi32_epi8(level));
#else
    for (int i = 0; i < LANES; ++i)
        line[i] = (PIXEL)(value[i] < 0 ? 0 : value[i] > 255 ? 255 : value[i] + 0.5f);
#endif
    if (count == LANES) memcpy(to, line, sizeof line);
    else memcpy(to, line, (size_t)count * sizeof(PIXEL));
}

/* Rows y0 .. y0+height-1 and columns x0 .. x0+width-1 of one plane, both at least LANES. */
static inline __attribute__((always_inline)) void P(slide_tile)(const slide_plan *plan, const cs_images *images,
                                                                const PIXEL *src, PIXEL *dst, int64_t y0,
                                                                int64_t height, int64_t x0, int64_t width,
                                                                const cs_waves *waves) {
    const int64_t radius = waves->radius;
    const int64_t left = larger(0, x0 - radius - 1), right = smaller(images->width, x0 + width + radius + 1);
    for (int64_t t = 0; t < round_up(height, LANES) + 2 * radius + 2; ++t) {
        const int64_t y = border_index(images->border, y0 + t - radius - 1, images->height);
        plan->rows[t] = y < 0 ? plan->zeros : (const void *)(src + y * images->src_row);
    }
    for (int64_t y = y0; y < y0 + height; ++y)
        fetch((uintptr_t)(src + y * images->src_row + left), (right - left) * (int64_t)sizeof(PIXEL));
    slide_state state;
    V(vf) turned[LANES];
    for (int64_t x = left; x < right; x += LANES) {
        const int64_t at = smaller(x, right - LANES); /* the last strip may do some columns again */
        float *to = plan->turned + (at - left) * plan->stride;
        P(slide_start)(plan->rows, at, waves, &state);
        for (int64_t y = 0; y < height; y += LANES) {
            P(slide_block)(plan->rows, at, y, waves, &state, turned);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) V(store)(to + i * plan->stride + y, turned[i]);
        }
    }
    for (int64_t y = y0; y < y0 + height; ++y)
        fetch_to_write((uintptr_t)(dst + y * images->dst_row + x0), width * (int64_t)sizeof(PIXEL));
    for (int64_t t = 0; t < round_up(width, LANES) + 2 * radius + 2; ++t) {
        const int64_t x = border_index(images->border, x0 + t - radius - 1, images->width);
        plan->rows[t] = x < left || x >= right ? plan->zeros : (const void *)(plan->turned + (x - left) * plan->stride);
    }
    for (int64_t y = 0; y < height; y += LANES) {
        const int64_t at = smaller(y, height - LANES);
        PIXEL *to = dst + (y0 + at) * images->dst_row + x0;
        slide_start_f32(plan->rows, at, waves, &state);
        for (int64_t x = 0; x < width; x += LANES) {
            slide_block_f32(plan->rows, at, x, waves, &state, turned);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i)
                P(slide_write)(turned[i], smaller(LANES, width - x), to + i * images->dst_row + x);
        }
    }
}

cs_status KERNEL(P(slide))(const cs_images *images, const PIXEL *src, const cs_waves *waves, void *scratch,
                           int64_t scratch_bytes, PIXEL *dst) {
    const int64_t radius = waves->radius, height = images->height, width = images->width;
    const int64_t rows = smaller(SLIDE_ROWS, height), columns = smaller(SLIDE_COLUMNS, width);
    arena from = arena_of(scratch, scratch_bytes);
    slide_plan plan = {.stride = round_up(rows, LANES) + LANES};
    plan.turned = arena_take(&from, (columns + 2 * radius + 2 + LANES) * plan.stride * 4);
    plan.rows = arena_take(&from, (larger(SLIDE_ROWS, SLIDE_COLUMNS) + LANES + 2 * radius + 2) * 8);
    const int64_t zero_bytes = larger(width * (int64_t)sizeof(PIXEL), plan.stride * 4) + 64;
    plan.zeros = arena_take(&from, zero_bytes);
    if (plan.zeros == NULL) return CS_ERR_CAPACITY;
    memset(plan.zeros, 0, (size_t)zero_bytes);
    for (int64_t n = 0; n < images->planes; ++n)
        for (int64_t y = 0; y < height; y += SLIDE_ROWS)
            for (int64_t x = 0; x < width; x += SLIDE_COLUMNS) {
                const int64_t y0 = larger(0, smaller(y, height - LANES)), x0 = larger(0, smaller(x, width - LANES));
                const PIXEL *plane = src + images->src_plane[n];
                PIXEL *to = dst + images->dst_plane[n];
                const int64_t tall = smaller(SLIDE_ROWS, height - y0), wide = smaller(SLIDE_COLUMNS, width - x0);
                P(slide_tile)(&plan, images, plane, to, y0, tall, x0, wide, waves);
            }
    return CS_OK;
}
