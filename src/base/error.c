/* The one error type of the house and the one way to make it. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message cut in the middle of a UTF-8 character would be invalid text: drop the character's beginning. */
static void trim_partial_character(char *message, size_t capacity)
{
    size_t length = strlen(message);
    if (length + 1 < capacity)
        return;
    while (length > 0 && ((unsigned char)message[length - 1] & 0xC0) == 0x80)
        length--;
    if (length > 0 && (unsigned char)message[length - 1] >= 0xC0)
        length--;
    message[length] = '\0';
}

static bombus_status fill(bombus_error *error, bombus_status status, int32_t line, int32_t column, const char *format,
                          va_list arguments)
{
    if (error == NULL)
        return status;
    error->status = status;
    error->line = line;
    error->column = column;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    trim_partial_character(error->message, sizeof error->message);
    return status;
}

bombus_status bb_fail(bombus_error *error, bombus_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, 0, 0, format, arguments);
    va_end(arguments);
    return status;
}

bombus_status bb_fail_at(bombus_error *error, bombus_status status, int32_t line, int32_t column, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fill(error, status, line, column, format, arguments);
    va_end(arguments);
    return status;
}

bombus_status bb_fail_memory(bombus_error *error, size_t bytes, const char *what)
{
    return bb_fail(error, BOMBUS_ERROR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}

bombus_status bb_fail_io(bombus_error *error, int errno_value, const char *what, const char *path)
{
    char text[128];
    bombus_status status = errno_value == ENOENT ? BOMBUS_ERROR_NOT_FOUND : BOMBUS_ERROR_IO;
    if (strerror_r(errno_value, text, sizeof text) != 0)
        snprintf(text, sizeof text, "error %d", errno_value);
    return bb_fail(error, status, "%s: %s: %s", path, what, text);
}

const char *bombus_status_name(bombus_status status)
{
    switch (status) {
    case BOMBUS_OK: return "BOMBUS_OK";
    case BOMBUS_ERROR_ARGUMENT: return "BOMBUS_ERROR_ARGUMENT";
    case BOMBUS_ERROR_MEMORY: return "BOMBUS_ERROR_MEMORY";
    case BOMBUS_ERROR_IO: return "BOMBUS_ERROR_IO";
    case BOMBUS_ERROR_NOT_FOUND: return "BOMBUS_ERROR_NOT_FOUND";
    case BOMBUS_ERROR_FORMAT: return "BOMBUS_ERROR_FORMAT";
    case BOMBUS_ERROR_UNSUPPORTED: return "BOMBUS_ERROR_UNSUPPORTED";
    case BOMBUS_ERROR_MISMATCH: return "BOMBUS_ERROR_MISMATCH";
    case BOMBUS_ERROR_CONTEXT_FULL: return "BOMBUS_ERROR_CONTEXT_FULL";
    case BOMBUS_ERROR_LIMIT: return "BOMBUS_ERROR_LIMIT";
    case BOMBUS_ERROR_NETWORK: return "BOMBUS_ERROR_NETWORK";
    case BOMBUS_ERROR_CANCELLED: return "BOMBUS_ERROR_CANCELLED";
    case BOMBUS_ERROR_TEMPLATE: return "BOMBUS_ERROR_TEMPLATE";
    case BOMBUS_ERROR_DIVERGED: return "BOMBUS_ERROR_DIVERGED";
    }
    return "BOMBUS_ERROR_UNKNOWN";
}
