/* What the filter kernels of every instruction set share: borders, rows with their borders, arenas of scratch memory.
 *
 * The kernels are written once, in GCC's vector extensions, and compiled once per instruction set by isa_*.c; this
 * header holds the parts without vectors. Positions, strides and lengths count elements unless the name says bytes.
 */
#ifndef CODESIGN_FILTERS_COMMON_H
#define CODESIGN_FILTERS_COMMON_H

#include <stdbool.h>
#include <string.h>

#include "filters.h"

/* Scratch memory is cut from the front, 64 bytes at a time, so that every piece starts on a cache line. */
typedef struct {
    unsigned char *next;
    int64_t left_bytes;
} arena;

static inline arena arena_of(void *memory, int64_t size_bytes) {
    const int64_t skip = (int64_t)(-(uintptr_t)memory & 63);
    return (arena){(unsigned char *)memory + skip, size_bytes - skip};
}

/* NULL once the arena is spent: the caller answers CS_FILTER_ERR_CAPACITY. */
static inline void *arena_take(arena *from, int64_t size_bytes) {
    const int64_t whole = (size_bytes + 63) / 64 * 64;
    unsigned char *piece = from->next;
    from->left_bytes -= whole;
    if (from->left_bytes < 0) return NULL;
    from->next += whole;
    return piece;
}

static inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Where position `at` of a line of `length` pixels is read; -1 is outside of a constant border. A reflection repeats. */
static inline int64_t border_index(int32_t border, int64_t at, int64_t length) {
    if (at >= 0 && at < length) return at;
    if (border == CS_BORDER_CONSTANT) return -1;
    if (border == CS_BORDER_REPLICATE || length == 1) return at < 0 ? 0 : length - 1;
    const int64_t once = border == CS_BORDER_REFLECT101 ? 1 : 0;     /* the edge pixel appears once */
    const int64_t period = 2 * length - 2 * once;
    int64_t folded = at % period;
    if (folded < 0) folded += period;
    return folded < length ? folded : period - 1 + once - folded;
}

/* border_index of the positions first .. first+count-1 that lie outside of the line; the others are left alone. */
static inline void fill_border_map(int32_t border, int64_t first, int64_t count, int64_t length, int64_t *map) {
    const int64_t before = smaller(count, larger(0, -first)), after = larger(before, smaller(count, length - first));
    for (int64_t i = 0; i < before; ++i) map[i] = border_index(border, first + i, length);
    for (int64_t i = after; i < count; ++i) map[i] = border_index(border, first + i, length);
}

/* Ask for `bytes` bytes that will be read some rows later: rows are too short for the processor to foresee the next
 * one. The address may lie outside of the image; asking does not read. */
static inline void fetch(uintptr_t from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const void *)(from + (uintptr_t)at));
}

static inline void fetch_to_write(uintptr_t from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const void *)(from + (uintptr_t)at), 1);
}

/* Rows ahead, so that about FETCH_BYTES are on their way (docs/decisions/0031). */
#define FETCH_BYTES 4096
static inline int64_t rows_ahead(int64_t width, int64_t pixel_bytes) { return FETCH_BYTES / (width * pixel_bytes) + 1; }

/* Whether a border map is one reflection: every position reads the pixel before the one of the position before. */
static inline bool turns_back(const int64_t *map, int64_t count) {
    return count > 0 && map[0] >= 0 && map[0] - map[count - 1] == count - 1;
}

/* to[i] = last[-i]. */
static inline void copy_reversed_u8(const uint8_t *last, int64_t count, uint8_t *to) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint32_t pixels;
        memcpy(&pixels, last - i - 3, 4);
        pixels = __builtin_bswap32(pixels);
        memcpy(to + i, &pixels, 4);
    }
    for (; i < count; ++i) to[i] = last[-i];
}

static inline void copy_reversed_f32(const float *last, int64_t count, float *to) {
    for (int64_t i = 0; i < count; ++i) to[i] = last[-i];
}

/* Copy `count` pixels of one row from position `first` on, borders included, to contiguous `line`.
 * `map` is fill_border_map's for the same positions; -1 gives zero. */
#define DEFINE_READ_LINE(SUFFIX, PIXEL)                                                                              \
    static inline void read_border_##SUFFIX(const PIXEL *row, int64_t step, int64_t count, const int64_t *map,       \
                                            PIXEL *line) {                                                           \
        if (step == 1 && turns_back(map, count)) copy_reversed_##SUFFIX(row + map[0], count, line);                  \
        else for (int64_t i = 0; i < count; ++i) line[i] = map[i] < 0 ? 0 : row[map[i] * step];                      \
    }                                                                                                                \
    static inline void read_line_##SUFFIX(const PIXEL *row, int64_t step, int64_t width, int64_t first,              \
                                          int64_t count, const int64_t *map, PIXEL *line) {                          \
        const int64_t inner = larger(0, smaller(count, -first));                                                     \
        const int64_t after = larger(inner, smaller(count, width - first));                                          \
        if (inner > 0) read_border_##SUFFIX(row, step, inner, map, line);                                            \
        const PIXEL *from = row + (first + inner) * step;                                                            \
        if (after > inner && step == 1) memcpy(line + inner, from, (size_t)(after - inner) * sizeof(PIXEL));         \
        else if (step == 3) for (int64_t i = 0; i < after - inner; ++i) line[inner + i] = from[3 * i];               \
        else for (int64_t i = 0; i < after - inner; ++i) line[inner + i] = from[i * step];                           \
        if (after < count) read_border_##SUFFIX(row, step, count - after, map + after, line + after);                \
    }
DEFINE_READ_LINE(u8, uint8_t)
DEFINE_READ_LINE(f32, float)
#undef DEFINE_READ_LINE

/* memcpy, the usual lengths without a call. */
static inline void copy_bytes(const void *from, int64_t count, void *to) {
    if (count == 64) memcpy(to, from, 64);
    else if (count == 32) memcpy(to, from, 32);
    else memcpy(to, from, (size_t)count);
}

/* The way back: contiguous pixels to pixels `step` apart. */
static inline void write_line_u8(const uint8_t *line, int64_t count, uint8_t *to, int64_t step) {
    if (step == 1) memcpy(to, line, (size_t)count);
    else for (int64_t i = 0; i < count; ++i) to[i * step] = line[i];
}

static inline void write_line_f32(const float *line, int64_t count, float *to, int64_t step) {
    if (step == 1) memcpy(to, line, (size_t)count * 4);
    else for (int64_t i = 0; i < count; ++i) to[i * step] = line[i];
}

#endif
