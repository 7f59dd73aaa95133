/* Memory, work, errors and text under construction of one compilation or rendering. */
#include "text/template/work.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SCAN_BYTES_PER_STEP = 64 };

void bb_template_limits_fill(struct bb_template_limits *limits, const struct bb_template_limits *given)
{
    *limits = given != NULL ? *given : (struct bb_template_limits){0};
    if (limits->steps == 0)
        limits->steps = 20 * 1000 * 1000;
    if (limits->output_bytes == 0)
        limits->output_bytes = (size_t)64 << 20;
    if (limits->memory_bytes == 0)
        limits->memory_bytes = (size_t)256 << 20;
    if (limits->depth <= 0)
        limits->depth = 100;
}

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

/* True if `count` more bytes stay within the limits; else an error. */
static bool fits(struct bb_builder *builder, size_t count)
{
    struct bb_work *work = builder->work;
    if (work->status != BOMBUS_OK)
        return false;
    if (!builder->is_result) {
        if (!bb_work_charge_memory(work, count))
            return false;
        work->memory_used -= count;
    } else if (count > work->limits.output_bytes || builder->buffer.length > work->limits.output_bytes - count) {
        bb_raise_status(work, BOMBUS_ERROR_LIMIT, "the template's output is longer than its limit of %zu bytes",
                        work->limits.output_bytes);
        return false;
    }
    return true;
}

void bb_build(struct bb_builder *builder, const void *bytes, size_t count)
{
    struct bb_work *work = builder->work;
    if (count == 0 || !fits(builder, count))
        return;
    if (!builder->is_result)
        work->memory_used += count;
    bb_buffer_add(&builder->buffer, bytes, count);
    if (builder->buffer.is_failed)
        work->status = bb_fail_memory(work->error, builder->buffer.length + count, "a template's text");
}

void bb_build_string(struct bb_builder *builder, const char *text)
{
    bb_build(builder, text, strlen(text));
}

void bb_build_byte(struct bb_builder *builder, char byte)
{
    bb_build(builder, &byte, 1);
}

void bb_build_repeated(struct bb_builder *builder, const struct bb_text *text, int64_t count)
{
    char chunk[1024];
    size_t total, copies = 0;
    if (text->length == 0 || count <= 0)
        return;
    /* Refused before the first byte is written if it is too much; short text goes in chunks. */
    if (!bb_multiply_size(text->length, (size_t)count, &total))
        total = SIZE_MAX;
    if (!fits(builder, total))
        return;
    for (; (copies + 1) * text->length <= sizeof chunk && copies < (size_t)count; copies++)
        memcpy(chunk + copies * text->length, text->bytes, text->length);
    for (; copies > 1 && (size_t)count >= copies && builder->work->status == BOMBUS_OK; count -= (int64_t)copies)
        bb_build(builder, chunk, copies * text->length);
    for (; count > 0 && builder->work->status == BOMBUS_OK; count--)
        bb_build(builder, text->bytes, text->length);
}

void bb_build_code(struct bb_builder *builder, uint32_t code)
{
    char bytes[4];
    bb_build(builder, bytes, bb_code_write(bytes, code));
}

void bb_build_format(struct bb_builder *builder, const char *format, ...)
{
    char text[501];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    bb_build_string(builder, text);
}

void bb_build_span(struct bb_builder *builder, size_t begin, size_t end)
{
    if (builder->span_count == builder->span_capacity) {
        size_t capacity = builder->span_capacity > 0 ? builder->span_capacity * 2 : 8;
        bombus_span *spans = bb_work_allocate(builder->work, capacity, sizeof *spans);
        if (spans == NULL)
            return;
        if (builder->span_count > 0)
            memcpy(spans, builder->spans, builder->span_count * sizeof *spans);
        builder->spans = spans;
        builder->span_capacity = capacity;
    }
    builder->spans[builder->span_count++] = (bombus_span){begin, end};
}

void bb_build_drop(struct bb_builder *builder)
{
    if (!builder->is_result)
        builder->work->memory_used -= builder->buffer.length;
    bb_buffer_clear(&builder->buffer);
    builder->span_count = 0;
}

struct bb_value bb_build_finish(struct bb_builder *builder)
{
    struct bb_work *work = builder->work;
    struct bb_value result = BB_NONE;
    if (work->status == BOMBUS_OK) {
        /* Given back first: the copy takes the place of the builder's bytes. */
        work->memory_used -= builder->buffer.length;
        result = bb_value_text(work, builder->buffer.data, builder->buffer.length);
        work->memory_used += builder->buffer.length;
        if (work->status == BOMBUS_OK && builder->span_count > 0) {
            struct bb_text *text = (struct bb_text *)result.text;
            text->spans = builder->spans;
            text->span_count = builder->span_count;
        }
    }
    bb_build_drop(builder);
    return result;
}
