/* The bilateral filter of uint8 by table: x86-64 with AVX-512 VBMI (byte permutes) and VNNI (byte dot products).
 *
 * Taps at the same distance share a table of 256 weights, indexed by the difference of two pixels: two registers are 128
 * entries, and a byte permute looks 64 of them up. Four such taps, which mirror each other, are interleaved so that a
 * 32-bit lane holds the four neighbours of one pixel: a dot product of four weights and four pixels adds up in place.
 * Weights wider than a byte are split into bytes ("planes"), each looked up and summed for itself.
 * Pixels are kept with the top bit flipped, as signed numbers p - 128: the dot product multiplies unsigned by signed.
 */
#include "common.h"
#include "dispatch.h"

#if defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include <immintrin.h>

#define BLOCK 64 /* pixels of one pass */
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    uint8_t *ring;
    const uint8_t **rows; /* [t]: ring row of image row y - radius + t */
    int64_t *near;        /* [4 k + i]: where tap i of quad k of the pixel (y, 0) is, from the start of the ring */
    int64_t *map;
    uint8_t *out;
    int64_t slots, line_stride, row_stride;
} table_plan;

/* BLOCK pixels; with `half_full`, BLOCK / 2 of them, eight at the start of each 128 bits: half 0 of `interleave` is all. */
INLINE __m512i read_block(const uint8_t *from, int half_full) {
    if (!half_full) return _mm512_loadu_si512(from);
    const __m512i pixels = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)from));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), pixels);
}

/* Bytes a, b, c, d of pixels 16 L + 8 half + 0..7 (L = 0..3) as 32-bit lanes abcd. */
INLINE void interleave(__m512i a, __m512i b, __m512i c, __m512i d, int half, __m512i lanes[2]) {
    const __m512i ab = half ? _mm512_unpackhi_epi8(a, b) : _mm512_unpacklo_epi8(a, b);
    const __m512i cd = half ? _mm512_unpackhi_epi8(c, d) : _mm512_unpacklo_epi8(c, d);
    lanes[0] = _mm512_unpacklo_epi16(ab, cd);
    lanes[1] = _mm512_unpackhi_epi16(ab, cd);
}

/* Sums of a block or half of one: [vector][plane]. */
typedef struct {
    __m512i weight[4][3], pixel[3][4][3];
} table_sums;

/* sum += dot products of four bytes. In assembler, since GCC 12 copies every sum to and fro around the intrinsic. */
INLINE void add_dots(__m512i *sum, __m512i weights, __m512i pixels) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(weights), "v"(pixels));
}

/* Entry (at mod 128) of the table low, high. In assembler, since GCC 12 would rather load `low` again than copy `at`. */
INLINE __m512i look_up(__m512i at, __m512i low, __m512i high) {
    __asm__("vpermi2b %2, %1, %0" : "+v"(at) : "v"(low), "v"(high));
    return at;
}

#define UNROLL _Pragma("GCC unroll 4")

/* What the compiler knows of a filter where it is inlined: channels; bytes of a weight, and how many of them, from the
 * lowest, have weights for differences of 127 and more; from which difference on nothing has weight; vectors of a pass,
 * 2 for one half of a block, 4 for both; whether only half of the block is there. */
typedef struct {
    int channels, planes, upper, reach, vectors, half_full;
} table_kind;

