/* How fast this machine reads main memory: the limit of generation. */
#ifndef BB_BANDWIDTH_H
#define BB_BANDWIDTH_H

#include "base/compiler.h"
#include "base/error.h"

/* See bombus_measure_bandwidth. */
BB_RESULT bombus_status bb_measure_bandwidth(double *bytes_per_second, int32_t thread_count, size_t bytes,
                                             double seconds, bombus_error *error);

#endif
