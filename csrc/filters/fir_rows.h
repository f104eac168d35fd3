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
    int64_t slots, row_stride, phase_stride, pad, tile, together;
    int64_t radius, x0; /* that the tables are filled for; x0 is -1 before that */
} P(fir_plan);

/* Cut the scratch memory; the largest possible radius of this call decides. */
static bool P(plan)(P(fir_plan) *plan, arena from, int64_t height, int64_t width, int64_t radius) {
    plan->radius = radius, plan->x0 = -1;
    plan->slots = smaller(2 * radius + 4, height);
    plan->pad = round_up(radius, 4);
    plan->tile = fir_tile(width, plan->slots);
    plan->row_stride = plan->tile + ROW_SKEW;
    plan->phase_stride = round_up((plan->tile + 2 * plan->pad) / 4 + LINE_SLACK, 16);
    const int64_t bytes = plan->tile * (int64_t)sizeof(PIXEL);
    plan->together = bytes <= 64 ? ROWS_READ : bytes <= 256 ? ROWS_READ / 2 : 1;
    plan->ring = arena_take(&from, (plan->slots + 1) * plan->row_stride * 4);
    plan->phases = arena_take(&from, ROWS_READ * 4 * plan->phase_stride * 4);
    plan->rows = arena_take(&from, (height + 2 * radius + 4) * (int64_t)sizeof(float *));
    plan->taps = arena_take(&from, (2 * radius + 4) * (int64_t)sizeof(float *));
    plan->map = arena_take(&from, (plan->tile + 2 * plan->pad) * 8);
    plan->line = arena_take(&from, ROWS_READ * 4 * plan->phase_stride * (int64_t)sizeof(PIXEL));
    plan->stage = arena_take(&from, 4 * plan->tile * (int64_t)sizeof(PIXEL));
    plan->packed = arena_take(&from, 4 * plan->tile * (int64_t)sizeof(PIXEL));
    if (plan->packed == NULL) return false;
    memset(plan->ring + plan->slots * plan->row_stride, 0, (size_t)plan->row_stride * 4);
    return true;
}

/* The pointers and the border map of the tile at x0. */
static void P(fill_tables)(P(fir_plan) *plan, const cs_images *images, int64_t x0, int64_t count) {
    const int64_t radius = plan->radius, height = images->height;
    const float **rows = plan->rows + radius;
    for (int64_t y = 0, slot = 0; y < height; ++y, slot = slot + 1 == plan->slots ? 0 : slot + 1)
        rows[y] = plan->ring + slot * plan->row_stride;
    for (int64_t t = -radius; t < height + radius + 4; t = t == -1 ? height : t + 1) {
        const int64_t y = border_index(images->border, t, height);
        rows[t] = y < 0 ? plan->ring + plan->slots * plan->row_stride : rows[y];
    }
    for (int64_t t = -radius; t < radius + 4; ++t)
        plan->taps[t + radius] = plan->phases + (t & 3) * plan->phase_stride + (t >> 2) + plan->pad / 4;
    fill_border_map(images->border, x0 - plan->pad, count + 2 * plan->pad, images->width, plan->map);
    plan->x0 = x0;
}

/* Image rows first .. first+rows-1, at most ROWS_READ, from column x0 on, filtered across into the ring. Each step is
 * taken for all rows before the next one, since what has just been stored in pieces is slow to load at once; long rows do
 * not notice. */
static void P(read_rows)(const P(fir_plan) *plan, const cs_images *images, const PIXEL *src, int64_t first, int64_t rows,
                         int64_t count, const float *weights) {
    const int64_t left = plan->x0 - plan->pad, length = count + 2 * plan->pad, step = images->src_column;
    const int64_t ahead = rows_ahead(count, sizeof(PIXEL)) * images->src_row * (int64_t)sizeof(PIXEL);
    const bool in_place = step == 1 && left >= 0 && left + round_up(length, MOST_BLOCK) <= images->width;
    const PIXEL *lines[ROWS_READ];
    for (int64_t j = 0; j < rows; ++j) {
        const PIXEL *row = src + (first + j) * images->src_row;
        fetch((uintptr_t)(row + plan->x0) + (uintptr_t)ahead, count * (int64_t)sizeof(PIXEL));
        PIXEL *line = plan->line + j * 4 * plan->phase_stride;
        lines[j] = in_place ? row + left : line;
        if (!in_place) P(read_line)(row, step, images->width, left, length, plan->map, line);
    }
    for (int64_t j = 0; j < rows; ++j)
        for (int64_t at = 0; at < length;) {
            const int64_t block = block_of(length - at);
            BY_BLOCK(block, P(spread), lines[j] + at, plan->phases + j * 4 * plan->phase_stride + at / 4,
                     plan->phase_stride);
            at += block;
        }
    for (int64_t j = 0; j < rows; ++j) {
        float *row = plan->ring + (plan->rows[plan->radius + first + j] - plan->ring);
        for (int64_t x = 0; x < count;) {
            const int64_t block = block_of(count - x);
            BY_BLOCK(block, across, plan->taps + plan->radius, j * 4 * plan->phase_stride + x / 4, weights,
                     plan->radius, row + x);
            x += block;
        }
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
static void P(fir_tile_of)(P(fir_plan) *plan, const cs_images *images, const PIXEL *src, PIXEL *dst, int64_t x0,
                           int64_t count, const float *weights) {
    const int64_t height = images->height, radius = plan->radius;
    if (plan->x0 != x0) P(fill_tables)(plan, images, x0, count);
    const int64_t ahead = rows_ahead(count, sizeof(PIXEL)) * images->dst_row * (int64_t)sizeof(PIXEL);
    int64_t ready = 0;
    for (int64_t y = 0; y < height; y += 4) {
        for (const int64_t needed = smaller(height, y + 4 + radius); ready < needed;) {
            const int64_t rows = smaller(plan->together, needed - ready);
            P(read_rows)(plan, images, src, ready, rows, count, weights);
            ready += rows;
        }
        const bool direct = !plan->stream && y + 4 <= height && images->dst_column == 1;
        for (int64_t j = 0; direct && j < 4; ++j)
            fetch_to_write((uintptr_t)(dst + (y + j) * images->dst_row + x0) + (uintptr_t)ahead,
                           count * (int64_t)sizeof(PIXEL));
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

cs_filter_status KERNEL(P(fir))(const cs_images *images, const PIXEL *src, const cs_taps *taps, void *scratch,
                      int64_t scratch_bytes, PIXEL *dst) {
    const bool stream = images->dst_column == 1 && images->planes * images->height * images->width *
                                                       (int64_t)sizeof(PIXEL) >= STREAM_BYTES;
    P(fir_plan) plan = {.radius = -1};
    for (int64_t n = 0; n < images->planes; ++n) {
        if (taps->radius[n] != plan.radius &&
            !P(plan)(&plan, arena_of(scratch, scratch_bytes), images->height, images->width, taps->radius[n]))
            return CS_FILTER_ERR_CAPACITY;
        plan.stream = stream;
        for (int64_t x0 = 0; x0 < images->width; x0 += plan.tile)
            P(fir_tile_of)(&plan, images, src + images->src_plane[n], dst + images->dst_plane[n], x0,
                           smaller(plan.tile, images->width - x0), taps->weights + taps->first[n]);
    }
    if (stream) stream_end();
    return CS_FILTER_OK;
}
