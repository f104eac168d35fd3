/* The box filter of float32 for one instruction set: only additions, so that an infinity stays in its window and no
 * digits are lost to a difference.
 *
 * Down the plane, few rows are added up. Many are cut into blocks of 2*radius+1: a window is the end of one block, whose
 * sums from below are kept, and the beginning of the next, whose sum grows by a row at a time (van Herk, 1992, and Gil
 * and Werman, 1993, for maxima): three additions a pixel. Along a row, sums of four neighbours are added up.
 */
#define FEW_ROWS 7
#define FLOAT_ROWS_STAGED 4 /* kept to be streamed as one run */

#define LANES MOST_LANES

typedef struct {
    float *columns;          /* sums down the plane, with a border of `radius` */
    float *fours;            /* sums of four neighbours of these */
    float *from_below, *from_above; /* [2*radius+1][width] of this block, [width] of the next one */
    float *staged, *zeros;
    float *lines;            /* [FEW_ROWS][width]: image rows whose columns are apart, brought together; */
    int64_t *line_row;       /* [FEW_ROWS]: which ones */
    int64_t *map;
} float_box_plan;

static inline __attribute__((always_inline)) void add_rows_of(const float *const *rows, int side, int64_t width,
                                                              float *restrict sums) {
    for (int64_t x = 0; x < width; ++x) {
        float sum = rows[0][x];
#pragma GCC unroll 7
        for (int i = 1; i < side; ++i) sum += rows[i][x];
        sums[x] = sum;
    }
}

static void add_few_rows(const float *const *rows, int64_t side, int64_t width, float *sums) {
    if (side == 3) add_rows_of(rows, 3, width, sums);
    else if (side == 5) add_rows_of(rows, 5, width, sums);
    else add_rows_of(rows, FEW_ROWS, width, sums);
}

static void add_row(const float *restrict sums, const float *restrict row, int64_t width, float *restrict to) {
    for (int64_t x = 0; x < width; ++x) to[x] = sums[x] + row[x];
}

static void grow_and_add(float *restrict sums, const float *restrict row, const float *restrict others, int64_t width,
                         float *restrict to) {
    for (int64_t x = 0; x < width; ++x) {
        sums[x] += row[x];
        to[x] = others[x] + sums[x];
    }
}

/* Means along a row; columns and fours may be read MOST_LANES beyond their end. */
static inline __attribute__((always_inline)) void mean_along(const float *columns, const float *fours, int64_t quads,
                                                             int64_t singles, float scale, int64_t width, float *to) {
    for (int64_t x = 0; x < width; x += LANES) {
        V(vf) sum = V(load)(columns + x + 4 * quads);
        for (int64_t i = 1; i < singles; ++i) sum += V(load)(columns + x + 4 * quads + i);
        for (int64_t i = 0; i < quads; ++i) sum += V(load)(fours + x + 4 * i);
        sum *= scale;
        if (x + LANES <= width) V(store)(to + x, sum);
        else memcpy(to + x, &sum, (size_t)(width - x) * 4);
    }
}

static void float_box_row(const float_box_plan *plan, int64_t width, int64_t radius, float *to) {
    const int64_t side = 2 * radius + 1;
    const float scale = 1.0f / (float)(side * side);
    if (side == 3) mean_along(plan->columns, NULL, 0, 3, scale, width, to);
    else if (side == 5) mean_along(plan->columns, NULL, 0, 5, scale, width, to);
    else {
        for (int64_t x = 0; x < width + side - 4; x += LANES) {
            const float *at = plan->columns + x;
            V(store)(plan->fours + x, (V(load)(at) + V(load)(at + 1)) + (V(load)(at + 2) + V(load)(at + 3)));
        }
        if (side % 4 == 1) mean_along(plan->columns, plan->fours, side / 4, 1, scale, width, to);
        else mean_along(plan->columns, plan->fours, side / 4, 3, scale, width, to);
    }
}
#undef LANES

/* Image row y with its border down, as contiguous pixels; stays until FEW_ROWS others are asked for. */
static const float *float_box_source(const cs_images *images, const float *src, int64_t y, const float_box_plan *plan) {
    const int64_t at = border_index(images->border, y, images->height);
    if (at < 0) return plan->zeros;
    if (images->src_column == 1) return src + at * images->src_row;
    const int64_t slot = at % FEW_ROWS, width = images->width;
    float *line = plan->lines + slot * width;
    if (plan->line_row[slot] != at)
        read_line_f32(src + at * images->src_row, images->src_column, width, 0, width, NULL, line);
    plan->line_row[slot] = at;
    return line;
}

