/* LANES columns of sliding sums, from SOURCE; included once per source type with SOURCE and S(name). */

/* The sums at y = 0 and y = -1, tap by tap. rows[t] is image row t - radius - 1. */
static inline __attribute__((always_inline)) void S(slide_start)(const void *const *rows, int64_t x,
                                                                 const cs_waves *waves, slide_state *state) {
    const int64_t radius = waves->radius, steps = radius + 2;
    state->mean = V(all)(0);
#pragma GCC unroll 8
    for (int k = 0; k < CS_WAVES; ++k) state->now[k] = state->before[k] = V(all)(0);
    for (int64_t u = -radius - 1; u <= radius; ++u) {
        const V(vf) value = S(column)((const SOURCE *)rows[u + radius + 1] + x);
        const int64_t now = u < 0 ? -u : u, before = u + 1 < 0 ? -u - 1 : u + 1;
        if (u >= -radius) state->mean += value;
#pragma GCC unroll 8
        for (int k = 0; k < CS_WAVES; ++k) {
            if (u >= -radius) state->now[k] += value * waves->cosine[k * steps + now];
            if (u < radius) state->before[k] += value * waves->cosine[k * steps + before];
        }
    }
    state->mean *= waves->mean_weight;
#pragma GCC unroll 8
    for (int k = 0; k < CS_WAVES; ++k) state->now[k] *= waves->weight[k], state->before[k] *= waves->weight[k];
    state->d_before = S(column)((const SOURCE *)rows[2 * radius + 1] + x) - S(column)((const SOURCE *)rows[0] + x);
}

/* x(next) - x(last) of LANES columns. */
static inline V(vf) S(slide_difference)(const void *next, const void *last, int64_t x) {
#if defined(__AVX512F__)
    if (sizeof(SOURCE) == 1) { /* integers are subtracted before they are converted, once */
        const __m512i from = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)((const uint8_t *)next + x)));
        const __m512i less = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)((const uint8_t *)last + x)));
        return (V(vf))_mm512_cvtepi32_ps(_mm512_sub_epi32(from, less));
    }
#endif
    return S(column)((const SOURCE *)next + x) - S(column)((const SOURCE *)last + x);
}

/* One result, and on to the next row; d = x(y + radius + 1) - x(y - radius). */
static inline __attribute__((always_inline)) V(vf) S(slide_step)(slide_state *state, V(vf) d, const slide_factors *by) {
    const V(vf) result = (state->mean + state->now[0]) + (state->now[1] + state->now[2]), input = d - state->d_before;
    state->mean += d * by->mean_weight;
#pragma GCC unroll 8
    for (int k = 0; k < CS_WAVES; ++k) {
        const V(vf) after = state->now[k] * by->twice_cosine[k] + (input * by->weight[k] - state->before[k]);
        state->before[k] = state->now[k];
        state->now[k] = after;
    }
    state->d_before = d;
    return result;
}

/* `count` results, a constant, of the columns x .. x+LANES-1 from row y on. */
static inline __attribute__((always_inline)) void S(slide_steps)(const void *const *rows, int64_t x, int64_t y, int count,
                                                                 int64_t radius, const slide_factors *by,
                                                                 slide_state *state, V(vf) *result) {
    const void *const *next = rows + 2 * radius + 2 + y, *const *last = rows + 1 + y;
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) result[i] = S(slide_step)(state, S(slide_difference)(next[i], last[i], x), by);
}
