/* A growing run of bytes. Zeroed struct = empty buffer. */
#ifndef BB_BUFFER_H
#define BB_BUFFER_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>

struct bb_buffer {
    char *data; /* NUL behind `length` once anything was added, so that it can serve as text */
    size_t length, capacity;
    bool is_failed; /* memory ran out: later calls do nothing; check once at the end */
};

bool bb_buffer_reserve(struct bb_buffer *buffer, size_t extra); /* room for `extra` more bytes and a NUL */
void bb_buffer_add(struct bb_buffer *buffer, const void *bytes, size_t count);
void bb_buffer_add_text(struct bb_buffer *buffer, const char *text);
void bb_buffer_add_byte(struct bb_buffer *buffer, char byte);
void bb_buffer_format(struct bb_buffer *buffer, const char *format, ...) BB_PRINTF(2, 3);
/* Hands the bytes (never NULL unless is_failed) to the caller, who releases them; the buffer is empty then. */
char *bb_buffer_take(struct bb_buffer *buffer, size_t *length);
void bb_buffer_clear(struct bb_buffer *buffer);

#endif
