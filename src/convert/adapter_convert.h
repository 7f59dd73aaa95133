/* Adapters from one format to the other, and several into one. */
#ifndef BB_ADAPTER_CONVERT_H
#define BB_ADAPTER_CONVERT_H

#include "files/adapter_file.h"

/* See bombus_adapter_convert and bombus_adapter_merge. */
BB_RESULT bombus_status bb_adapter_convert(const char *folder, enum bb_adapter_format format, const char *out_folder, bombus_error *error);
BB_RESULT bombus_status bb_adapter_merge(const char *const *folders, const float *weights, size_t count, const char *out_folder, bombus_error *error);

#endif
