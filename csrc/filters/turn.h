/* Blocks of LANES x LANES floats, LANES = MOST_LANES, turned in registers; results packed to bytes.
 *
 * A filter down the columns needs no shifts. Turned on its way out, a block can be filtered down again, which is along
 * the rows of the image. Four columns of results are packed to words first, so that turning back costs a quarter.
 */
#define LANES MOST_LANES
#undef V
#define V(name) AT_LANES(name, MOST_LANES)

/* LANES vectors of LANES floats: rows to columns. */
static inline __attribute__((always_inline)) void transpose(V(vf) block[LANES]) {
    V(vf) next[LANES];
#if MOST_LANES == 16 /* pairs and fours within 128 bits, then the 128-bit parts: cheaper than moves across them */
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512 a = (__m512)block[i], b = (__m512)block[i + 1];
        const __m512 c = (__m512)block[i + 2], d = (__m512)block[i + 3];
        const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(a, b)), ab2 = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
        const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(c, d)), cd2 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
        next[i] = (V(vf))_mm512_unpacklo_pd(ab0, cd0); /* columns 0, 4, 8, 12 of these four rows */
        next[i + 1] = (V(vf))_mm512_unpackhi_pd(ab0, cd0);
        next[i + 2] = (V(vf))_mm512_unpacklo_pd(ab2, cd2);
        next[i + 3] = (V(vf))_mm512_unpackhi_pd(ab2, cd2);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        const __m512 a = (__m512)next[i], b = (__m512)next[i + 4];
        const __m512 c = (__m512)next[i + 8], d = (__m512)next[i + 12];
        const __m512 ab_even = _mm512_shuffle_f32x4(a, b, 0x88), ab_odd = _mm512_shuffle_f32x4(a, b, 0xdd);
        const __m512 cd_even = _mm512_shuffle_f32x4(c, d, 0x88), cd_odd = _mm512_shuffle_f32x4(c, d, 0xdd);
        block[i] = (V(vf))_mm512_shuffle_f32x4(ab_even, cd_even, 0x88);
        block[i + 4] = (V(vf))_mm512_shuffle_f32x4(ab_odd, cd_odd, 0x88);
        block[i + 8] = (V(vf))_mm512_shuffle_f32x4(ab_even, cd_even, 0xdd);
        block[i + 12] = (V(vf))_mm512_shuffle_f32x4(ab_odd, cd_odd, 0xdd);
    }
#else /* interleave what is LANES/2 apart, log2(LANES) times */
#pragma GCC unroll 4
    for (int step = 1; step < LANES; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; ++i) {
            next[2 * i] = V(interleave_low)(block[i], block[i + LANES / 2]);
            next[2 * i + 1] = V(interleave_high)(block[i], block[i + LANES / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) block[i] = next[i];
    }
#endif
}

/* LANES pixels. */
static inline V(vf) column_u8(const uint8_t *from) {
#if defined(__AVX512F__)
    return (V(vf))_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)from)));
#elif defined(__AVX2__)
    return (V(vf))_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)from)));
#else
    uint8_t pixels __attribute__((vector_size(LANES)));
    memcpy(&pixels, from, sizeof pixels);
    return __builtin_convertvector(pixels, V(vf));
#endif
}

static inline V(vf) column_f32(const float *from) { return V(load)(from); }

/* Four columns of results to bytes, rounded to nearest and cut to 0..255: word i has row i, the first column lowest. */
static inline __attribute__((always_inline)) V(vf) pack_columns(const V(vf) column[4]) {
#if MOST_LANES == 16
    const __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)column[0]), _mm512_cvtps_epi32((__m512)column[1]));
    const __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)column[2]), _mm512_cvtps_epi32((__m512)column[3]));
    const __m512i turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return (V(vf))_mm512_shuffle_epi8(_mm512_packus_epi16(ab, cd), turn);
#elif MOST_LANES == 8
    const __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)column[0]), _mm256_cvtps_epi32((__m256)column[1]));
    const __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)column[2]), _mm256_cvtps_epi32((__m256)column[3]));
    const __m256i turn =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return (V(vf))_mm256_shuffle_epi8(_mm256_packus_epi16(ab, cd), turn);
#else
    V(vu) words = {0};
    for (int i = 0; i < 4; ++i) {
        const V(vi) level = __builtin_convertvector(column[i] + 0.5f, V(vi)), above = level > 255;
        words |= (V(vu))((((level & ~(level >> 31)) & ~above) | (above & 255)) << (8 * i));
    }
    return (V(vf))words;
#endif
}
#undef LANES
