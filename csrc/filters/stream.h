/* Rows from a staging buffer to the result, past the caches when the result is too large to stay in them. */
#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* A result of this size is on its way to memory anyway: a non-temporal store saves reading the line before writing it.
 * docs/decisions/0031 has the measurement. */
#define STREAM_BYTES (16 * 1024 * 1024)

static inline void stream_bytes(unsigned char *to, const unsigned char *from, int64_t count) {
#if defined(__SSE2__)
    const int64_t head = smaller(count, (int64_t)(-(uintptr_t)to & 63)), whole = (count - head) / 64 * 64;
    memcpy(to, from, (size_t)head);
    for (int64_t i = head; i < head + whole; i += 64) {
#if defined(__AVX512F__)
        _mm512_stream_si512((void *)(to + i), _mm512_loadu_si512((const void *)(from + i)));
#else
        for (int64_t k = i; k < i + 64; k += 16)
            _mm_stream_si128((void *)(to + k), _mm_loadu_si128((const void *)(from + k)));
#endif
    }
    memcpy(to + head + whole, from + head + whole, (size_t)(count - head - whole));
#else
    memcpy(to, from, (size_t)count);
#endif
}

/* Order the streamed stores before whatever the caller does next. */
static inline void stream_end(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
