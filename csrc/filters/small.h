/* The symmetric filter of small uint8 planes in float32, for one instruction set (docs/decisions/0036).
 *
 * LANES columns at a time are filtered down and turned, so that the filter along the rows is the same filter down. The
 * plane in between stays in the first-level cache, and no step starts over at the end of a short row.
 */
#define LANES MOST_LANES
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

typedef struct {
    float *strip;  /* [height][LANES]: columns of the image */
    float *turned; /* [columns][stride]: the plane after the filter down */
    const float **down, **along; /* [t]: row t of the strip; column t of `turned` */
    uint8_t *packed; /* [height][columns]: the plane, where it cannot be read in place */
    float *zeros;
    int64_t rows, columns, stride; /* rows, columns: of the image, up to whole vectors */
    int64_t radius;                /* that the tables are filled for */
} small_plan;

static bool plan_small(small_plan *plan, arena from, const cs_images *images, int64_t radius) {
    const int64_t height = images->height, width = images->width;
    plan->radius = radius, plan->rows = round_up(height, LANES), plan->columns = round_up(width, LANES);
    plan->stride = plan->rows + LANES; /* columns of equal height would start in the same cache banks */
    const int64_t longest = larger(plan->rows, plan->columns) + 2 * radius + 4;
    plan->strip = arena_take(&from, height * LANES * 4);
    plan->turned = arena_take(&from, plan->columns * plan->stride * 4);
    plan->zeros = arena_take(&from, plan->stride * 4);
    plan->packed = arena_take(&from, height * plan->columns);
    plan->down = arena_take(&from, longest * (int64_t)sizeof(float *));
    plan->along = arena_take(&from, longest * (int64_t)sizeof(float *));
    if (plan->along == NULL) return false;
    plan->down += radius, plan->along += radius;
    memset(plan->zeros, 0, (size_t)plan->stride * 4);
    memset(plan->packed, 0, (size_t)(height * plan->columns));
    for (int64_t t = -radius; t < plan->rows + radius; ++t) {
        const int64_t y = border_index(images->border, t, height);
        plan->down[t] = y < 0 ? plan->zeros : plan->strip + y * LANES;
    }
    for (int64_t t = -radius; t < round_up(width, 4) + radius; ++t) {
        const int64_t x = border_index(images->border, t, width);
        plan->along[t] = x < 0 ? plan->zeros : plan->turned + x * plan->stride;
    }
    return true;
}

/* Down all columns of the plane at `src`, to `turned`. */
static void small_down(const small_plan *plan, const cs_images *images, const uint8_t *src, const float *weights) {
    const int64_t height = images->height, width = images->width;
    const bool in_place = images->src_column == 1 && width >= LANES;
    const uint8_t *from = in_place ? src : plan->packed;
    const int64_t row = in_place ? images->src_row : plan->columns, right = in_place ? width : plan->columns;
    for (int64_t y = 0; y < height && !in_place; ++y)
        read_line_u8(src + y * images->src_row, images->src_column, width, 0, width, NULL, plan->packed + y * row);
    for (int64_t x = 0; x < right; x += LANES) {
        const int64_t at = smaller(x, right - LANES); /* the last strip may do some columns again */
        for (int64_t y = 0; y < height; ++y) V(store)(plan->strip + y * LANES, column_u8(from + y * row + at));
        for (int64_t y = 0; y < plan->rows; y += LANES) {
            V(vf) block[LANES];
#pragma GCC unroll 1
            for (int64_t i = 0; i < LANES; i += 4) V(fold)(plan->down + y + i, 0, weights, plan->radius, block + i);
            transpose(block);
            for (int64_t i = 0; i < LANES; ++i) V(store)(plan->turned + (at + i) * plan->stride + y, block[i]);
        }
    }
}

/* Along all rows, from `turned` to the plane at `dst`. A block of words that are turned back has the rows of `share`
 * strips of rows side by side, where the image is too narrow to fill it. */
static void small_along(const small_plan *plan, const cs_images *images, uint8_t *dst, const float *weights) {
    const int64_t height = images->height, width = images->width;
    const int64_t share = width <= LANES ? 4 : width <= 2 * LANES ? 2 : 1, words = LANES / share;
    for (int64_t y = 0; y < height; y += share * LANES)
        for (int64_t x = 0; x < width; x += 4 * LANES) {
            const int64_t count = smaller(4 * words, width - x);
            V(vf) block[LANES];
            V(vf) *next = block;
            for (int64_t strip = y; strip < y + share * LANES; strip += LANES)
                for (int64_t from = x; from < x + 4 * words; from += 4) {
                    V(vf) column[4] = {{0}};
                    if (from < width && strip < height)
                        V(fold)(plan->along + from, strip, weights, plan->radius, column);
                    *next++ = pack_columns(column);
                }
            transpose(block);
            for (int64_t i = 0; i < smaller(LANES, height - y); ++i) {
                uint8_t bytes[4 * LANES];
                memcpy(bytes, block + i, sizeof bytes);
                for (int64_t j = 0; j < share && y + j * LANES + i < height; ++j) {
                    uint8_t *to = dst + (y + j * LANES + i) * images->dst_row + x * images->dst_column;
                    if (images->dst_column == 1) copy_bytes(bytes + j * 4 * words, count, to);
                    else write_line_u8(bytes + j * 4 * words, count, to, images->dst_column);
                }
            }
        }
}

cs_filter_status KERNEL(fir_small)(const cs_images *images, const uint8_t *src, const cs_taps *taps, void *scratch,
                            int64_t scratch_bytes, uint8_t *dst) {
    small_plan plan = {.radius = -1};
    for (int64_t n = 0; n < images->planes; ++n) {
        if (taps->radius[n] != plan.radius &&
            !plan_small(&plan, arena_of(scratch, scratch_bytes), images, taps->radius[n]))
            return CS_FILTER_ERR_CAPACITY;
        small_down(&plan, images, src + images->src_plane[n], taps->weights + taps->first[n]);
        small_along(&plan, images, dst + images->dst_plane[n], taps->weights + taps->first[n]);
    }
    return CS_FILTER_OK;
}
#undef LANES
