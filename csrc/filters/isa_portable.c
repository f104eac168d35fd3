/* Filter kernels for the instruction set that the compiler assumes: SSE2 on x86-64, NEON on aarch64, or scalar code. */
#include "common.h"

#define ISA portable
#define MOST_LANES 4
#include "kernels.h"
