/* Sliding sums down and along the tiles of a plane; included once per pixel type with PIXEL and P(name). */

/* Rows y .. y+LANES-1 of a tile down, to `turned`; `columns` is at least LANES. LANES rows from `ahead` on are asked for
 * on the way. */
static inline __attribute__((always_inline)) void P(slide_down)(const slide_plan *plan, int64_t left, int64_t columns,
                                                                int64_t y, const cs_waves *waves, uintptr_t ahead,
                                                                int64_t row_bytes) {
    const int64_t blocks = round_up(columns, LANES) / LANES;
    const slide_factors by = factors_of(waves);
    slide_state *states = plan->states;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t at = smaller(b * LANES, columns - LANES); /* the last block may do some columns again */
        for (int64_t j = b * LANES / blocks; j < (b + 1) * LANES / blocks; ++j)
            fetch(ahead + (uintptr_t)(j * row_bytes), columns * (int64_t)sizeof(PIXEL));
        slide_state state = *states;
        V(vf) block[LANES];
        P(slide_steps)(plan->down, left + at, y, LANES, waves->radius, &by, &state, block);
        *states++ = state;
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) V(store)(plan->turned + (at + i) * LANES, block[i]);
    }
}

/* `rows` rows of a tile along, from `turned`. Bytes are packed before they are turned back. The rows that
 * the next call will write are asked for on the way. */
static inline __attribute__((always_inline)) void P(slide_along)(const slide_plan *plan, const cs_images *images,
                                                                 PIXEL *to, int64_t rows, int64_t width,
                                                                 const cs_waves *waves) {
    enum { IN_LANE = 4 / sizeof(PIXEL) }; /* pixels in a lane */
    const slide_factors by = factors_of(waves);
    const int64_t row_bytes = images->dst_row * (int64_t)sizeof(PIXEL), row_length = width * (int64_t)sizeof(PIXEL);
    const int64_t chunk = LANES * IN_LANE, chunks = round_up(width, chunk) / chunk;
    for (int64_t c = 0; c < chunks;) {
        slide_state state;
        slide_start_f32(plan->along + c * chunk, 0, waves, &state);
        for (const int64_t end = smaller(chunks, c + SLIDE_STEPS / chunk); c < end; ++c) {
            const int64_t x = c * chunk;
            for (int64_t j = LANES + c * LANES / chunks; j < LANES + (c + 1) * LANES / chunks; ++j)
                fetch_to_write((uintptr_t)to + (uintptr_t)(j * row_bytes), row_length);
            V(vf) block[LANES];
            if (sizeof(PIXEL) == 4) slide_steps_f32(plan->along, 0, x, LANES, waves->radius, &by, &state, block);
            else for (int i = 0; i < LANES; ++i) {
                V(vf) column[4] = {{0}};
                if (x + 4 * i < width) slide_steps_f32(plan->along, 0, x + 4 * i, 4, waves->radius, &by, &state, column);
                block[i] = pack_columns(column); /* the kernel may overshoot black and white */
            }
            transpose(block);
            const int64_t bytes = smaller(chunk, width - x) * (int64_t)sizeof(PIXEL);
            for (int64_t i = 0; i < rows; ++i) copy_bytes(block + i, bytes, to + i * images->dst_row + x);
        }
    }
}

/* Rows y0 .. y0+height-1 and columns x0 .. x0+width-1 of one plane, the width at least LANES. */
static inline __attribute__((always_inline)) void P(slide_tile)(const slide_plan *plan, const cs_images *images,
                                                                const PIXEL *src, PIXEL *dst, int64_t y0,
                                                                int64_t height, int64_t x0, int64_t width,
                                                                const cs_waves *waves) {
    const int64_t radius = waves->radius;
    const int64_t left = larger(0, x0 - radius - 1), right = smaller(images->width, x0 + width + radius + 1);
    for (int64_t t = 0; t < round_up(height, LANES) + 2 * radius + 2; ++t) {
        const int64_t y = border_index(images->border, y0 + t - radius - 1, images->height);
        plan->down[t] = y < 0 ? plan->zeros : (const void *)(src + y * images->src_row);
    }
    for (int64_t t = 0; t < round_up(width, LANES) + 2 * radius + 2; ++t) {
        const int64_t x = border_index(images->border, x0 + t - radius - 1, images->width);
        plan->along[t] = x < left || x >= right ? plan->zeros : (const void *)(plan->turned + (x - left) * LANES);
    }
    const int64_t row_bytes = images->src_row * (int64_t)sizeof(PIXEL);
    slide_state *states = plan->states;
    for (int64_t x = left; x < right; x += LANES) {
        slide_state state;
        P(slide_start)(plan->down, smaller(x, right - LANES), waves, &state);
        *states++ = state;
    }
    for (int64_t y = 0; y < height; y += LANES) {
        const uintptr_t ahead = (uintptr_t)(src + left) + (uintptr_t)((y0 + y + LANES + radius + 1) * row_bytes);
        P(slide_down)(plan, left, right - left, y, waves, ahead, row_bytes);
        P(slide_along)(plan, images, dst + (y0 + y) * images->dst_row + x0, smaller(LANES, height - y), width, waves);
    }
}

cs_filter_status KERNEL(P(slide))(const cs_images *images, const PIXEL *src, const cs_waves *waves, void *scratch,
                           int64_t scratch_bytes, PIXEL *dst) {
    const int64_t radius = waves->radius, height = images->height, width = images->width;
    const int64_t columns = smaller(SLIDE_COLUMNS, width);
    const int64_t most = round_up(columns + 2 * radius + 2, LANES);
    arena from = arena_of(scratch, scratch_bytes);
    slide_plan plan;
    plan.turned = arena_take(&from, most * LANES * 4);
    plan.states = arena_take(&from, most / LANES * (int64_t)sizeof(slide_state));
    plan.down = arena_take(&from, (SLIDE_ROWS + LANES + 2 * radius + 2) * 8);
    plan.along = arena_take(&from, (SLIDE_COLUMNS + LANES + 2 * radius + 2) * 8);
    const int64_t zero_bytes = width * (int64_t)sizeof(PIXEL) + LANES * 4;
    plan.zeros = arena_take(&from, zero_bytes);
    if (plan.zeros == NULL) return CS_FILTER_ERR_CAPACITY;
    memset(plan.zeros, 0, (size_t)zero_bytes);
    for (int64_t n = 0; n < images->planes; ++n)
        for (int64_t y = 0; y < height; y += SLIDE_ROWS)
            for (int64_t x = 0; x < width; x += SLIDE_COLUMNS) {
                const int64_t x0 = smaller(x, width - LANES);
                const PIXEL *plane = src + images->src_plane[n];
                PIXEL *to = dst + images->dst_plane[n];
                P(slide_tile)(&plan, images, plane, to, y, smaller(SLIDE_ROWS, height - y), x0,
                              smaller(SLIDE_COLUMNS, width - x0), waves);
            }
    return CS_FILTER_OK;
}
