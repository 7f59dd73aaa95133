/* Checks of options that sessions and engines have alike; each error names its option. */
#ifndef BB_OPTION_CHECKS_H
#define BB_OPTION_CHECKS_H

#include "base/error.h"

/* 0, which stands for the default, or a number in [minimum, maximum]. */
BB_RESULT bombus_status bb_check_option(const char *option, int32_t value, int32_t minimum, int32_t maximum, bombus_error *error);

/* How keys and values are kept, and in which precision is computed. */
BB_RESULT bombus_status bb_check_cache_options(int32_t kv_bits, int32_t kv_group_size, bombus_precision precision,
                                               bombus_error *error);

#endif
