/* The kernels of each instruction set, by name; dispatch.c chooses. */
#ifndef CODESIGN_FILTERS_DISPATCH_H
#define CODESIGN_FILTERS_DISPATCH_H

#include "filters.h"

#define DECLARE_KERNELS(isa)                                                                                          \
    cs_filter_status cs_fir_u8_##isa(const cs_images *, const uint8_t *, const cs_taps *, void *, int64_t, uint8_t *);       \
    cs_filter_status cs_fir_small_##isa(const cs_images *, const uint8_t *, const cs_taps *, void *, int64_t, uint8_t *);     \
    cs_filter_status cs_fir_f32_##isa(const cs_images *, const float *, const cs_taps *, void *, int64_t, float *);     \
    cs_filter_status cs_slide_u8_##isa(const cs_images *, const uint8_t *, const cs_waves *, void *, int64_t, uint8_t *);     \
    cs_filter_status cs_slide_f32_##isa(const cs_images *, const float *, const cs_waves *, void *, int64_t, float *);       \
    cs_filter_status cs_box_u8_##isa(const cs_images *, const uint8_t *, int64_t, void *, int64_t, uint8_t *);               \
    cs_filter_status cs_box_f32_##isa(const cs_images *, const float *, int64_t, void *, int64_t, float *);                  \
    cs_filter_status cs_bilateral_u8_##isa(const cs_images *, const uint8_t *, const cs_bilateral *, void *, int64_t,        \
                                    uint8_t *);                                                                       \
    cs_filter_status cs_bilateral_f32_##isa(const cs_images *, const float *, const cs_bilateral *, void *, int64_t, float *);

DECLARE_KERNELS(portable)
#if defined(__x86_64__)
DECLARE_KERNELS(avx2)
DECLARE_KERNELS(avx512)
cs_filter_status cs_fir_fixed_avx512(const cs_images *, const uint8_t *, const cs_taps *, void *, int64_t, uint8_t *);
cs_filter_status cs_fir_fixed_avx2(const cs_images *, const uint8_t *, const cs_taps *, void *, int64_t, uint8_t *);
cs_filter_status cs_bilateral_table_u8_vbmi(const cs_images *, const uint8_t *, const cs_bilateral *,
                                     const cs_bilateral_tables *, void *, int64_t, uint8_t *);
#endif

#endif