/* Add `group` quads that share a table, so that its registers are loaded once: the taps near[0 .. 4 * group - 1]. */
INLINE void add_quads(table_sums *sums, const table_kind kind, const uint8_t *ring, int64_t line_stride,
                      const int64_t *near, const uint8_t *weights, int group, int half, const __m512i centre[3][4]) {
    const __m512i ones = _mm512_set1_epi8(1), most = _mm512_set1_epi8(127);
    __m512i pixel[2][3][4], apart[2][4];
    __mmask64 far[2][4];
    UNROLL for (int q = 0; q < group; ++q) {
        UNROLL for (int c = 0; c < kind.channels; ++c) {
            const uint8_t *at = ring + c * line_stride;
            UNROLL for (int v = 0; v < kind.vectors; v += 2)
                interleave(read_block(at + near[4 * q], kind.half_full), read_block(at + near[4 * q + 1], kind.half_full),
                           read_block(at + near[4 * q + 2], kind.half_full),
                           read_block(at + near[4 * q + 3], kind.half_full), half + v / 2, pixel[q][c] + v);
            UNROLL for (int v = 0; v < kind.vectors; ++v) {
                const __m512i difference =
                    kind.upper ? _mm512_sub_epi8(_mm512_max_epi8(pixel[q][c][v], centre[c][v]),
                                                 _mm512_min_epi8(pixel[q][c][v], centre[c][v]))
                               : _mm512_abs_epi8(_mm512_subs_epi8(pixel[q][c][v], centre[c][v])); /* at most 128, which is as good */
                apart[q][v] = c ? _mm512_adds_epu8(apart[q][v], difference) : difference;
            }
        }
        if (kind.upper) UNROLL for (int v = 0; v < kind.vectors; ++v) {
            if (kind.reach < 256)
                apart[q][v] = _mm512_min_epu8(apart[q][v], _mm512_set1_epi8((char)(kind.reach - 1)));
            far[q][v] = _mm512_movepi8_mask(apart[q][v]);
        }
    }
    UNROLL for (int p = 0; p < kind.planes; ++p) {
        const uint8_t *from = weights + p * 256;
        const __m512i low = _mm512_load_si512(from), high = _mm512_load_si512(from + 64);
        const __m512i third = _mm512_load_si512(from + 128);
        UNROLL for (int q = 0; q < group; ++q) UNROLL for (int v = 0; v < kind.vectors; ++v) {
            const __m512i near_at = p < kind.upper ? apart[q][v] : _mm512_min_epu8(apart[q][v], most);
            __m512i weight = look_up(near_at, low, high);
            if (p < kind.upper && kind.reach <= 192) /* 64 more entries are enough */
                weight = _mm512_mask_permutexvar_epi8(weight, far[q][v], apart[q][v], third);
            else if (p < kind.upper)
                weight = _mm512_mask_blend_epi8(far[q][v], weight,
                                                look_up(apart[q][v], third, _mm512_load_si512(from + 192)));
            add_dots(&sums->weight[v][p], weight, ones);
            UNROLL for (int c = 0; c < kind.channels; ++c) add_dots(&sums->pixel[c][v][p], weight, pixel[q][c][v]);
        }
    }
}

/* All taps of the block at column x, or of its half `half`. */
INLINE table_sums sum_taps(const table_plan *plan, const cs_bilateral_tables *tables, const table_kind kind, int64_t x,
                           int half) {
    const uint8_t *ring = plan->ring + x;
    const int64_t *near = plan->near;
    table_sums sums;
    __m512i centre[3][4];
    UNROLL for (int c = 0; c < kind.channels; ++c) {
        const __m512i p = read_block(ring + near[4 * tables->quads] + c * plan->line_stride, kind.half_full);
        UNROLL for (int v = 0; v < kind.vectors; v += 2) interleave(p, p, p, p, half + v / 2, centre[c] + v);
    }
    UNROLL for (int v = 0; v < kind.vectors; ++v) UNROLL for (int p = 0; p < kind.planes; ++p) {
        sums.weight[v][p] = _mm512_setzero_si512();
        UNROLL for (int c = 0; c < kind.channels; ++c) sums.pixel[c][v][p] = _mm512_setzero_si512();
    }
    int64_t k = 0;
    for (; kind.planes > 1 && k < 2 * tables->pairs; k += 2, near += 8)
        add_quads(&sums, kind, ring, plan->line_stride, near,
                  tables->weights + tables->table[k] * kind.planes * 256, 2, half, centre);
    for (; k < tables->quads; ++k, near += 4) {
        if (kind.planes == 1 && tables->shift[k]) { /* the nearer taps have a coarser unit */
            const __m128i by = _mm_cvtsi64_si128(tables->shift[k]);
            UNROLL for (int v = 0; v < kind.vectors; ++v) {
                sums.weight[v][0] = _mm512_sra_epi32(sums.weight[v][0], by);
                UNROLL for (int c = 0; c < kind.channels; ++c)
                    sums.pixel[c][v][0] = _mm512_sra_epi32(sums.pixel[c][v][0], by);
            }
        }
        add_quads(&sums, kind, ring, plan->line_stride, near,
                  tables->weights + tables->table[k] * kind.planes * 256, 1, half, centre);
    }
    return sums;
}

