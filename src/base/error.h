/* The one error type of the house and the one way to make it. */
#ifndef BB_ERROR_H
#define BB_ERROR_H

#include "base/compiler.h"
#include "bombus.h"

/* Fills *error (may be NULL) with a formatted message, and returns `status`. Too long a message is cut at a whole character. */
bombus_status bb_fail(bombus_error *error, bombus_status status, const char *format, ...) BB_PRINTF(3, 4);

/* The same with a 1-based place in a text. */
bombus_status bb_fail_at(bombus_error *error, bombus_status status, int32_t line, int32_t column, const char *format, ...)
    BB_PRINTF(5, 6);

/* "out of memory: `bytes` bytes for `what`" */
bombus_status bb_fail_memory(bombus_error *error, size_t bytes, const char *what);

/* BOMBUS_ERROR_IO (NOT_FOUND for ENOENT) with `what`, `path` and strerror(errno_value). */
bombus_status bb_fail_io(bombus_error *error, int errno_value, const char *what, const char *path);

#endif
