/* The box filter of uint8 in integers, exact, for one instruction set. Plain loops: the compiler vectorises them.
 *
 * Column sums of 2*radius+1 rows go down the plane: one row comes in, one goes out. Along a row, a small window is added
 * up; a large one follows from the one before it, by a running sum within each vector.
 */
#define BOX_STAGED 8 /* rows kept to be streamed as one run */

typedef struct {
    uint16_t *columns;                /* sums of the radius at most 7, with a border of `radius` */
    uint32_t *wide;                   /* the same above, with a zero before the first */
    int32_t *sums;                    /* of the windows of a row */
    uint8_t *in, *out, *staged, *zeros; /* rows: coming in, going out; results */
    int64_t *map;
} box_plan;

#define SMALL_BOX 7 /* (2 * 7 + 1)^2 * 255 < 2^16 */

/* Mean of the windows of one row by 16-bit sums: (sum + area / 2) / area as a multiplication, exact for all sums of a
 * radius up to SMALL_BOX (tested exhaustively). `radius` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void box_row(const uint16_t *columns, int64_t width, int radius,
                                                          uint8_t *to) {
    const uint32_t area = (uint32_t)((2 * radius + 1) * (2 * radius + 1));
    const int shift = 31 - __builtin_clz(area);
    const uint16_t reciprocal = (uint16_t)(((1u << (16 + shift)) + area - 1) / area);
    for (int64_t x = 0; x < width; ++x) {
        uint16_t sum = (uint16_t)(area / 2);
#pragma GCC unroll 15
        for (int i = 0; i <= 2 * radius; ++i) sum = (uint16_t)(sum + columns[x + i]);
        to[x] = (uint8_t)((uint16_t)(((uint32_t)sum * reciprocal) >> 16) >> shift);
    }
}

static void small_box_row(const uint16_t *columns, int64_t width, int64_t radius, uint8_t *to) {
    switch (radius) {
        case 1: box_row(columns, width, 1, to); break;
        case 2: box_row(columns, width, 2, to); break;
        case 3: box_row(columns, width, 3, to); break;
        case 4: box_row(columns, width, 4, to); break;
        case 5: box_row(columns, width, 5, to); break;
        case 6: box_row(columns, width, 6, to); break;
        default: box_row(columns, width, SMALL_BOX, to); break;
    }
}

#define LANES MOST_LANES

/* Lane i gets the sum of lanes 0 .. i: log2 LANES additions of the vector, moved up with zeros from below. */
static inline V(vi) V(running_sum)(V(vi) value) {
    const V(vi) none = {0};
#if LANES == 4
    value += SHUFFLE2(none, value, 0, 4, 5, 6);
    return value + SHUFFLE2(none, value, 0, 1, 4, 5);
#elif LANES == 8
    value += SHUFFLE2(none, value, 0, 8, 9, 10, 11, 12, 13, 14);
    value += SHUFFLE2(none, value, 0, 1, 8, 9, 10, 11, 12, 13);
    return value + SHUFFLE2(none, value, 0, 1, 2, 3, 8, 9, 10, 11);
#else
    value += SHUFFLE2(none, value, 0, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30);
    value += SHUFFLE2(none, value, 0, 1, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29);
    value += SHUFFLE2(none, value, 0, 1, 2, 3, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27);
    return value + SHUFFLE2(none, value, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
#endif
}

/* Each window is the one before, plus the column that comes in, minus the one that goes out. */
static void large_box_row(const uint32_t *columns, int32_t *restrict sum_of, int64_t width, int64_t radius,
                          uint8_t *restrict to) {
    const int64_t side = 2 * radius + 1;
    const float reciprocal = 1.0f / (float)(side * side);
    int32_t sum = 0;
    for (int64_t i = 0; i < side - 1; ++i) sum += (int32_t)columns[i];
    /* The first window has nothing to lose: columns[-1] is zero. */
    V(vi) last = sum - (V(vi)){0};
    for (int64_t x = 0; x < width; x += LANES) {
        const V(vi) in = (V(vi))*(const V(vu_any) *)(columns + x + side - 1);
        const V(vi) out = (V(vi))*(const V(vu_any) *)(columns + x - 1);
        const V(vi) sums = last + V(running_sum)(in - out);
        last = sums[LANES - 1] - (V(vi)){0};
        *(V(vu_any) *)(sum_of + x) = (V(vu))sums;
    }
    for (int64_t x = 0; x < width; ++x) to[x] = (uint8_t)((float)sum_of[x] * reciprocal + 0.5f);
}
#undef LANES

/* Image row y with its border down, as contiguous pixels: in place if it can be, else copied to `line`. */
static const uint8_t *box_source(const cs_images *images, const uint8_t *src, int64_t y, const box_plan *plan,
                                 uint8_t *line) {
    const int64_t at = border_index(images->border, y, images->height);
    if (at < 0) return plan->zeros;
    if (images->src_column == 1) return src + at * images->src_row;
    read_line_u8(src + at * images->src_row, images->src_column, images->width, 0, images->width, NULL, line);
    return line;
}

static void add_row_u16(uint16_t *restrict sums, const uint8_t *in, const uint8_t *out, int64_t width) {
    for (int64_t x = 0; x < width; ++x) sums[x] = (uint16_t)(sums[x] + in[x] - out[x]);
}

static void add_row_u32(uint32_t *restrict sums, const uint8_t *in, const uint8_t *out, int64_t width) {
    for (int64_t x = 0; x < width; ++x) sums[x] = sums[x] + in[x] - out[x];
}

static void box_plane(const cs_images *images, const box_plan *plan, const uint8_t *src, int64_t radius, uint8_t *dst,
                      bool stream) {
    const int64_t height = images->height, width = images->width;
    const bool small = radius <= SMALL_BOX, run = stream && images->dst_row == width;
    memset(plan->columns, 0, (size_t)(width + 2 * radius) * 2);
    if (!small) memset(plan->wide, 0, (size_t)(width + 2 * radius) * 4);
    for (int64_t y = -2 * radius; y < height; ++y) { /* the first 2*radius rows only come in */
        const uint8_t *in = box_source(images, src, y + radius, plan, plan->in);
        const uint8_t *out = y > 0 ? box_source(images, src, y - radius - 1, plan, plan->out) : plan->zeros;
        if (small) add_row_u16(plan->columns + radius, in, out, width);
        else add_row_u32(plan->wide + radius, in, out, width);
        if (y < 0) continue;
        for (int64_t i = 0; i < 2 * radius; ++i) {
            const int64_t to = i < radius ? i : width + i, from = plan->map[i];
            if (small) plan->columns[to] = from < 0 ? 0 : plan->columns[radius + from];
            else plan->wide[to] = from < 0 ? 0 : plan->wide[radius + from];
        }
        uint8_t *row = dst + y * images->dst_row;
        uint8_t *line = stream ? plan->staged + (run ? y % BOX_STAGED * width : 0)
                        : images->dst_column == 1 ? row
                                                  : plan->staged;
        if (small) small_box_row(plan->columns, width, radius, line);
        else large_box_row(plan->wide, plan->sums, width, radius, line);
        if (run) {
            const int64_t staged = y % BOX_STAGED + 1;
            if (staged == BOX_STAGED || y + 1 == height)
                stream_bytes(dst + (y + 1 - staged) * width, plan->staged, staged * width);
        } else if (stream) stream_bytes(row, line, width);
        else if (line != row) write_line_u8(line, width, row, images->dst_column);
    }
}

cs_filter_status KERNEL(box_u8)(const cs_images *images, const uint8_t *src, int64_t radius, void *scratch,
                         int64_t scratch_bytes, uint8_t *dst) {
    const int64_t width = images->width, bordered = width + 2 * radius;
    arena from = arena_of(scratch, scratch_bytes);
    box_plan plan;
    plan.columns = arena_take(&from, bordered * 2);
    plan.wide = arena_take(&from, (1 + bordered + MOST_LANES) * 4);
    plan.sums = arena_take(&from, (width + MOST_LANES) * 4);
    plan.in = arena_take(&from, width);
    plan.out = arena_take(&from, width);
    plan.zeros = arena_take(&from, width);
    plan.staged = arena_take(&from, BOX_STAGED * width);
    plan.map = arena_take(&from, 2 * radius * 8);
    if (plan.map == NULL) return CS_FILTER_ERR_CAPACITY;
    memset(plan.zeros, 0, (size_t)width);
    memset(plan.wide, 0, (size_t)(1 + bordered + MOST_LANES) * 4);
    ++plan.wide;
    for (int64_t i = 0; i < radius; ++i) {
        plan.map[i] = border_index(images->border, i - radius, width);
        plan.map[radius + i] = border_index(images->border, width + i, width);
    }
    const bool stream = images->dst_column == 1 && images->planes * images->height * width >= STREAM_BYTES;
    for (int64_t n = 0; n < images->planes; ++n)
        box_plane(images, &plan, src + images->src_plane[n], radius, dst + images->dst_plane[n], stream);
    if (stream) stream_end();
    return CS_FILTER_OK;
}
