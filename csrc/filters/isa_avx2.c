/* Filter kernels for x86-64 with AVX2 and FMA. */
#include "common.h"

#if defined(__AVX2__) && defined(__FMA__)
#define ISA avx2
#define MOST_LANES 8
#include "kernels.h"
#else
typedef int cs_no_avx2; /* an empty file is not C */
#endif
