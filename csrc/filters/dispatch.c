/* The public filters: check the arguments, hand them to the kernels of the asked instruction set. */
#include "common.h"
#include "dispatch.h"

int32_t cs_filters_abi_version(void) { return CS_FILTERS_ABI_VERSION; }

int32_t cs_best_isa(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") ? CS_ISA_VBMI
                                                                                          : CS_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CS_ISA_AVX2;
#endif
    return CS_ISA_PORTABLE;
}

static bool valid(const cs_images *images) {
    return images->planes >= 0 && images->height > 0 && images->width > 0 && images->border >= CS_BORDER_REFLECT101 &&
           images->border <= CS_BORDER_CONSTANT && images->isa >= CS_ISA_PORTABLE && images->isa <= cs_best_isa();
}

#if defined(__x86_64__)
#define CALL(images, name, ...)                                           \
    ((images)->isa >= CS_ISA_AVX512   ? cs_##name##_avx512(images, __VA_ARGS__) \
     : (images)->isa == CS_ISA_AVX2 ? cs_##name##_avx2(images, __VA_ARGS__)   \
                                    : cs_##name##_portable(images, __VA_ARGS__))
#else
#define CALL(images, name, ...) cs_##name##_portable(images, __VA_ARGS__)
#endif

/* Planes of uint8 that are filtered as a whole: docs/decisions/0036. */
static bool small_planes(int64_t height, int64_t width) {
    return smaller(height, width) >= 8 && larger(height, width) <= 128;
}

/* Above the sum of what any kernel cuts, for the largest tile. */
int64_t cs_fir_scratch_bytes(int64_t height, int64_t width, int64_t radius) {
    const int64_t rows = height + 16, columns = width + 16;
    const int64_t small = (height * 16 + (columns + 1) * (rows + 16)) * 4 + height * columns +
                          (2 * larger(rows, columns) + 4 * radius + 8) * 8 + 1024;
    const int64_t slots = smaller(2 * radius + 4, height), tile = smaller(round_up(width, 64), 3072);
    const int64_t ring = (slots + 1) * (tile + 16) * 4, line = tile + 2 * radius + 256;
    const int64_t large = smaller(ring, 64 * 1024 + (slots + 1) * 80 * 4) + 8 * line * 4 + 8 * line +
                          8 * (height + 4 * radius + 8) + 8 * tile * 4 + 8192;
    return small_planes(height, width) ? larger(small, large) : large;
}

cs_filter_status cs_fir_u8(const cs_images *images, const uint8_t *src, const cs_taps *taps, void *scratch,
                    int64_t scratch_bytes, uint8_t *dst) {
    if (!valid(images)) return CS_FILTER_ERR_RANGE;
    if (small_planes(images->height, images->width))
        return CALL(images, fir_small, src, taps, scratch, scratch_bytes, dst);
    return CALL(images, fir_u8, src, taps, scratch, scratch_bytes, dst);
}

cs_filter_status cs_fir_f32(const cs_images *images, const float *src, const cs_taps *taps, void *scratch,
                     int64_t scratch_bytes, float *dst) {
    return valid(images) ? CALL(images, fir_f32, src, taps, scratch, scratch_bytes, dst) : CS_FILTER_ERR_RANGE;
}

int64_t cs_fir_fixed_scratch_bytes(int64_t height, int64_t width, int64_t radius) {
    return 8 * (smaller(width, 2048) + 2 * radius + 32) + width + 4 * (radius + 1) + 8 * (height + 2 * radius + 4) + 512;
}

cs_filter_status cs_fir_fixed_u8(const cs_images *images, const uint8_t *src, const cs_taps *taps, void *scratch,
                          int64_t scratch_bytes, uint8_t *dst) {
    if (!valid(images) || images->isa < CS_ISA_AVX2 || images->width < CS_LEAST_FIXED_WIDTH || images->src_column != 1 ||
        images->dst_column != 1)
        return CS_FILTER_ERR_RANGE;
    for (int64_t n = 0; n < images->planes; ++n)
        if (taps->radius[n] > CS_LARGEST_FIXED) return CS_FILTER_ERR_RANGE;
#if defined(__x86_64__)
    return images->isa >= CS_ISA_AVX512 ? cs_fir_fixed_avx512(images, src, taps, scratch, scratch_bytes, dst)
                                        : cs_fir_fixed_avx2(images, src, taps, scratch, scratch_bytes, dst);
#else
    (void)src, (void)scratch, (void)scratch_bytes, (void)dst;
    return CS_FILTER_ERR_RANGE;
#endif
}

int64_t cs_box_scratch_bytes(int64_t width, int64_t radius) { return 22 * width + 36 * radius + 2048; }

cs_filter_status cs_box_u8(const cs_images *images, const uint8_t *src, int64_t radius, void *scratch, int64_t scratch_bytes,
                    uint8_t *dst) {
    if (!valid(images) || radius < 1 || radius > CS_LARGEST_BOX) return CS_FILTER_ERR_RANGE;
    return CALL(images, box_u8, src, radius, scratch, scratch_bytes, dst);
}

int64_t cs_float_box_scratch_bytes(int64_t width, int64_t radius) {
    return (2 * radius + 16) * width * 4 + 32 * radius + 1024;
}

cs_filter_status cs_box_f32(const cs_images *images, const float *src, int64_t radius, void *scratch, int64_t scratch_bytes,
                     float *dst) {
    if (!valid(images) || radius < 1 || radius > CS_LARGEST_FLOAT_BOX) return CS_FILTER_ERR_RANGE;
    return CALL(images, box_f32, src, radius, scratch, scratch_bytes, dst);
}

static bool valid_slide(const cs_images *images, const cs_waves *waves) {
    return valid(images) && images->height >= 16 && images->width >= 16 && images->src_column == 1 &&
           images->dst_column == 1 && waves->radius >= 1;
}

int64_t cs_slide_scratch_bytes(int64_t width, int64_t radius) {
    const int64_t columns = smaller(1024, width) + 2 * radius + 34;
    return columns * (16 + 8) * 4 + (1024 + 256 + 4 * radius + 64) * 8 + width * 4 + 8192;
}

cs_filter_status cs_slide_u8(const cs_images *images, const uint8_t *src, const cs_waves *waves, void *scratch,
                      int64_t scratch_bytes, uint8_t *dst) {
    return valid_slide(images, waves) ? CALL(images, slide_u8, src, waves, scratch, scratch_bytes, dst) : CS_FILTER_ERR_RANGE;
}

cs_filter_status cs_slide_f32(const cs_images *images, const float *src, const cs_waves *waves, void *scratch,
                       int64_t scratch_bytes, float *dst) {
    return valid_slide(images, waves) ? CALL(images, slide_f32, src, waves, scratch, scratch_bytes, dst) : CS_FILTER_ERR_RANGE;
}

/* radius 2^14 keeps the window's taps countable and is above any use */
static bool valid_bilateral(const cs_images *images, const cs_bilateral *how) {
    return valid(images) && (how->channels == 1 || how->channels == 3) && how->radius >= 0 && how->radius <= 1 << 14 &&
           how->sigma_space > 0 && how->sigma_range > 0 && how->distance >= CS_DISTANCE_L1 &&
           how->distance <= CS_DISTANCE_L2;
}

int64_t cs_bilateral_scratch_bytes(int64_t height, int64_t width, int64_t radius, int64_t channels) {
    const int64_t line = width + 2 * radius + 160, side = 2 * radius + 1;
    return (smaller(side, height) + 2) * line * channels * 4 + line * 12 + side * 8 + (side * side + 1) * 12 + 4096;
}

cs_filter_status cs_bilateral_u8(const cs_images *images, const uint8_t *src, const cs_bilateral *how, void *scratch,
                          int64_t scratch_bytes, uint8_t *dst) {
    if (!valid_bilateral(images, how)) return CS_FILTER_ERR_RANGE;
    return CALL(images, bilateral_u8, src, how, scratch, scratch_bytes, dst);
}

cs_filter_status cs_bilateral_f32(const cs_images *images, const float *src, const cs_bilateral *how, void *scratch,
                           int64_t scratch_bytes, float *dst) {
    if (!valid_bilateral(images, how)) return CS_FILTER_ERR_RANGE;
    return CALL(images, bilateral_f32, src, how, scratch, scratch_bytes, dst);
}

int64_t cs_bilateral_table_scratch_bytes(int64_t height, int64_t width, int64_t radius, int64_t channels,
                                         int64_t quads) {
    const int64_t line = width + 2 * radius + 256, side = 2 * radius + 1;
    return (smaller(side, height) + 2) * line * channels + line * 8 + side * 8 + quads * 32 + 4096;
}

cs_filter_status cs_bilateral_table_u8(const cs_images *images, const uint8_t *src, const cs_bilateral *how,
                                const cs_bilateral_tables *tables, void *scratch, int64_t scratch_bytes,
                                uint8_t *dst) {
    if (!valid_bilateral(images, how) || how->distance != CS_DISTANCE_L1 || images->isa != CS_ISA_VBMI ||
        (tables->planes != 1 && (tables->planes != 3 || how->channels != 1)))
        return CS_FILTER_ERR_RANGE;
#if defined(__x86_64__)
    return cs_bilateral_table_u8_vbmi(images, src, how, tables, scratch, scratch_bytes, dst);
#else
    (void)src, (void)scratch, (void)scratch_bytes, (void)dst;
    return CS_FILTER_ERR_RANGE;
#endif
}
