/* Every kernel, for the instruction set ISA and MOST_LANES. */
#include "dispatch.h"
#include "stream.h"

#define KERNEL__(name, isa) cs_##name##_##isa
#define KERNEL_(name, isa) KERNEL__(name, isa)
#define KERNEL(name) KERNEL_(name, ISA)

/* The ring of float rows shares a 32 KiB first-level cache with a row of phases. */
#define RING_BYTES (40 * 1024)

/* Rows of equal length would start in the same cache banks; one line more sets them apart. */
#define ROW_SKEW 16

#define LANES 4
#include "lanes.h"
#include "fir_lanes.h"
#undef LANES
#if MOST_LANES >= 8
#define LANES 8
#include "lanes.h"
#include "fir_lanes.h"
#undef LANES
#endif
#if MOST_LANES >= 16
#define LANES 16
#include "lanes.h"
#include "fir_lanes.h"
#undef LANES
#endif

#include "fir.h"
#include "turn.h"
#include "small.h"
#if MOST_LANES >= 8
#include "fixed.h"
#endif
#include "bilateral.h"
#include "slide.h"
#include "box.h"
#include "box_floats.h"
