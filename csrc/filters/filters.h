/* filters.h - image filters: Gaussian, box, bilateral.
 *
 * Nothing here knows of the simulator in codesign.h: the filters have their own status and their own ABI number. The rules
 * are the same: the caller owns all memory; no function allocates, prints or keeps state; const inputs come first, results
 * last, a status is returned.
 *
 * A call filters `planes` planes of height x width pixels, each at its own place: pixel (y, x) of plane n is
 * src[src_plane[n] + y * src_row + x * src_column], and likewise in dst. All strides count pixels and may be negative.
 * dst must not overlap src. `scratch` needs the bytes that the function of the same name with _scratch_bytes tells;
 * with less, CS_FILTER_ERR_CAPACITY is returned. Sizes below 1, radii below 0, an unknown border, or an instruction set that
 * this processor lacks: CS_FILTER_ERR_RANGE.
 *
 * Everything between the two cdef marks is also what Python sees.
 */
#ifndef CODESIGN_FILTERS_FILTERS_H
#define CODESIGN_FILTERS_FILTERS_H

#include <stdint.h>

/* cdef: begin */

/* Raised whenever a struct or a signature below changes; compared with the Python side at import. */
#define CS_FILTERS_ABI_VERSION 1

/* The ABI version that this library was compiled with. */
int32_t cs_filters_abi_version(void);

typedef enum {
    CS_FILTER_OK = 0,
    CS_FILTER_ERR_RANGE = 1,    /* a value outside its documented range */
    CS_FILTER_ERR_CAPACITY = 2, /* scratch memory is too small */
} cs_filter_status;

typedef enum {
    CS_BORDER_REFLECT101 = 0, /* dcb|abcd|cba */
    CS_BORDER_REFLECT = 1,    /* cba|abcd|dcb */
    CS_BORDER_REPLICATE = 2,  /* aaa|abcd|ddd */
    CS_BORDER_CONSTANT = 3,   /* 000|abcd|000, not renormalised */
} cs_border;

typedef enum {
    CS_ISA_PORTABLE = 0,
    CS_ISA_AVX2 = 1,   /* and FMA */
    CS_ISA_AVX512 = 2, /* F, BW, DQ, VL */
    CS_ISA_VBMI = 3,   /* AVX512, VBMI and VNNI */
} cs_isa;

/* The last cs_isa that this processor has. */
int32_t cs_best_isa(void);

typedef struct {
    int64_t planes, height, width;
    const int64_t *src_plane, *dst_plane; /* [planes] */
    int64_t src_row, src_column, dst_row, dst_column;
    int32_t border; /* cs_border */
    int32_t isa;    /* cs_isa to use, at most cs_best_isa() */
} cs_images;

/* One symmetric kernel per plane: weights[first[n] + i] is the weight at distance i = 0 .. radius[n] in both axes. */
typedef struct {
    const float *weights;
    const int64_t *first, *radius; /* [planes] */
} cs_taps;

/* dst = src filtered by the taps along both axes, in float32; uint8 is rounded to nearest, halves up.
 * The weights of a kernel must not be negative and must not sum to more than 1. */
int64_t cs_fir_scratch_bytes(int64_t height, int64_t width, int64_t largest_radius);
cs_filter_status cs_fir_u8(const cs_images *images, const uint8_t *src, const cs_taps *taps, void *scratch,
                    int64_t scratch_bytes, uint8_t *dst);
cs_filter_status cs_fir_f32(const cs_images *images, const float *src, const cs_taps *taps, void *scratch,
                     int64_t scratch_bytes, float *dst);

/* cs_fir_u8 in 16-bit fixed point: for CS_ISA_AVX2 and better, a width of at least CS_LEAST_FIXED_WIDTH, columns next to
 * each other, kernels that sum to 1, and radii of at most CS_LARGEST_FIXED, up to where it is faster; else CS_FILTER_ERR_RANGE.
 * Within 0.65 of a level of the unrounded result on photographs and noise; 1/2 + (3 + 2 radius) / 256 bounds it for any
 * image. */
#define CS_LARGEST_FIXED 9
#define CS_LEAST_FIXED_WIDTH 48
int64_t cs_fir_fixed_scratch_bytes(int64_t height, int64_t width, int64_t largest_radius);
cs_filter_status cs_fir_fixed_u8(const cs_images *images, const uint8_t *src, const cs_taps *taps, void *scratch,
                          int64_t scratch_bytes, uint8_t *dst);

/* dst = mean of the (2 radius + 1)^2 pixels around each one, rounded to nearest; sums are exact integers.
 * Radius 1 .. CS_LARGEST_BOX, so that no sum of a window wraps: (2 * 1450 + 1)^2 * 255 < 2^31. */
#define CS_LARGEST_BOX 1450
int64_t cs_box_scratch_bytes(int64_t width, int64_t radius);
cs_filter_status cs_box_u8(const cs_images *images, const uint8_t *src, int64_t radius, void *scratch, int64_t scratch_bytes,
                    uint8_t *dst);

