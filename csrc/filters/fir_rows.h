/* Symmetric separable filter of one plane; included once per pixel type with PIXEL and P(name).
 *
 * The plane is cut into column tiles. Down a tile, each source row is read once, split into phases, filtered across and
 * kept as floats in a ring of 2*radius+4 rows small enough for the first-level cache; four output rows at a time are
 * then filtered down from the ring.
 */

typedef struct {
    float *ring, *phases;
    const float **rows, **taps; /* [t]: ring row of image row t - radius; phase row of column t - radius */
    int64_t *map;
    PIXEL *line, *stage, *packed;
    bool stream;
    int64_t slots, row_stride, phase_stride, pad, tile;
} P(fir_plan);

/* Cut the scratch memory; the largest possible radius of this call decides. */
static bool P(plan)(P(fir_plan) *plan, arena from, int64_t height, int64_t width, int64_t radius) {
    plan->slots = smaller(2 * radius + 4, height);
    plan->pad = round_up(radius, 4);
    plan->tile = fir_tile(width, plan->slots);
    plan->row_stride = plan->tile + ROW_SKEW;
    plan->phase_stride = round_up((plan->tile + 2 * plan->pad) / 4 + LINE_SLACK, 16);
    plan->ring = arena_take(&from, (plan->slots + 1) * plan->row_stride * 4);
    plan->phases = arena_take(&from, 4 * plan->phase_stride * 4);
    plan->rows = arena_take(&from, (height + 2 * radius + 4) * (int64_t)sizeof(float *));
    plan->taps = arena_take(&from, (2 * radius + 4) * (int64_t)sizeof(float *));
    plan->map = arena_take(&from, (plan->tile + 2 * plan->pad) * 8);
    plan->line = arena_take(&from, 4 * plan->phase_stride * (int64_t)sizeof(PIXEL));
    plan->stage = arena_take(&from, 4 * plan->tile * (int64_t)sizeof(PIXEL));
    plan->packed = arena_take(&from, 4 * plan->tile * (int64_t)sizeof(PIXEL));
    return plan->packed != NULL;
}

/* One source row, from column x0 - pad on, to four rows of phases. */
static void P(read_phases)(const P(fir_plan) *plan, const PIXEL *row, int64_t step, int64_t width, int64_t x0,
                           int64_t count) {
    const int64_t first = x0 - plan->pad, length = count + 2 * plan->pad;
    const PIXEL *line = plan->line;
    if (step == 1 && first >= 0 && first + round_up(length, MOST_BLOCK) <= width) line = row + first;
    else P(read_line)(row, step, width, first, length, plan->map, plan->line);
    for (int64_t at = 0; at < length;) {
        const int64_t block = block_of(length - at);
        BY_BLOCK(block, P(spread), line + at, plan->phases + at / 4, plan->phase_stride);
        at += block;
    }
}

/* Up to four staged rows to the result; rows that follow each other in memory are streamed as one run. */
static void P(write_rows)(const P(fir_plan) *plan, const cs_images *images, PIXEL *dst, int64_t rows, int64_t count) {
    if (plan->stream && images->dst_row == count) {
        for (int64_t j = 0; j < rows; ++j)
            memcpy(plan->packed + j * count, plan->stage + j * plan->tile, (size_t)count * sizeof(PIXEL));
        stream_bytes((unsigned char *)dst, (const unsigned char *)plan->packed, rows * count * (int64_t)sizeof(PIXEL));
        return;
    }
    for (int64_t j = 0; j < rows; ++j) {
        const PIXEL *line = plan->stage + j * plan->tile;
        PIXEL *to = dst + j * images->dst_row;
        if (plan->stream) stream_bytes((unsigned char *)to, (const unsigned char *)line, count * (int64_t)sizeof(PIXEL));
        else P(write_line)(line, count, to, images->dst_column);
    }
}

/* Columns x0 .. x0+count-1 of one plane. */
static void P(fir_tile_of)(const P(fir_plan) *plan, const cs_images *images, const PIXEL *src, PIXEL *dst, int64_t x0,
                           int64_t count, const float *weights, int64_t radius) {
    const int64_t height = images->height, width = images->width;
    const float *zeros = plan->ring + plan->slots * plan->row_stride;
    for (int64_t t = -radius; t < height + radius + 4; ++t) {
        const int64_t y = border_index(images->border, t, height);
        plan->rows[t + radius] = y < 0 ? zeros : plan->ring + y % plan->slots * plan->row_stride;
    }
    for (int64_t t = -radius; t < radius + 4; ++t)
        plan->taps[t + radius] = plan->phases + (t & 3) * plan->phase_stride + (t >> 2) + plan->pad / 4;
    fill_border_map(images->border, x0 - plan->pad, count + 2 * plan->pad, width, plan->map);

    const int64_t ahead = rows_ahead(count, sizeof(PIXEL)) * images->src_row * (int64_t)sizeof(PIXEL);
    int64_t ready = 0;
    for (int64_t y = 0; y < height; y += 4) {
        for (; ready < smaller(height, y + 4 + radius); ++ready) {
            const PIXEL *source = src + ready * images->src_row;
            fetch((uintptr_t)(source + x0) + (uintptr_t)ahead, count * (int64_t)sizeof(PIXEL));
            P(read_phases)(plan, source, images->src_column, width, x0, count);
            float *row = plan->ring + ready % plan->slots * plan->row_stride;
            for (int64_t x = 0; x < count;) {
                const int64_t block = block_of(count - x);
                BY_BLOCK(block, across, plan->taps + radius, x / 4, weights, radius, row + x);
                x += block;
            }
        }
        const bool direct = !plan->stream && y + 4 <= height && images->dst_column == 1;
        for (int64_t x = 0; x < count;) {
            const int64_t block = block_of(count - x);
            const bool whole = direct && x + block <= count;
            PIXEL *to[4];
            for (int64_t j = 0; j < 4; ++j)
                to[j] = whole ? dst + (y + j) * images->dst_row + x0 + x : plan->stage + j * plan->tile + x;
            BY_BLOCK(block, P(down), plan->rows + y + radius, x, weights, radius, to);
            for (int64_t j = 0; direct && !whole && j < 4; ++j)
                memcpy(dst + (y + j) * images->dst_row + x0 + x, to[j], (size_t)(count - x) * sizeof(PIXEL));
            x += block;
        }
        if (!direct) P(write_rows)(plan, images, dst + y * images->dst_row + x0 * images->dst_column, smaller(4, height - y), count);
    }
}

cs_status KERNEL(P(fir))(const cs_images *images, const PIXEL *src, const cs_taps *taps, void *scratch,
                      int64_t scratch_bytes, PIXEL *dst) {
    const bool stream = images->dst_column == 1 && images->planes * images->height * images->width *
                                                       (int64_t)sizeof(PIXEL) >= STREAM_BYTES;
    for (int64_t n = 0; n < images->planes; ++n) {
        const int64_t radius = taps->radius[n];
        P(fir_plan) plan;
        if (!P(plan)(&plan, arena_of(scratch, scratch_bytes), images->height, images->width, radius))
            return CS_ERR_CAPACITY;
        plan.stream = stream;
        memset(plan.ring + plan.slots * plan.row_stride, 0, (size_t)plan.row_stride * 4);
        for (int64_t x0 = 0; x0 < images->width; x0 += plan.tile)
            P(fir_tile_of)(&plan, images, src + images->src_plane[n], dst + images->dst_plane[n], x0,
                           smaller(plan.tile, images->width - x0), taps->weights + taps->first[n], radius);
    }
    if (stream) stream_end();
    return CS_OK;
}
