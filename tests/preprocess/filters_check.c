/* Every filter on buffers of exactly the promised size, for sanitizers: shapes, borders, strides, instruction sets.
 * A constant image must stay constant (but for constant borders), and refusals must be refusals. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/filters.h"

static int failures;

static void expect(int holds, const char *what, int64_t a, int64_t b, int64_t c) {
    if (holds) return;
    ++failures;
    printf("failed: %s (%lld, %lld, %lld)\n", what, (long long)a, (long long)b, (long long)c);
}

/* 3 planes; `step` 1 is planar, 3 channels-last. */
static void check(int64_t height, int64_t width, int64_t radius, int32_t border, int64_t step, int32_t isa) {
    const int64_t pixels = height * width, apart = step == 1 ? pixels : 1;
    const int64_t plane[3] = {0, apart, 2 * apart}, first[3] = {0, 0, 0}, radii[3] = {radius, radius, radius / 2};
    cs_images images = {3, height, width, plane, plane, width * step, step, width * step, step, border, isa};
    const size_t count = (size_t)(3 * pixels);
    uint8_t *bytes = malloc(count), *byte_result = malloc(count);
    float *floats = malloc(count * 4), *float_result = malloc(count * 4);
    for (size_t i = 0; i < count; ++i) bytes[i] = 77, floats[i] = 77.0f;
    float *weights = malloc((size_t)(radius + 1) * 4);
    for (int64_t i = 0; i <= radius; ++i) weights[i] = 1.0f / (float)(2 * radius + 1);
    const int64_t equal[3] = {radius, radius, radius};
    cs_taps taps = {weights, first, equal};
#define RUN(NAME, SUFFIX, SOURCE, RESULT, SCRATCH, ...)                                                     \
    do {                                                                                                    \
        const int64_t bytes_ = (SCRATCH);                                                                    \
        void *scratch = malloc((size_t)bytes_);                                                             \
        memset(RESULT, 0, count * sizeof *(RESULT));                                                        \
        const cs_filter_status status = cs_##NAME##_##SUFFIX(&images, SOURCE, __VA_ARGS__, scratch, bytes_, RESULT); \
        expect(status == CS_FILTER_OK, #NAME "_" #SUFFIX " status", height, width, radius);                        \
        for (size_t i = 0; i < count && border != CS_BORDER_CONSTANT; ++i)                                  \
            if ((RESULT)[i] < 76.999f || (RESULT)[i] > 77.001f) {                                           \
                expect(0, #NAME "_" #SUFFIX " constant", height, width, radius);                            \
                break;                                                                                      \
            }                                                                                               \
        free(scratch);                                                                                      \
    } while (0)
    const int64_t fir = cs_fir_scratch_bytes(height, width, radius);
    RUN(fir, u8, bytes, byte_result, fir, &taps);
    RUN(fir, f32, floats, float_result, fir, &taps);
    if (isa >= CS_ISA_AVX2 && step == 1 && width >= CS_LEAST_FIXED_WIDTH && radius <= CS_LARGEST_FIXED)
        RUN(fir_fixed, u8, bytes, byte_result, cs_fir_fixed_scratch_bytes(height, width, radius), &taps);
    taps.radius = radii; /* now the third kernel does not sum to 1 */
    void *scratch = malloc((size_t)fir);
    expect(cs_fir_u8(&images, bytes, &taps, scratch, fir, byte_result) == CS_FILTER_OK, "own radii", height, width, radius);
    free(scratch);
    if (radius >= 1) RUN(box, u8, bytes, byte_result, cs_box_scratch_bytes(width, radius), radius);
    if (radius >= 1 && radius <= CS_LARGEST_FLOAT_BOX)
        RUN(box, f32, floats, float_result, cs_float_box_scratch_bytes(width, radius), radius);
    if (radius >= 1 && step == 1 && height >= 16 && width >= 16) {
        float *cosine = calloc((size_t)(CS_WAVES * (radius + 2)), 4);
        cs_waves waves = {.radius = radius, .mean_weight = 1.0f / (float)(2 * radius + 1), .cosine = cosine};
        RUN(slide, u8, bytes, byte_result, cs_slide_scratch_bytes(width, radius), &waves);
        RUN(slide, f32, floats, float_result, cs_slide_scratch_bytes(width, radius), &waves);
        free(cosine);
    }
    if (radius <= 6) {
        cs_bilateral how = {.channels = 3, .src_channel = apart, .dst_channel = apart, .radius = radius,
                            .sigma_space = 2, .sigma_range = 20, .distance = CS_DISTANCE_L1};
        images.planes = 1;
        const int64_t size = cs_bilateral_scratch_bytes(height, width, radius, 3);
        RUN(bilateral, u8, bytes, byte_result, size, &how);
        RUN(bilateral, f32, floats, float_result, size, &how);
        if (isa == CS_ISA_VBMI && radius >= 1) {
            int32_t r = (int32_t)radius, dy[4] = {0, 0, -r, r}, dx[4] = {-r, r, 0, 0};
            int64_t zero[1] = {0};
            uint8_t *table = aligned_alloc(64, 3 * 256);
            memset(table, 9, 3 * 256);
            cs_bilateral_tables tables = {1, 1, 256, 1, 0, 255.0f, zero, zero, dy, dx, table};
            RUN(bilateral_table, u8, bytes, byte_result, cs_bilateral_table_scratch_bytes(height, width, radius, 3, 1),
                &how, &tables);
            images.planes = 3, how.channels = 1, tables.planes = 3;
            for (tables.upper = 0; tables.upper <= 3; ++tables.upper)
                RUN(bilateral_table, u8, bytes, byte_result,
                    cs_bilateral_table_scratch_bytes(height, width, radius, 1, 1), &how, &tables);
            free(table);
        }
        images.planes = 3;
    }
    free(bytes), free(byte_result), free(floats), free(float_result), free(weights);
}

static void refusals(void) {
    const int64_t plane[1] = {0}, radius[1] = {1}, first[1] = {0};
    const float weights[2] = {0.5f, 0.25f};
    uint8_t source[4] = {1, 2, 3, 4}, result[4], scratch[64];
    cs_taps taps = {weights, first, radius};
    cs_images images = {1, 2, 2, plane, plane, 2, 1, 2, 1, CS_BORDER_REFLECT101, CS_ISA_PORTABLE};
    expect(cs_fir_u8(&images, source, &taps, scratch, 64, result) == CS_FILTER_ERR_CAPACITY, "little scratch", 0, 0, 0);
    expect(cs_box_u8(&images, source, 0, scratch, 64, result) == CS_FILTER_ERR_RANGE, "box radius 0", 0, 0, 0);
    expect(cs_box_u8(&images, source, 1, scratch, 64, result) == CS_FILTER_ERR_CAPACITY, "little scratch of a box", 0, 0, 0);
    if (cs_best_isa() >= CS_ISA_AVX2) {
        images.isa = CS_ISA_AVX2;
        expect(cs_fir_fixed_u8(&images, source, &taps, scratch, 64, result) == CS_FILTER_ERR_RANGE, "narrow", 0, 0, 0);
    }
    images.border = 4;
    expect(cs_fir_u8(&images, source, &taps, scratch, 64, result) == CS_FILTER_ERR_RANGE, "unknown border", 0, 0, 0);
    images.border = 0, images.isa = CS_ISA_VBMI + 1;
    expect(cs_fir_u8(&images, source, &taps, scratch, 64, result) == CS_FILTER_ERR_RANGE, "unknown isa", 0, 0, 0);
    images.isa = 0, images.height = 0;
    expect(cs_fir_u8(&images, source, &taps, scratch, 64, result) == CS_FILTER_ERR_RANGE, "no rows", 0, 0, 0);
}

int main(void) {
    const int64_t sides[][2] = {{1, 1}, {2, 3}, {5, 64}, {17, 16}, {33, 47}, {8, 100}, {270, 70}, {20, 1100}};
    const int64_t radii[] = {0, 1, 2, 5, 8, 40};
    for (int32_t isa = 0; isa <= cs_best_isa(); ++isa)
        for (size_t s = 0; s < sizeof sides / sizeof *sides; ++s)
            for (size_t r = 0; r < sizeof radii / sizeof *radii; ++r)
                for (int32_t border = 0; border < 4; ++border) {
                    if (sides[s][0] * sides[s][1] > 4000 && border != (int32_t)(r % 4)) continue; /* one is enough */
                    for (int64_t step = 1; step <= 3; step += 2)
                        if (step == 1 || r < 3) check(sides[s][0], sides[s][1], radii[r], border, step, isa);
                }
    refusals();
    printf("%d failures\n", failures);
    return failures != 0;
}
