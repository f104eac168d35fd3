/* Filter kernels for x86-64 with AVX-512 (F, BW, DQ, VL). */
#include "common.h"

#if defined(__AVX512F__) && defined(__AVX512BW__)
#define ISA avx512
#define MOST_LANES 16
#include "kernels.h"
#else
typedef int cs_no_avx512; /* an empty file is not C */
#endif