/* Sums of the windows of row y down the plane. */
static void float_box_columns(const cs_images *images, const float_box_plan *plan, const float *src, int64_t y,
                              int64_t radius) {
    const int64_t side = 2 * radius + 1, width = images->width, j = y % side;
    float *sums = plan->columns + radius;
    const float *next = float_box_source(images, src, y + radius, plan);
    fetch((uintptr_t)(src + y * images->src_row) + (uintptr_t)((radius + rows_ahead(width, 4)) * images->src_row * 4), width * 4);
    if (side <= FEW_ROWS) {
        const float *rows[FEW_ROWS];
        for (int64_t i = 0; i < side; ++i) rows[i] = float_box_source(images, src, y - radius + i, plan);
        add_few_rows(rows, side, width, sums);
    } else if (j > 0) {
        grow_and_add(plan->from_above, next, plan->from_below + j * width, width, sums);
    } else {
        float *last = plan->from_below + (side - 1) * width;
        memcpy(last, next, (size_t)width * 4);
        for (int64_t i = side - 2; i >= 0; --i, last -= width)
            add_row(last, float_box_source(images, src, y - radius + i, plan), width, last - width);
        memcpy(sums, last, (size_t)width * 4);
        memset(plan->from_above, 0, (size_t)width * 4);
    }
}

static void float_box_plane(const cs_images *images, const float_box_plan *plan, const float *src, int64_t radius,
                            float *dst, bool stream) {
    const int64_t height = images->height, width = images->width;
    const bool run = stream && images->dst_row == width, direct = !stream && images->dst_column == 1;
    for (int64_t i = 0; i < FEW_ROWS; ++i) plan->line_row[i] = -1;
    for (int64_t y = 0; y < height; ++y) {
        float_box_columns(images, plan, src, y, radius);
        for (int64_t i = 0; i < 2 * radius; ++i) {
            const int64_t from = plan->map[i];
            plan->columns[i < radius ? i : width + i] = from < 0 ? 0 : plan->columns[radius + from];
        }
        const int64_t staged = run ? y % FLOAT_ROWS_STAGED : 0;
        float *row = dst + y * images->dst_row, *line = direct ? row : plan->staged + staged * width;
        float_box_row(plan, width, radius, line);
        if (stream && (!run || staged + 1 == FLOAT_ROWS_STAGED || y + 1 == height))
            stream_bytes((unsigned char *)(row - staged * images->dst_row), (const unsigned char *)plan->staged,
                         (staged + 1) * width * 4);
        else if (!stream && !direct) write_line_f32(line, width, row, images->dst_column);
    }
}

cs_filter_status KERNEL(box_f32)(const cs_images *images, const float *src, int64_t radius, void *scratch,
                          int64_t scratch_bytes, float *dst) {
    const int64_t width = images->width, bordered = width + 2 * radius + MOST_LANES;
    arena from = arena_of(scratch, scratch_bytes);
    float_box_plan plan;
    plan.columns = arena_take(&from, bordered * 4);
    plan.fours = arena_take(&from, bordered * 4);
    plan.from_below = arena_take(&from, (2 * radius + 1) * width * 4);
    plan.from_above = arena_take(&from, width * 4);
    plan.staged = arena_take(&from, FLOAT_ROWS_STAGED * width * 4);
    plan.zeros = arena_take(&from, width * 4);
    plan.lines = arena_take(&from, FEW_ROWS * width * 4);
    plan.line_row = arena_take(&from, FEW_ROWS * 8);
    plan.map = arena_take(&from, 2 * radius * 8);
    if (plan.map == NULL) return CS_FILTER_ERR_CAPACITY;
    memset(plan.zeros, 0, (size_t)width * 4);
    memset(plan.columns, 0, (size_t)bordered * 4);
    memset(plan.fours, 0, (size_t)bordered * 4);
    for (int64_t i = 0; i < radius; ++i) {
        plan.map[i] = border_index(images->border, i - radius, width);
        plan.map[radius + i] = border_index(images->border, width + i, width);
    }
    const bool stream = images->dst_column == 1 && images->planes * images->height * width * 4 >= STREAM_BYTES;
    for (int64_t n = 0; n < images->planes; ++n)
        float_box_plane(images, &plan, src + images->src_plane[n], radius, dst + images->dst_plane[n], stream);
    if (stream) stream_end();
    return CS_FILTER_OK;
}
