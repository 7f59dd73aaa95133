/* value[start:stop:step] of text, lists and ranges. */
#include "text/template/slice.h"

#include "text/template/builder.h"
#include "text/template/list.h"
#include "text/template/undefined.h"

/* Python's slice.indices for one end. */
static bool slice_end(struct bb_work *work, struct bb_value given, int64_t count, bool is_backward, int64_t missing_end,
                      int64_t *end)
{
    *end = missing_end;
    if (given.kind == BB_VALUE_NONE)
        return true;
    if (given.kind == BB_VALUE_LONG)
        *end = given.text->bytes[0] == '-' ? INT64_MIN / 2 : INT64_MAX / 2;
    else if (bb_value_is_integer(given))
        *end = bb_value_to_integer(given);
    else {
        bb_raise(work, "slice indices must be integers or None or have an __index__ method");
        return false;
    }
    int64_t low = is_backward ? -1 : 0, high = is_backward ? count - 1 : count;
    if (*end < 0)
        *end = *end < -count ? low : *end + count;
    if (*end > high)
        *end = high;
    return true;
}

static size_t next_offset(const struct bb_text *text, size_t offset, bool is_forward)
{
    do
        offset = is_forward ? offset + 1 : offset - 1;
    while (offset < text->length && ((unsigned char)text->bytes[offset] & 0xC0) == 0x80);
    return offset;
}

static struct bb_value slice_text(struct bb_work *work, const struct bb_text *text, int64_t start, int64_t step,
                                  int64_t count)
{
    if (step == 1) {
        size_t begin = bb_code_offset(text, (size_t)start), end = bb_code_offset(text, (size_t)(start + count));
        return bb_work_scan(work, text->length) ? bb_value_part(work, text, begin, end) : BB_NONE;
    }
    struct bb_builder result = {.work = work};
    size_t offset = bb_code_offset(text, (size_t)start), length;
    for (int64_t i = 0; i < count && bb_work_step(work, 1); i++) {
        bb_code_read(text->bytes + offset, &length);
        bb_build(&result, text->bytes + offset, length);
        /* Code point by code point to the next one wanted. */
        for (int64_t moved = 0; moved < (step < 0 ? -step : step) && i + 1 < count; moved++)
            offset = next_offset(text, offset, step > 0);
    }
    struct bb_value value = bb_build_finish(&result);
    return text->is_markup ? bb_value_markup(work, value) : value;
}

static struct bb_value slice_range(struct bb_work *work, const struct bb_range *range, int64_t start, int64_t step,
                                   int64_t count)
{
    struct bb_range *result = bb_work_allocate(work, 1, sizeof *result);
    if (result == NULL)
        return BB_NONE;
    result->count = count;
    if (__builtin_mul_overflow(range->step, step, &result->step) ||
        __builtin_mul_overflow(range->step, start, &result->start) ||
        __builtin_add_overflow(range->start, result->start, &result->start) ||
        __builtin_mul_overflow(result->step, count, &result->stop) ||
        __builtin_add_overflow(result->start, result->stop, &result->stop))
        return bb_raise(work, "integer overflow: the part of a range does not fit 64 bits");
    return (struct bb_value){.kind = BB_VALUE_RANGE, .range = result};
}

struct bb_value bb_value_slice(struct bb_work *work, struct bb_value value, struct bb_value start, struct bb_value stop,
                               struct bb_value step)
{
    struct bb_value ends[3] = {start, stop, step};
    size_t length = 0;
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, value);
    for (size_t i = 0; i < 3; i++)
        if (ends[i].kind == BB_VALUE_UNDEFINED)
            return bb_raise(work, "slice indices must be integers or None or have an __index__ method");
    if (value.kind != BB_VALUE_LIST && value.kind != BB_VALUE_TUPLE && value.kind != BB_VALUE_TEXT &&
        value.kind != BB_VALUE_RANGE)
        return value.kind == BB_VALUE_DICT
                   ? bb_raise(work, "unhashable type: 'slice'")
                   : bb_raise(work, "'%s' object is not subscriptable", bb_value_type_name(value));
    if (!bb_value_length(work, value, &length))
        return BB_NONE;
    int64_t count = (int64_t)length, by = step.kind == BB_VALUE_NONE  ? 1
                                          : bb_value_is_integer(step) ? bb_value_to_integer(step)
                                                                      : count + 1;
    if (step.kind != BB_VALUE_NONE && !bb_value_is_integer(step))
        return bb_raise(work, "slice indices must be integers or None or have an __index__ method");
    if (by == 0)
        return bb_raise(work, "slice step cannot be zero");
    if (by > count + 1)
        by = count + 1; /* farther than the end is all the same */
    if (by < -count - 1)
        by = -count - 1;
    int64_t from, to;
    if (!slice_end(work, start, count, by < 0, by < 0 ? count - 1 : 0, &from) ||
        !slice_end(work, stop, count, by < 0, by < 0 ? -1 : count, &to))
        return BB_NONE;
    int64_t taken = by > 0 ? (to > from ? (to - from - 1) / by + 1 : 0) : (to < from ? (from - to - 1) / -by + 1 : 0);
    if (value.kind == BB_VALUE_RANGE)
        return slice_range(work, value.range, from, by, taken);
    if (value.kind == BB_VALUE_TEXT)
        return slice_text(work, value.text, taken > 0 ? from : 0, by, taken);
    struct bb_list_builder items = {.work = work};
    for (int64_t i = 0; i < taken && work->status == BOMBUS_OK; i++)
        bb_list_add(&items, value.list->items[from + i * by]);
    return bb_list_finish(&items, value.kind);
}
