/* Memory, work and errors of one compilation or rendering. */
#include "text/template/work.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SCAN_BYTES_PER_STEP = 64 };

bool bb_work_charge_memory(struct bb_work *work, size_t bytes)
{
    if (work->status != BOMBUS_OK)
        return false;
    if (bytes > work->limits.memory_bytes || work->memory_used > work->limits.memory_bytes - bytes) {
        bb_raise_status(work, BOMBUS_ERROR_LIMIT, "the template uses more memory than its limit of %zu bytes",
                        work->limits.memory_bytes);
        return false;
    }
    work->memory_used += bytes;
    return true;
}

void *bb_work_allocate(struct bb_work *work, size_t count, size_t size)
{
    size_t bytes;
    if (!bb_multiply_size(count, size, &bytes))
        bytes = SIZE_MAX;
    if (!bb_work_charge_memory(work, bytes))
        return NULL;
    void *memory = bb_arena_allocate(&work->arena, count, size);
    if (memory == NULL && work->status == BOMBUS_OK)
        work->status = bb_fail_memory(work->error, bytes, "a template's values");
    return memory;
}

bool bb_work_step(struct bb_work *work, uint64_t steps)
{
    if (work->status != BOMBUS_OK)
        return false;
    if (steps > work->limits.steps || work->steps > work->limits.steps - steps) {
        bb_raise_status(work, BOMBUS_ERROR_LIMIT, "the template takes more steps than its limit of %" PRIu64,
                        work->limits.steps);
        return false;
    }
    work->steps += steps;
    return true;
}

bool bb_work_scan(struct bb_work *work, size_t bytes)
{
    return bb_work_step(work, 1 + bytes / SCAN_BYTES_PER_STEP);
}

bool bb_work_enter(struct bb_work *work)
{
    if (work->status != BOMBUS_OK)
        return false;
    if (work->nesting >= BB_NESTING_PER_DEPTH * work->limits.depth) {
        bb_raise_status(work, BOMBUS_ERROR_LIMIT,
                        "values or calls are nested more deeply than the template's limit allows");
        return false;
    }
    work->nesting++;
    return true;
}

void bb_work_leave(struct bb_work *work)
{
    work->nesting--;
}

void bb_find_place(const char *source, size_t length, size_t offset, int32_t *line, int32_t *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < offset && i < length; i++) {
        if (source[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)source[i] & 0xC0) != 0x80) {
            ++*column;
        }
    }
}

static struct bb_value raise_message(struct bb_work *work, bombus_status status, const char *message)
{
    if (work->status == BOMBUS_OK) {
        int32_t line, column;
        bb_find_place(work->source, work->source_length, work->place, &line, &column);
        work->status = bb_fail_at(work->error, status, line, column, "%s", message);
    }
    return BB_NONE;
}

struct bb_value bb_raise(struct bb_work *work, const char *format, ...)
{
    char message[sizeof work->error->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return raise_message(work, BOMBUS_ERROR_TEMPLATE, message);
}

struct bb_value bb_raise_status(struct bb_work *work, bombus_status status, const char *format, ...)
{
    char message[sizeof work->error->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return raise_message(work, status, message);
}

struct bb_value bb_raise_text(struct bb_work *work, const struct bb_text *message)
{
    /* One byte more than fits, so that bb_fail_at cuts at a whole character. */
    char text[sizeof work->error->message + 1];
    size_t length = message->length < sizeof text - 1 ? message->length : sizeof text - 1;
    memcpy(text, message->bytes, length);
    text[length] = '\0';
    return raise_message(work, BOMBUS_ERROR_TEMPLATE, text);
}
