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
    state->d_before = S(column)((const SOURCE *)rows[2 * radius + 1] + x) - S(column)((const SOURCE *)rows[0] + x);
}

/* One result, and on to the next row; `next` is x(y + radius + 1), `last` x(y - radius). */
static inline __attribute__((always_inline)) V(vf) S(slide_step)(slide_state *state, V(vf) next, V(vf) last,
                                                                 const cs_waves *waves) {
    V(vf) result = state->mean * waves->mean_weight;
    const V(vf) d = next - last, input = d - state->d_before;
    state->mean += d;
#pragma GCC unroll 8
    for (int k = 0; k < CS_WAVES; ++k) {
        result += state->now[k] * waves->weight[k];
        const V(vf) after = state->now[k] * waves->twice_cosine[k] +
                            (input - state->before[k]);
        state->before[k] = state->now[k];
        state->now[k] = after;
    }
    state->d_before = d;
    return result;
}

/* LANES results of the columns x .. x+LANES-1 from row y on, turned: turned[i] has those of column i. */
static inline __attribute__((always_inline)) void S(slide_block)(const void *const *rows, int64_t x, int64_t y,
                                                                 const cs_waves *waves, slide_state *state, V(vf) turned[LANES]) {
    const void *const *next = rows + 2 * waves->radius + 2 + y, *const *last = rows + 1 + y;
    float block[LANES * LANES] __attribute__((aligned(64)));
#pragma GCC unroll 4
    for (int i = 0; i < LANES; ++i)
        V(store)(block + i * LANES,
                 S(slide_step)(state, S(column)((const SOURCE *)next[i] + x), S(column)((const SOURCE *)last[i] + x), waves));
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) turned[i] = V(load)(block + i * LANES);
    transpose(turned);
}
