/* The list of instruction sets. */
#ifndef BB_KERNELS_H
#define BB_KERNELS_H

#include "backend/cpu/kernels/kernel.h"
#include "base/error.h"

/* Fills *kernels with the best that this machine runs, or with all up to the level named (NULL or "auto": the best). A name that this build or
 * machine does not have is BOMBUS_ERROR_UNSUPPORTED, with the usable ones listed. */
BB_RESULT bombus_status bb_kernels_choose(struct bb_kernels *kernels, const char *level, bombus_error *error);

/* Names of the levels that this machine runs, lowest first; NULL behind the last. */
const char *bb_kernels_level_name(int32_t index);

#endif
