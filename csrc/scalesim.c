/* SCALE-Sim 3.0.0 to the cycle, in closed form where there is one. Its three known faults are kept on purpose. */
#include <stdbool.h>

#include "codesign.h"

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Words fetched of an operand of `words` distinct words that is scanned `passes` times through a buffer that is flushed
 * whole when it is full: once if it never fills, else every time. */
static int64_t cyclic(int64_t words, int64_t passes, int64_t buffer) {
    return words < buffer ? words : words * passes;
}

/* Output stationary filters: one block of columns after the other, each scanned once for every fold of rows. What is left
 * of the block before stays in the buffer until it fills; a flush in mid-block makes the second scan fetch what it lost. */
static int64_t filter_blocks(int64_t n, int64_t k, int64_t cols, int64_t passes, int64_t buffer) {
    int64_t reads = 0, held = 0;
    for (int64_t start = 0; start < n; start += cols) {
        const int64_t block = k * (n - start < cols ? n - start : cols);
        if (block >= buffer) {
            reads += block * passes;
            held = (held + block * passes) % buffer;
        } else if (held + block < buffer) {
            reads += block;
            held += block;
        } else {
            const int64_t before_flush = buffer - held;
            const bool again = passes > 1;
            reads += block + (again ? before_flush : 0);
            held = again ? block : block - before_flush;
        }
    }
    return reads;
}

cs_status cs_scalesim(const cs_scalesim_layers *layers, const cs_scalesim_counts *counts, size_t *bad_row) {
    for (size_t i = 0; i < layers->count; ++i) {
        *bad_row = i;
        const int64_t m = layers->m[i], n = layers->n[i], k = layers->k[i];
        const int64_t rows = layers->rows[i], cols = layers->cols[i];
        const int32_t dataflow = layers->dataflow[i];
        if (m < 1 || n < 1 || k < 1 || rows < 1 || cols < 1 || rows > 65536 || cols > 65536) return CS_ERR_RANGE;
        if (dataflow < CS_OS || dataflow > CS_IS) return CS_ERR_RANGE;
        if (layers->ifmap_buffer[i] < 1 || layers->filter_buffer[i] < 1 || layers->ofmap_buffer[i] < 1) {
            return CS_ERR_RANGE;
        }
        const double side = (double)rows + (double)rows + (double)cols;
        if (((double)m + side) * ((double)n + side) * ((double)k + side) >= 0x1p55) return CS_ERR_OVERFLOW;
        const int64_t m_side = dataflow == CS_IS ? cols : rows;
        const int64_t m_folds = ceil_div(m, m_side), n_folds = ceil_div(n, cols), k_folds = ceil_div(k, rows);
        int64_t folds = 0, length = 0, a_reads = 1, b_reads = 1, written = k_folds * m * n, edges = 0;
        switch (dataflow) {
            case CS_OS:
                folds = m_folds * n_folds, length = k + rows + cols - 2;
                a_reads = n_folds, b_reads = m_folds;
                written = m * n, edges = folds * (rows + cols); /* fault: boundary entries counted twice */
                break;
            case CS_WS:
                folds = k_folds * n_folds, length = m + 2 * rows + cols - 2;
                a_reads = n_folds;
                break;
            default:
                folds = k_folds * m_folds, length = n + 2 * rows + cols - 2;
                b_reads = m_folds;
                break;
        }
        counts->folds[i] = folds;
        counts->compute_cycles[i] = folds * length - 1; /* fault: the index of the last cycle, counted from 0 */
        counts->sram_ifmap_reads[i] = a_reads * m * k;
        counts->sram_filter_reads[i] = b_reads * k * n;
        counts->sram_ofmap_writes[i] = written + edges; /* fault: partial sums are never read back */
        counts->dram_ifmap_reads[i] = cyclic(m * k, a_reads, layers->ifmap_buffer[i]);
        counts->dram_filter_reads[i] =
            dataflow == CS_OS ? filter_blocks(n, k, cols, m_folds, layers->filter_buffer[i])
                              : cyclic(k * n, b_reads, layers->filter_buffer[i]);
        counts->dram_ofmap_writes[i] = written + (written > layers->ofmap_buffer[i] ? cols - 1 : 0);
    }
    return CS_OK;
}

