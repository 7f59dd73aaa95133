/* Checks of options that sessions and engines have alike. */
#include "generate/option_checks.h"

bombus_status bb_check_option(const char *option, int32_t value, int32_t minimum, int32_t maximum, bombus_error *error)
{
    if (value == 0 || (value >= minimum && value <= maximum))
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: %d, expected 0 (default) or a number in [%d, %d]", option, value,
                   minimum, maximum);
}

bombus_status bb_check_cache_options(int32_t kv_bits, int32_t kv_group_size, bombus_precision precision,
                                     bombus_error *error)
{
    if (kv_bits != 0 && kv_bits != 4 && kv_bits != 8)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "kv_bits: %d, expected 0 (not quantized), 4 or 8", kv_bits);
    if (kv_group_size != 0 && kv_group_size != 32 && kv_group_size != 64 && kv_group_size != 128)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "kv_group_size: %d, expected 0 (default), 32, 64 or 128",
                       kv_group_size);
    if (kv_group_size != 0 && kv_bits == 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "kv_group_size: %d, but the cache is not quantized: kv_bits is 0",
                       kv_group_size);
    if (precision != BOMBUS_PRECISION_FAST && precision != BOMBUS_PRECISION_EXACT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "precision: %d is not one of BOMBUS_PRECISION_...",
                       (int)precision);
    return BOMBUS_OK;
}
