/* Text values, made at once or piece by piece. */
#include "text/template/builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct bb_value bb_value_part(struct bb_work *work, const struct bb_text *text, size_t begin, size_t end)
{
    struct bb_text *part = bb_work_allocate(work, 1, sizeof *part);
    if (part == NULL || !bb_work_scan(work, end - begin))
        return BB_NONE;
    part->bytes = text->bytes + begin;
    part->length = end - begin;
    part->count = text->count == text->length ? part->length : bb_code_count(part->bytes, part->length);
    part->is_markup = text->is_markup;
    return (struct bb_value){.kind = BB_VALUE_TEXT, .text = part};
}

struct bb_value bb_value_text(struct bb_work *work, const char *bytes, size_t length)
{
    struct bb_text *text = bb_work_allocate(work, 1, sizeof *text);
    char *copy = length > 0 ? bb_work_allocate(work, length, 1) : "";
    if (text == NULL || copy == NULL)
        return BB_NONE;
    if (length > 0)
        memcpy(copy, bytes, length);
    text->bytes = copy;
    text->length = length;
    text->count = bb_code_count(copy, length);
    return (struct bb_value){.kind = BB_VALUE_TEXT, .text = text};
}

struct bb_value bb_value_string(struct bb_work *work, const char *text)
{
    return bb_value_text(work, text, strlen(text));
}

struct bb_value bb_value_markup(struct bb_work *work, struct bb_value text)
{
    if (work->status != BOMBUS_OK || text.kind != BB_VALUE_TEXT || text.text->is_markup)
        return text;
    struct bb_text *copy = bb_work_allocate(work, 1, sizeof *copy);
    if (copy == NULL)
        return BB_NONE;
    *copy = *text.text;
    copy->is_markup = true;
    return (struct bb_value){.kind = BB_VALUE_TEXT, .text = copy};
}

/* ---- piece by piece ---- */

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
