/* The bilateral filter of whole planes; included once per pixel type with PIXEL, P(name) and TO_PIXEL. */

static void P(read_scaled)(const bilateral_plan *plan, const cs_images *images, const PIXEL *row, float scale,
                           int64_t radius, float *to) {
    PIXEL *line = (PIXEL *)(void *)plan->line;
    const int64_t count = images->width + 2 * radius;
    P(read_line)(row, images->src_column, images->width, -radius, count, plan->map, line);
    for (int64_t i = 0; i < count; ++i) to[i] = (float)line[i] * scale;
}

cs_filter_status KERNEL(P(bilateral))(const cs_images *images, const PIXEL *src, const cs_bilateral *how, void *scratch,
                               int64_t scratch_bytes, PIXEL *dst) {
    bilateral_plan plan;
    if (!plan_bilateral(&plan, arena_of(scratch, scratch_bytes), images, how)) return CS_FILTER_ERR_CAPACITY;
    const int64_t radius = how->radius, height = images->height, width = images->width;
    const float scale = ROOT_HALF_LOG2_E / how->sigma_range;
    for (int64_t n = 0; n < images->planes; ++n) {
        int64_t ready = 0;
        for (int64_t y = 0; y < height; ++y) {
            for (; ready < smaller(height, y + radius + 1); ++ready)
                for (int64_t c = 0; c < how->channels; ++c)
                    P(read_scaled)(&plan, images,
                                   src + images->src_plane[n] + c * how->src_channel + ready * images->src_row, scale,
                                   radius, plan.ring + ready % plan.slots * plan.row_stride + c * plan.line_stride);
            for (int64_t t = -radius; t <= radius; ++t) {
                const int64_t at = border_index(images->border, y + t, height);
                plan.rows[t + radius] = plan.ring + (at < 0 ? plan.slots : at % plan.slots) * plan.row_stride;
            }
            int64_t k = 0;
            for (int64_t dy = -radius; dy <= radius; ++dy)
                for (int64_t dx = -radius; dx <= radius; ++dx)
                    if (dy * dy + dx * dx <= radius * radius) plan.near[k++] = plan.rows[dy + radius] + radius + dx;
            for (; k < plan.taps; ++k) plan.near[k] = plan.rows[radius] + radius;
            bilateral_row(&plan, plan.rows[radius] + radius, width, how, how->sigma_range / ROOT_HALF_LOG2_E);
            for (int64_t c = 0; c < how->channels; ++c) {
                PIXEL *to = dst + images->dst_plane[n] + c * how->dst_channel + y * images->dst_row;
                const float *from = plan.out + c * plan.line_stride;
                for (int64_t x = 0; x < width; ++x) to[x * images->dst_column] = TO_PIXEL(from[x]);
            }
        }
    }
    return CS_FILTER_OK;
}
