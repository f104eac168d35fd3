/* The bilateral filter in float32, for one instruction set: any pixel type, one or three channels, both distances.
 *
 * Source rows are kept with their borders, times sqrt(log2(e) / 2) / sigma_range, in a ring of 2*radius+1 rows. Then a
 * weight is 2 to the power of (a constant of the tap) - (difference)^2, and the power is a polynomial: a table look-up
 * per lane would be slower.
 */
#define LOG2_E 1.44269504f
#define ROOT_HALF_LOG2_E 0.849321800f

#define LANES MOST_LANES
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

static inline V(vf) at_least(V(vf) value, V(vf) least) {
#if MOST_LANES == 16
    return (V(vf))_mm512_max_ps((__m512)value, (__m512)least);
#elif MOST_LANES == 8
    return (V(vf))_mm256_max_ps((__m256)value, (__m256)least);
#elif defined(__SSE2__)
    return (V(vf))_mm_max_ps((__m128)value, (__m128)least);
#else
    const V(vi) above = value > least;
    return (V(vf))((above & (V(vi))value) | (~above & (V(vi))least));
#endif
}

/* 2^t for t <= 0, relative error 2e-7 down to 2^-126, below which it stays there.
 * The polynomial is the minimax fit of degree 5 of 2^f for |f| <= 1/2, found by reweighted least squares (docs/decisions/0033). */
static inline V(vf) exp2_of(V(vf) t) {
    const float magic = 0x1.8p23f; /* adding it leaves round(t) in the low bits */
    t = at_least(t, V(all)(-126.0f));
    const V(vf) whole = t + magic, f = t - (whole - magic);
    V(vf) power = f * 0.001327647129073739f + 0.009675541892647743f;
    power = power * f + 0.05550713092088699f;
    power = power * f + 0.24022120237350464f;
    power = power * f + 0.6931469440460205f;
    power = power * f + 1.0000001192092896f;
    return (V(vf))((V(vi))power + ((V(vi))whole << 23));
}

typedef struct {
    float *ring, *out;
    const float **rows, **near; /* [t]: ring row of image row y - radius + t; [k]: where tap k of the pixel (y, 0) is */
    float *power;               /* [k]: log2 of the spatial weight of tap k */
    int64_t *map;
    unsigned char *line;
    int64_t slots, line_stride, row_stride, taps;
} bilateral_plan;

static int64_t window_taps(int64_t radius) {
    int64_t taps = 0;
    for (int64_t dy = -radius; dy <= radius; ++dy)
        for (int64_t dx = -radius; dx <= radius; ++dx) taps += dy * dy + dx * dx <= radius * radius;
    return taps;
}

static bool plan_bilateral(bilateral_plan *plan, arena from, const cs_images *images, const cs_bilateral *how) {
    const int64_t radius = how->radius;
    plan->taps = window_taps(radius);
    plan->slots = smaller(2 * radius + 1, images->height);
    plan->line_stride = round_up(images->width + 2 * radius + 2 * LANES, 16) + 16;
    plan->row_stride = plan->line_stride * how->channels;
    plan->ring = arena_take(&from, (plan->slots + 1) * plan->row_stride * 4);
    plan->out = arena_take(&from, plan->row_stride * 4);
    plan->rows = arena_take(&from, (2 * radius + 1) * (int64_t)sizeof(float *));
    plan->near = arena_take(&from, plan->taps * (int64_t)sizeof(float *));
    plan->power = arena_take(&from, plan->taps * 4);
    plan->map = arena_take(&from, (images->width + 2 * radius) * 8);
    plan->line = arena_take(&from, plan->line_stride * 4);
    if (plan->line == NULL) return false;
    const float per_square = -0.5f * LOG2_E / (how->sigma_space * how->sigma_space);
    int64_t k = 0;
    for (int64_t dy = -radius; dy <= radius; ++dy)
        for (int64_t dx = -radius; dx <= radius; ++dx)
            if (dy * dy + dx * dx <= radius * radius) plan->power[k++] = (float)(dy * dy + dx * dx) * per_square;
    memset(plan->ring, 0, (size_t)((plan->slots + 1) * plan->row_stride) * 4);
    fill_border_map(images->border, -radius, images->width + 2 * radius, images->width, plan->map);
    return true;
}

/* LANES pixels of one row, all channels. `channels` and `distance` are constants where this is inlined. */
static inline __attribute__((always_inline)) void bilateral_pixels(const bilateral_plan *plan, const float *here,
                                                                   int64_t x, int64_t channels, int32_t distance,
                                                                   float unscale) {
    V(vf) centre[3], sum[3] = {{0}, {0}, {0}}, weights = {0};
    for (int64_t c = 0; c < channels; ++c) centre[c] = V(load)(here + c * plan->line_stride + x);
    for (int64_t k = 0; k < plan->taps; ++k) {
        const float *at = plan->near[k] + x;
        V(vf) pixel[3], t = V(all)(plan->power[k]), total = {0};
        for (int64_t c = 0; c < channels; ++c) {
            pixel[c] = V(load)(at + c * plan->line_stride);
            const V(vf) apart = pixel[c] - centre[c];
            if (distance == CS_DISTANCE_L2 || channels == 1) t -= apart * apart;
            else total += (V(vf))((V(vi))apart & 0x7fffffff);
        }
        if (distance == CS_DISTANCE_L1 && channels > 1) t -= total * total;
        const V(vf) weight = exp2_of(t);
        weights += weight;
        for (int64_t c = 0; c < channels; ++c) sum[c] += weight * pixel[c];
    }
    for (int64_t c = 0; c < channels; ++c)
        V(store)(plan->out + c * plan->line_stride + x, sum[c] / weights * unscale);
}

static void bilateral_row(const bilateral_plan *plan, const float *here, int64_t width, const cs_bilateral *how,
                          float unscale) {
    for (int64_t x = 0; x < width; x += LANES) {
        if (how->channels == 1) bilateral_pixels(plan, here, x, 1, CS_DISTANCE_L2, unscale);
        else if (how->distance == CS_DISTANCE_L1) bilateral_pixels(plan, here, x, 3, CS_DISTANCE_L1, unscale);
        else bilateral_pixels(plan, here, x, 3, CS_DISTANCE_L2, unscale);
    }
}

#define PIXEL uint8_t
#define P(name) name##_u8
#define TO_PIXEL(value) ((uint8_t)((value) + 0.5f))
#include "bilateral_rows.h"
#undef TO_PIXEL
#undef PIXEL
#undef P

#define PIXEL float
#define P(name) name##_f32
#define TO_PIXEL(value) (value)
#include "bilateral_rows.h"
#undef TO_PIXEL
#undef PIXEL
#undef P
#undef LANES