INLINE __m512 whole_sum(const __m512i sum[3], int planes) {
    __m512 total = _mm512_cvtepi32_ps(sum[0]);
    if (planes > 1) total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[1]), _mm512_set1_ps(256.0f), total);
    if (planes > 2) total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[2]), _mm512_set1_ps(65536.0f), total);
    return total;
}

/* BLOCK pixels of one row, or half of them. `kind` comes without `vectors`. */
INLINE void filter_block(const table_plan *plan, const cs_bilateral_tables *tables, table_kind kind, int64_t x) {
    const __m512 own = _mm512_set1_ps(tables->own);
    const int vectors = kind.channels * kind.planes == 1 && !kind.half_full ? 4 : 2; /* as many sums as the registers hold */
    kind.vectors = vectors;
    __m512i words[3][2];
    UNROLL for (int half = 0; half < 2; ++half) {
        if (half * (kind.half_full ? 4 : vectors) == 4) continue;
        const table_sums sums = sum_taps(plan, tables, kind, x, half);
        UNROLL for (int c = 0; c < kind.channels; ++c) {
            const __m512i p =
                read_block(plan->ring + plan->near[4 * tables->quads] + c * plan->line_stride + x, kind.half_full);
            UNROLL for (int v = 0; v < vectors; v += 2) {
                __m512i result[2], centre[2];
                interleave(p, p, p, p, half + v / 2, centre);
                UNROLL for (int i = 0; i < 2; ++i) {
                    const __m512 here = _mm512_cvtepi32_ps(_mm512_srai_epi32(centre[i], 24));
                    const __m512 sum = _mm512_fmadd_ps(own, here, whole_sum(sums.pixel[c][v + i], kind.planes));
                    const __m512 weight = _mm512_add_ps(own, whole_sum(sums.weight[v + i], kind.planes));
                    const __m512 value = _mm512_add_ps(_mm512_div_ps(sum, weight), _mm512_set1_ps(128.5f));
                    result[i] = _mm512_cvttps_epi32(value);
                }
                words[c][half + v / 2] = _mm512_packus_epi32(result[0], result[1]);
            }
        }
    }
    UNROLL for (int c = 0; c < kind.channels; ++c) {
        uint8_t *to = plan->out + c * plan->line_stride + x;
        if (kind.half_full) {
            const __m512i apart = _mm512_packus_epi16(words[c][0], words[c][0]);
            const __m512i pixels = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6), apart);
            _mm256_storeu_si256((void *)to, _mm512_castsi512_si256(pixels));
        } else _mm512_storeu_si512(to, _mm512_packus_epi16(words[c][0], words[c][1]));
    }
}

