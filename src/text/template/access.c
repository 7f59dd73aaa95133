/* Looking into values: attributes, items, slices, with jinja2's fallbacks from one to the other and the sandbox's refusals. */
#include "text/template/ast.h"
#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/functions.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/undefined.h"

#include <string.h>

static struct bb_value missing(struct bb_work *work, struct bb_value owner, struct bb_value name)
{
    return bb_value_undefined(work, NULL, bb_value_owner_name(owner), name);
}

static struct bb_value loop_attribute(struct bb_work *work, struct bb_loop *loop, const struct bb_text *name)
{
    int64_t index = (int64_t)loop->index, count = (int64_t)loop->items.count;
    const struct {
        const char *name;
        struct bb_value value;
    } attributes[] = {
        {"index", bb_value_int(index + 1)},        {"index0", bb_value_int(index)},
        {"revindex", bb_value_int(count - index)}, {"revindex0", bb_value_int(count - index - 1)},
        {"first", bb_value_bool(index == 0)},      {"last", bb_value_bool(index + 1 == count)},
        {"length", bb_value_int(count)},           {"depth", bb_value_int(loop->depth + 1)},
        {"depth0", bb_value_int(loop->depth)},
    };
    for (size_t i = 0; i < BB_COUNT(attributes); i++)
        if (bb_text_equals(name, attributes[i].name))
            return attributes[i].value;
    if (bb_text_equals(name, "previtem"))
        return index > 0 ? loop->items.items[index - 1]
                         : bb_value_undefined(work, "there is no previous item", NULL, BB_NONE);
    if (bb_text_equals(name, "nextitem"))
        return index + 1 < count ? loop->items.items[index + 1]
                                 : bb_value_undefined(work, "there is no next item", NULL, BB_NONE);
    return BB_MISSING;
}

static struct bb_value macro_attribute(struct bb_work *work, const struct bb_node *node, const struct bb_text *name)
{
    struct bb_list_builder names = {.work = work};
    if (bb_text_equals(name, "name"))
        return node->kind == BB_NODE_MACRO ? node->constant : BB_NONE;
    if (bb_text_equals(name, "catch_kwargs") || bb_text_equals(name, "catch_varargs") || bb_text_equals(name, "caller"))
        return bb_value_bool(name->bytes[6] == 'k'                            ? node->uses_kwargs
                             : name->bytes[0] == 'c' && name->bytes[2] == 't' ? node->uses_varargs
                                                                              : node->uses_caller);
    if (!bb_text_equals(name, "arguments"))
        return BB_MISSING;
    for (const struct bb_node *parameter = node->second; parameter != NULL; parameter = parameter->next)
        bb_list_add(&names, parameter->constant);
    return bb_list_finish(&names, BB_VALUE_TUPLE);
}

/* What Python's getattr gives: MISSING if there is no such attribute. */
static struct bb_value python_attribute(struct bb_work *work, struct bb_value value, struct bb_value name)
{
    struct bb_value found = BB_MISSING;
    if (value.kind == BB_VALUE_LOOP)
        found = loop_attribute(work, value.loop, name.text);
    else if (value.kind == BB_VALUE_MACRO)
        found = macro_attribute(work, value.macro->node, name.text);
    else if (value.kind == BB_VALUE_RANGE && bb_text_equals(name.text, "start"))
        found = bb_value_int(value.range->start);
    else if (value.kind == BB_VALUE_RANGE && bb_text_equals(name.text, "stop"))
        found = bb_value_int(value.range->stop);
    else if (value.kind == BB_VALUE_RANGE && bb_text_equals(name.text, "step"))
        found = bb_value_int(value.range->step);
    else if (value.kind == BB_VALUE_CYCLER && bb_text_equals(name.text, "current"))
        found = value.cycler->items->items[value.cycler->next];
    else if (value.kind == BB_VALUE_TUPLE && value.list->is_group &&
             (bb_text_equals(name.text, "grouper") || bb_text_equals(name.text, "list")))
        found = value.list->items[name.text->bytes[0] == 'l'];
    else if (value.kind == BB_VALUE_NAMESPACE) {
        const struct bb_value *held = bb_dict_find(work, value.names, name);
        return held != NULL ? *held : BB_MISSING;
    }
    return found.kind != BB_VALUE_MISSING || work->status != BOMBUS_OK ? found : bb_find_method(work, value, name);
}

/* Where `index` (negative: from the end) lies in `count` elements; false if outside. */
static bool place_index(struct bb_value index, size_t count, size_t *place)
{
    if (!bb_value_is_integer(index))
        return false;
    int64_t i = bb_value_to_integer(index);
    if (i < 0)
        i += (int64_t)count;
    *place = (size_t)i;
    return i >= 0 && (uint64_t)i < count;
}

/* What Python's value[index] gives: MISSING for a LookupError or TypeError. */
static struct bb_value python_item(struct bb_work *work, struct bb_value value, struct bb_value index)
{
    size_t place;
    const struct bb_value *found;
    switch (value.kind) {
    case BB_VALUE_LIST:
    case BB_VALUE_TUPLE: return place_index(index, value.list->count, &place) ? value.list->items[place] : BB_MISSING;
    case BB_VALUE_TEXT:
        if (!place_index(index, value.text->count, &place))
            return BB_MISSING;
        if (value.text->count != value.text->length && !bb_work_scan(work, place))
            return BB_NONE;
        place = bb_code_offset(value.text, place);
        size_t length;
        bb_code_read(value.text->bytes + place, &length);
        return bb_value_part(work, value.text, place, place + length);
    case BB_VALUE_DICT:
        if (index.kind == BB_VALUE_LIST || index.kind == BB_VALUE_DICT)
            return BB_MISSING;
        found = bb_dict_find(work, value.dict, index);
        return found != NULL ? *found : BB_MISSING;
    case BB_VALUE_RANGE:
        return place_index(index, (size_t)value.range->count, &place)
                   ? bb_value_int(value.range->start + (int64_t)place * value.range->step)
                   : BB_MISSING;
    default: return BB_MISSING;
    }
}

struct bb_value bb_value_attribute(struct bb_work *work, struct bb_value value, struct bb_value name)
{
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, value);
    struct bb_value found = python_attribute(work, value, name);
    if (found.kind == BB_VALUE_MISSING && work->status == BOMBUS_OK)
        found = python_item(work, value, name);
    return found.kind == BB_VALUE_MISSING && work->status == BOMBUS_OK ? missing(work, value, name) : found;
}

struct bb_value bb_value_item(struct bb_work *work, struct bb_value value, struct bb_value index)
{
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, value);
    struct bb_value found = python_item(work, value, index);
    if (found.kind == BB_VALUE_MISSING && index.kind == BB_VALUE_TEXT && work->status == BOMBUS_OK)
        found = python_attribute(work, value, index);
    return found.kind == BB_VALUE_MISSING && work->status == BOMBUS_OK ? missing(work, value, index) : found;
}

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
