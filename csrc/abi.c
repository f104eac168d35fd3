#include "codesign.h"

int32_t cs_abi_version(void) { return CS_ABI_VERSION; }