static void filter_row(const table_plan *plan, const cs_bilateral_tables *tables, int64_t width, int64_t channels) {
#define ROW(...)                                                                                                        \
    do {                                                                                                                \
        int64_t x = 0;                                                                                                  \
        for (; x + BLOCK / 2 < width; x += BLOCK) filter_block(plan, tables, (table_kind){__VA_ARGS__, 0, 0}, x);       \
        if (x < width) filter_block(plan, tables, (table_kind){__VA_ARGS__, 0, 1}, x);                                  \
    } while (0)
    if (channels == 3) {
        if (tables->upper) ROW(3, 1, 1, 256);
        else ROW(3, 1, 0, 127);
    } else if (tables->planes == 1) {
        if (tables->upper) ROW(1, 1, 1, 256);
        else ROW(1, 1, 0, 127);
    } else if (tables->upper == 0) ROW(1, 3, 0, 127);
    else if (tables->upper <= 2 && tables->reach <= 192) ROW(1, 3, 2, 192);
    else ROW(1, 3, 3, 256);
#undef ROW
}

static bool plan_tables(table_plan *plan, arena from, const cs_images *images, const cs_bilateral *how,
                        const cs_bilateral_tables *tables) {
    const int64_t radius = how->radius;
    plan->slots = smaller(2 * radius + 1, images->height);
    plan->line_stride = round_up(images->width + 2 * radius + 2 * BLOCK, 64);
    plan->row_stride = plan->line_stride * how->channels;
    plan->ring = arena_take(&from, (plan->slots + 1) * plan->row_stride);
    plan->out = arena_take(&from, plan->row_stride);
    plan->rows = arena_take(&from, (2 * radius + 1) * (int64_t)sizeof(uint8_t *));
    plan->near = arena_take(&from, (4 * tables->quads + 1) * 8);
    plan->map = arena_take(&from, (images->width + 2 * radius) * 8);
    if (plan->map == NULL) return false;
    memset(plan->ring, 0x80, (size_t)((plan->slots + 1) * plan->row_stride)); /* black */
    fill_border_map(images->border, -radius, images->width + 2 * radius, images->width, plan->map);
    return true;
}

cs_filter_status cs_bilateral_table_u8_vbmi(const cs_images *images, const uint8_t *src, const cs_bilateral *how,
                                     const cs_bilateral_tables *tables, void *scratch, int64_t scratch_bytes,
                                     uint8_t *dst) {
    table_plan plan;
    if (!plan_tables(&plan, arena_of(scratch, scratch_bytes), images, how, tables)) return CS_FILTER_ERR_CAPACITY;
    const int64_t radius = how->radius, height = images->height, width = images->width;
    for (int64_t n = 0; n < images->planes; ++n) {
        int64_t ready = 0;
        for (int64_t y = 0; y < height; ++y) {
            for (; ready < smaller(height, y + radius + 1); ++ready)
                for (int64_t c = 0; c < how->channels; ++c) {
                    uint8_t *line = plan.ring + ready % plan.slots * plan.row_stride + c * plan.line_stride;
                    read_line_u8(src + images->src_plane[n] + c * how->src_channel + ready * images->src_row,
                                 images->src_column, width, -radius, width + 2 * radius, plan.map, line);
                    for (int64_t i = 0; i < width + 2 * radius; ++i) line[i] ^= 0x80;
                }
            for (int64_t t = -radius; t <= radius; ++t) {
                const int64_t at = border_index(images->border, y + t, height);
                plan.rows[t + radius] = plan.ring + (at < 0 ? plan.slots : at % plan.slots) * plan.row_stride;
            }
            for (int64_t k = 0; k < 4 * tables->quads; ++k)
                plan.near[k] = plan.rows[radius + tables->dy[k]] + radius + tables->dx[k] - plan.ring;
            plan.near[4 * tables->quads] = plan.rows[radius] + radius - plan.ring;
            filter_row(&plan, tables, width, how->channels);
            for (int64_t c = 0; c < how->channels; ++c)
                write_line_u8(plan.out + c * plan.line_stride, width,
                              dst + images->dst_plane[n] + c * how->dst_channel + y * images->dst_row,
                              images->dst_column);
        }
    }
    return CS_FILTER_OK;
}
#else
typedef int cs_no_vbmi; /* an empty file is not C */
#endif
