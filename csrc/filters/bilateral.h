/* The bilateral filter in float32, for one instruction set: any pixel type, one or three channels, both distances.
 *
 * Source rows are kept with their borders, times sqrt(log2(e) / 2) / sigma_range, in a ring of 2*radius+1 rows. Then a
 * weight is 2 to the power of (a constant of the tap) - (difference)^2, and the power is a polynomial: a table look-up
 * per lane would be slower.
 */
#define LOG2_E 1.44269504f
#define ROOT_HALF_LOG2_E 0.849321800f

#define LANES MOST_LANES
#define CHAINS 4
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

#if MOST_LANES < 16
static inline V(vf) at_least(V(vf) value, V(vf) least) {
#if MOST_LANES == 8
    return (V(vf))_mm256_max_ps((__m256)value, (__m256)least);
#elif defined(__SSE2__)
    return (V(vf))_mm_max_ps((__m128)value, (__m128)least);
#else
    const V(vi) above = value > least;
    return (V(vf))((above & (V(vi))value) | (~above & (V(vi))least));
#endif
}
#endif

#define EACH _Pragma("GCC unroll 8") for (int i = 0; i < CHAINS; ++i)

/* t = 2^t for t <= 0, relative error 3e-6; CHAINS vectors side by side. The fraction's power is the best polynomial fit of
 * degree 4 (in [0, 1)) or 5 (in [-1/2, 1/2], 2e-7) by reweighted least squares (docs/decisions/0033). */
static inline __attribute__((always_inline)) void exp2_of(V(vf) t[CHAINS]) {
    V(vf) whole[CHAINS], power[CHAINS];
#if MOST_LANES == 16 /* has instructions for t - floor(t) and for power * 2^floor(t) */
    EACH whole[i] = t[i];
    EACH t[i] = (V(vf))_mm512_reduce_ps((__m512)t[i], 1);
    EACH power[i] = t[i] * 0.013534167781472206f + 0.05201146379113197f;
    EACH power[i] = power[i] * t[i] + 0.2414427548646927f;
    EACH power[i] = power[i] * t[i] + 0.6930038332939148f;
    EACH power[i] = power[i] * t[i] + 1.0000026226043701f;
    EACH t[i] = (V(vf))_mm512_scalef_ps((__m512)power[i], (__m512)whole[i]);
#else /* down to 2^-126, below which it stays there */
    const float magic = 0x1.8p23f; /* adding it leaves round(t) in the low bits */
    EACH t[i] = at_least(t[i], V(all)(-126.0f));
    EACH whole[i] = t[i] + magic;
    EACH t[i] -= whole[i] - magic;
    EACH power[i] = t[i] * 0.001327647129073739f + 0.009675541892647743f;
    EACH power[i] = power[i] * t[i] + 0.05550713092088699f;
    EACH power[i] = power[i] * t[i] + 0.24022120237350464f;
    EACH power[i] = power[i] * t[i] + 0.6931469440460205f;
    EACH power[i] = power[i] * t[i] + 1.0000001192092896f;
    EACH t[i] = (V(vf))((V(vi))power[i] + ((V(vi))whole[i] << 23));
#endif
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
    plan->taps = round_up(window_taps(radius), 2);
    plan->slots = smaller(2 * radius + 1, images->height);
    plan->line_stride = round_up(images->width + 2 * radius + 4 * LANES, 16) + 16;
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
    for (; k < plan->taps; ++k) plan->power[k] = -126.0f; /* a tap too many, at the centre, weighs nothing */
    memset(plan->ring, 0, (size_t)((plan->slots + 1) * plan->row_stride) * 4);
    fill_border_map(images->border, -radius, images->width + 2 * radius, images->width, plan->map);
    return true;
}

/* 2*LANES pixels of one row, all channels, two taps at a time: four independent chains, for one alone would leave the
 * processor waiting. `channels` and `distance` are constants where this is inlined. */
static inline __attribute__((always_inline)) void bilateral_pixels(const bilateral_plan *plan, const float *here,
                                                                   int64_t x, int64_t channels, int32_t distance,
                                                                   float unscale) {
    V(vf) centre[3][2], sum[3][2] = {{{0}}}, weights[2] = {{0}};
    for (int64_t c = 0; c < channels; ++c)
        for (int v = 0; v < 2; ++v) centre[c][v] = V(load)(here + c * plan->line_stride + x + v * LANES);
    for (int64_t k = 0; k < plan->taps; k += 2) {
        const float *at[2] = {plan->near[k] + x, plan->near[k + 1] + x};
        V(vf) pixel[3][CHAINS], t[CHAINS], total[CHAINS];
        EACH t[i] = V(all)(plan->power[k + i / 2]);
#pragma GCC unroll 3
        for (int64_t c = 0; c < channels; ++c) {
            EACH pixel[c][i] = V(load)(at[i / 2] + c * plan->line_stride + i % 2 * LANES);
            EACH {
                const V(vf) apart = pixel[c][i] - centre[c][i % 2];
                if (distance == CS_DISTANCE_L2 || channels == 1) t[i] -= apart * apart;
                else if (c == 0) total[i] = (V(vf))((V(vi))apart & 0x7fffffff);
                else total[i] += (V(vf))((V(vi))apart & 0x7fffffff);
            }
        }
        if (distance == CS_DISTANCE_L1 && channels > 1) EACH t[i] -= total[i] * total[i];
        exp2_of(t);
        EACH weights[i % 2] += t[i];
        for (int64_t c = 0; c < channels; ++c) EACH sum[c][i % 2] += t[i] * pixel[c][i];
    }
    for (int64_t c = 0; c < channels; ++c)
        for (int v = 0; v < 2; ++v)
            V(store)(plan->out + c * plan->line_stride + x + v * LANES, sum[c][v] / weights[v] * unscale);
}

static void bilateral_row(const bilateral_plan *plan, const float *here, int64_t width, const cs_bilateral *how,
                          float unscale) {
    for (int64_t x = 0; x < width; x += 2 * LANES) {
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
