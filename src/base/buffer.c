/* A growing run of bytes. */
#include "base/buffer.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>

bool bb_buffer_reserve(struct bb_buffer *buffer, size_t extra)
{
    size_t needed;
    if (buffer->is_failed)
        return false;
    if (!bb_add_size(buffer->length, extra, &needed) || !bb_add_size(needed, 1, &needed)) {
        buffer->is_failed = true;
        return false;
    }
    if (needed <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : 64;
    while (capacity < needed && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    if (capacity < needed)
        capacity = needed;
    char *data = bb_resize(buffer->data, capacity, 1);
    if (data == NULL) {
        buffer->is_failed = true;
        return false;
    }
    if (buffer->data == NULL)
        data[0] = '\0';
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void bb_buffer_add(struct bb_buffer *buffer, const void *bytes, size_t count)
{
    if (!bb_buffer_reserve(buffer, count))
        return;
    if (count > 0)
        memcpy(buffer->data + buffer->length, bytes, count);
    buffer->length += count;
    buffer->data[buffer->length] = '\0';
}

void bb_buffer_add_text(struct bb_buffer *buffer, const char *text)
{
    bb_buffer_add(buffer, text, strlen(text));
}

void bb_buffer_add_byte(struct bb_buffer *buffer, char byte)
{
    bb_buffer_add(buffer, &byte, 1);
}

void bb_buffer_format(struct bb_buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        buffer->is_failed = true;
    else if (bb_buffer_reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
}

char *bb_buffer_take(struct bb_buffer *buffer, size_t *length)
{
    bb_buffer_reserve(buffer, 0);
    if (buffer->is_failed) {
        bb_buffer_clear(buffer);
        return NULL;
    }
    char *data = buffer->data;
    if (length != NULL)
        *length = buffer->length;
    *buffer = (struct bb_buffer){0};
    return data;
}

void bb_buffer_clear(struct bb_buffer *buffer)
{
    bb_release(buffer->data);
    *buffer = (struct bb_buffer){0};
}
