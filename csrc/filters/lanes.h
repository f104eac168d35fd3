/* Vectors of LANES floats: included once per lane count, with LANES 4, 8 or 16. Every name ends in _x and the lane count.
 *
 * Phases. Sixteen neighbours along a row would have to be shifted against each other for a horizontal filter. Instead
 * 4*LANES pixels are held as four vectors: vector p has the pixels 4j + p, j = 0..LANES-1. The neighbour of phase p is
 * phase p+1 of the same lane, so that a horizontal filter on a row of phases is the vertical filter on four rows, and
 * one routine serves both. Bytes come apart by shifts of 32-bit words and go together again the same way.
 */
#undef JOIN_
#undef JOIN
#undef V
#undef SHUFFLE2
#define JOIN_(name, lanes) name##_x##lanes
#define JOIN(name, lanes) JOIN_(name, lanes)
#define V(name) JOIN(name, LANES)

typedef float V(vf) __attribute__((vector_size(4 * LANES)));
typedef int32_t V(vi) __attribute__((vector_size(4 * LANES)));
typedef uint32_t V(vu) __attribute__((vector_size(4 * LANES)));
typedef float V(vf_any) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t V(vu_any) __attribute__((vector_size(4 * LANES), aligned(1), may_alias));

#ifdef __clang__
#define SHUFFLE2(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE2(a, b, ...) __builtin_shuffle(a, b, (V(vi)){__VA_ARGS__})
#endif

#if LANES == 4
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#elif LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

static inline V(vf) V(load)(const float *from) { return *(const V(vf_any) *)from; }
static inline void V(store)(float *to, V(vf) value) { *(V(vf_any) *)to = value; }
static inline V(vf) V(all)(float value) { return value - (V(vf)){0}; }

/* 4*LANES bytes to four phases. */
static inline void V(split_u8)(const uint8_t *from, V(vf) phase[4]) {
    const V(vu) words = *(const V(vu_any) *)from;
    phase[0] = __builtin_convertvector((V(vi))(words & 255), V(vf));
    phase[1] = __builtin_convertvector((V(vi))((words >> 8) & 255), V(vf));
    phase[2] = __builtin_convertvector((V(vi))((words >> 16) & 255), V(vf));
    phase[3] = __builtin_convertvector((V(vi))(words >> 24), V(vf));
}

/* 4*LANES floats to four phases, and back. */
static inline void V(split_f32)(const float *from, V(vf) phase[4]) {
    const V(vf) a = V(load)(from), b = V(load)(from + LANES);
    const V(vf) c = V(load)(from + 2 * LANES), d = V(load)(from + 3 * LANES);
    const V(vf) even_ab = SHUFFLE2(a, b, EVEN), odd_ab = SHUFFLE2(a, b, ODD);
    const V(vf) even_cd = SHUFFLE2(c, d, EVEN), odd_cd = SHUFFLE2(c, d, ODD);
    phase[0] = SHUFFLE2(even_ab, even_cd, EVEN);
    phase[2] = SHUFFLE2(even_ab, even_cd, ODD);
    phase[1] = SHUFFLE2(odd_ab, odd_cd, EVEN);
    phase[3] = SHUFFLE2(odd_ab, odd_cd, ODD);
}

static inline void V(join_f32)(const V(vf) phase[4], float *to) {
    const V(vf) even_low = SHUFFLE2(phase[0], phase[2], LOW), even_high = SHUFFLE2(phase[0], phase[2], HIGH);
    const V(vf) odd_low = SHUFFLE2(phase[1], phase[3], LOW), odd_high = SHUFFLE2(phase[1], phase[3], HIGH);
    V(store)(to, SHUFFLE2(even_low, odd_low, LOW));
    V(store)(to + LANES, SHUFFLE2(even_low, odd_low, HIGH));
    V(store)(to + 2 * LANES, SHUFFLE2(even_high, odd_high, LOW));
    V(store)(to + 3 * LANES, SHUFFLE2(even_high, odd_high, HIGH));
}

/* The first or the last halves of two vectors, alternating. */
static inline V(vf) V(interleave_low)(V(vf) a, V(vf) b) { return SHUFFLE2(a, b, LOW); }
static inline V(vf) V(interleave_high)(V(vf) a, V(vf) b) { return SHUFFLE2(a, b, HIGH); }

/* Round to nearest, halves up; what rounds outside of 0..255 is for the caller to exclude. */
static inline V(vu) V(round_u8)(V(vf) value) { return (V(vu))__builtin_convertvector(value + 0.5f, V(vi)); }

#undef EVEN
#undef ODD
#undef LOW
#undef HIGH
