/* codesign.h - the one header of the C core.
 *
 * The core knows nothing of Python. Its rules:
 *   - the caller owns all memory; no function allocates, prints, reads a clock or keeps state between calls;
 *   - inputs are const and come first, results come last, a cs_status is returned;
 *   - counts (cycles, words, bits) are int64_t and exact; a product that could wrap is refused with CS_ERR_OVERFLOW;
 *   - batches are structures of arrays: row i of every column belongs together.
 *
 * Everything between the two cdef marks is also what Python sees: the build slices it out and hands it to cffi.
 */
#ifndef CODESIGN_H
#define CODESIGN_H

#include <stddef.h>
#include <stdint.h>

/* cdef: begin */

/* Raised whenever a struct or a signature below changes; compared with the Python side at import. */
#define CS_ABI_VERSION 1

typedef enum {
    CS_OK = 0,
    CS_ERR_RANGE = 1,    /* a value outside its documented range; *bad_row names the row */
    CS_ERR_OVERFLOW = 2, /* a count would not fit in 55 bits */
    CS_ERR_CAPACITY = 3, /* the smallest tile does not fit into a buffer */
} cs_status;

/* The ABI version that this library was compiled with. */
int32_t cs_abi_version(void);

/* cdef: end */

#endif