/* The stream of ifmap words into the array, and the buffer that it passes through. */
typedef struct {
    const cs_scalesim_convolution *layer;
    int64_t out_cols, buffer;
    int32_t *seen; /* the flush after which a word was fetched */
    int32_t flush;
    int64_t held, reads;
} stream;

/* The word at (output pixel, window element) of the unrolled image; elements outside the image are not fetched. */
static void read_word(stream *s, int64_t pixel, int64_t element) {
    const cs_scalesim_convolution *layer = s->layer;
    const int64_t channel = element % layer->channels, tap = element / layer->channels;
    const int64_t row = pixel / s->out_cols * layer->stride + tap / layer->kernel_cols;
    const int64_t col = pixel % s->out_cols * layer->stride + tap % layer->kernel_cols;
    if (row >= layer->in_rows || col >= layer->in_cols) return;
    int32_t *seen = &s->seen[(row * layer->in_cols + col) * layer->channels + channel];
    if (*seen == s->flush) return;
    *seen = s->flush;
    ++s->reads;
    if (++s->held >= s->buffer) {
        s->held = 0;
        ++s->flush;
    }
}

/* Skewed lines of one fold: line t holds element t - r of stream r. */
static void read_fold(stream *s, int32_t dataflow, int64_t first, int64_t width, int64_t length) {
    for (int64_t t = 0; t < length + width - 1; ++t) {
        for (int64_t r = t < length ? 0 : t - length + 1; r < width && r <= t; ++r) {
            if (dataflow == CS_OS) read_word(s, first + r, t - r);
            else read_word(s, t - r, first + r);
        }
    }
}

cs_status cs_scalesim_ifmap(const cs_scalesim_convolution *layer, int32_t dataflow, int64_t rows, int64_t cols,
                            int64_t buffer, int32_t *scratch, size_t scratch_count, int64_t *reads) {
    if (layer->in_rows < 1 || layer->in_cols < 1 || layer->channels < 1 || layer->kernel_rows < 1 ||
        layer->kernel_cols < 1 || layer->stride < 1 || layer->filters < 1 || rows < 1 || cols < 1 || buffer < 1 ||
        dataflow < CS_OS || dataflow > CS_IS || layer->kernel_rows > layer->in_rows ||
        layer->kernel_cols > layer->in_cols) {
        return CS_ERR_RANGE;
    }
    if ((double)layer->in_rows * (double)layer->in_cols * (double)layer->channels > (double)scratch_count) {
        return CS_ERR_CAPACITY;
    }
    const int64_t words = layer->in_rows * layer->in_cols * layer->channels;
    for (int64_t i = 0; i < words; ++i) scratch[i] = -1;
    const int64_t out_rows = ceil_div(layer->in_rows - layer->kernel_rows + layer->stride, layer->stride);
    stream s = {.layer = layer,
                .out_cols = ceil_div(layer->in_cols - layer->kernel_cols + layer->stride, layer->stride),
                .buffer = buffer,
                .seen = scratch};
    const int64_t pixels = out_rows * s.out_cols;
    const int64_t elements = layer->kernel_rows * layer->kernel_cols * layer->channels;
    if ((double)pixels * (double)elements * (double)ceil_div(layer->filters, cols) >= 0x1p40) return CS_ERR_OVERFLOW;
    const int64_t passes = dataflow == CS_IS ? 1 : ceil_div(layer->filters, cols);
    for (int64_t pass = 0; pass < passes && (pass == 0 || s.flush > 0); ++pass) { /* never flushed: all is there */
        if (dataflow == CS_OS) {
            for (int64_t p = 0; p < pixels; p += rows) {
                read_fold(&s, dataflow, p, pixels - p < rows ? pixels - p : rows, elements);
            }
        } else if (dataflow == CS_WS) {
            for (int64_t e = 0; e < elements; e += rows) {
                read_fold(&s, dataflow, e, elements - e < rows ? elements - e : rows, pixels);
            }
        } else { /* loaded as a block, the last row first, since it has the longest way */
            for (int64_t p = 0; p < pixels; p += cols) {
                for (int64_t e = 0; e < elements; e += rows) {
                    const int64_t last = (elements - e < rows ? elements - e : rows) - 1;
                    for (int64_t r = last; r >= 0; --r) {
                        for (int64_t c = 0; c < cols && p + c < pixels; ++c) read_word(&s, p + c, e + r);
                    }
                }
            }
        }
    }
    *reads = s.reads;
    return CS_OK;
}