/* The same of float32, for radius 1 .. CS_LARGEST_FLOAT_BOX, by additions alone: the rounding of the sums is below
 * (radius + 1/2) + (radius / 4 + 3) + 2 times 2^-24 of the largest pixel, up to this radius below 2e-6. */
#define CS_LARGEST_FLOAT_BOX 20
int64_t cs_float_box_scratch_bytes(int64_t width, int64_t radius);
cs_filter_status cs_box_f32(const cs_images *images, const float *src, int64_t radius, void *scratch, int64_t scratch_bytes,
                     float *dst);

/* A kernel that is mean_weight + sum over k = 1 .. CS_WAVES of weight[k-1] cos(k w u) on |u| <= radius,
 * w = 2 pi / (2 radius + 1). */
#define CS_WAVES 3
typedef struct {
    int64_t radius;
    float mean_weight;
    float weight[3], twice_cosine[3]; /* weight[k-1] cos(k w radius); 2 cos(k w) */
    const float *cosine;              /* [CS_WAVES][radius + 2]: cos(k w u) / cos(k w radius), u = 0 .. radius + 1 */
} cs_waves;

/* dst = src filtered by the kernel along both axes, by sliding sums in float32: the cost does not grow with the radius.
 * Needs height and width of at least 16 and columns next to each other, else CS_FILTER_ERR_RANGE. */
int64_t cs_slide_scratch_bytes(int64_t width, int64_t radius);
cs_filter_status cs_slide_u8(const cs_images *images, const uint8_t *src, const cs_waves *waves, void *scratch,
                      int64_t scratch_bytes, uint8_t *dst);
cs_filter_status cs_slide_f32(const cs_images *images, const float *src, const cs_waves *waves, void *scratch,
                       int64_t scratch_bytes, float *dst);

typedef enum {
    CS_DISTANCE_L1 = 0, /* |dR| + |dG| + |dB| */
    CS_DISTANCE_L2 = 1, /* the root of the sum of squares */
} cs_distance;

typedef struct {
    int64_t channels;                  /* 1, or 3 that share one weight; planes are those of channel 0 */
    int64_t src_channel, dst_channel;  /* pixels from one channel to the next */
    int64_t radius;                    /* of the circular window dy^2 + dx^2 <= radius^2; at most 2^14 */
    float sigma_space, sigma_range;    /* in pixels; in units of the pixel values */
    int32_t distance;                  /* cs_distance of two colours */
} cs_bilateral;

/* dst = sum of weight * src over the window / sum of weight,
 * weight = exp(-(dy^2 + dx^2) / (2 sigma_space^2) - distance^2 / (2 sigma_range^2)), in float32. */
int64_t cs_bilateral_scratch_bytes(int64_t height, int64_t width, int64_t radius, int64_t channels);
cs_filter_status cs_bilateral_u8(const cs_images *images, const uint8_t *src, const cs_bilateral *how, void *scratch,
                          int64_t scratch_bytes, uint8_t *dst);
cs_filter_status cs_bilateral_f32(const cs_images *images, const float *src, const cs_bilateral *how, void *scratch,
                           int64_t scratch_bytes, float *dst);

/* The weights of a bilateral filter as tables. Taps come in quads of equal distance that mirror each other, from the
 * farthest to the nearest; quads of equal distance share a table. The centre is in no quad: it weighs `own`.
 * A weight is split into `planes` bytes, the lowest first. */
typedef struct {
    int64_t planes;          /* 3, or 1 */
    int64_t upper;           /* only this many planes, from the lowest, have weights for differences of 127 or more */
    int64_t reach;           /* differences from here on, 1 .. 256, have no weight */
    int64_t quads, pairs;    /* the first 2 * pairs quads come in twos that share a table; 0 with 1 plane */
    float own;               /* weight of the centre, in the unit of the last quad */
    const int64_t *table;    /* [quads] */
    const int64_t *shift;    /* [quads]: sums so far are divided by 2^shift before this quad; with 1 plane only */
    const int32_t *dy, *dx;  /* [4 * quads] */
    const uint8_t *weights;  /* [tables][planes][256] by absolute difference, above 255 (three channels) as at 255;
                                starts at a multiple of 64 bytes */
} cs_bilateral_tables;

/* As cs_bilateral_u8 with the l1 distance and the weights of the tables. Needs CS_ISA_VBMI, else CS_FILTER_ERR_RANGE.
 * Three channels need one plane. At most 2^16 taps, so that no sum wraps. */
int64_t cs_bilateral_table_scratch_bytes(int64_t height, int64_t width, int64_t radius, int64_t channels, int64_t quads);
cs_filter_status cs_bilateral_table_u8(const cs_images *images, const uint8_t *src, const cs_bilateral *how,
                                const cs_bilateral_tables *tables, void *scratch, int64_t scratch_bytes, uint8_t *dst);

/* cdef: end */

#endif
