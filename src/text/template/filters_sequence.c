/* Filters of sequences. */
#include "text/template/access.h"
#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/call.h"
#include "text/template/compare.h"
#include "text/template/functions.h"
#include "text/template/list.h"
#include "text/template/operators.h"
#include "text/template/repr.h"
#include "text/template/slice.h"
#include "text/template/sort.h"
#include "text/template/text.h"
#include "text/template/undefined.h"

#include <string.h>

#define FILTER(name)                                                                                                   \
    static struct bb_value filter_##name(struct bb_work *work, struct bb_value value, const struct bb_value *bound,    \
                                         const struct bb_arguments *arguments)

static bool is_set(struct bb_work *work, struct bb_value flag)
{
    return flag.kind != BB_VALUE_MISSING && bb_value_is_true(work, flag);
}

static struct bb_value list_value(struct bb_work *work, struct bb_list list)
{
    return bb_value_list(work, BB_VALUE_LIST, list.items, list.count);
}

static struct bb_value generator(struct bb_list_builder *items)
{
    return bb_value_iterator(items->work, "generator", (struct bb_list){.items = items->items, .count = items->count});
}

/* Text in lower case, other values as they are. */
static struct bb_value ignore_case(struct bb_work *work, struct bb_value value)
{
    return value.kind == BB_VALUE_TEXT ? bb_text_case(work, value.text, BB_CASE_LOWER) : value;
}

static struct bb_value path_part(struct bb_work *work, const struct bb_text *path, size_t begin, size_t end)
{
    int64_t index = 0;
    bool is_index = end > begin && end - begin < 18;
    for (size_t i = begin; i < end && is_index; i++) {
        is_index = path->bytes[i] >= '0' && path->bytes[i] <= '9';
        index = index * 10 + (path->bytes[i] - '0');
    }
    return is_index ? bb_value_int(index) : bb_value_part(work, path, begin, end);
}

/* item.a.0.b for the path "a.0.b"; `attribute` MISSING or none: the item itself. */
static struct bb_value get_path(struct bb_work *work, struct bb_value item, struct bb_value attribute,
                                struct bb_value missing)
{
    if (attribute.kind == BB_VALUE_MISSING || attribute.kind == BB_VALUE_NONE)
        return item;
    if (attribute.kind != BB_VALUE_TEXT) {
        item = bb_value_item(work, item, attribute);
        return item.kind == BB_VALUE_UNDEFINED && missing.kind > BB_VALUE_NONE ? missing : item;
    }
    const struct bb_text *path = attribute.text;
    for (size_t begin = 0, end; begin <= path->length && bb_work_step(work, 1); begin = end + 1) {
        const char *dot = memchr(path->bytes + begin, '.', path->length - begin);
        end = dot != NULL ? (size_t)(dot - path->bytes) : path->length;
        struct bb_value part = path_part(work, path, begin, end);
        item = work->status == BOMBUS_OK ? bb_value_item(work, item, part) : BB_NONE;
        if (item.kind == BB_VALUE_UNDEFINED && missing.kind > BB_VALUE_NONE)
            item = missing;
    }
    return item;
}

/* ---- order ---- */

/* The sort key of one item: a list of its attributes ("a,b"), also if it is only one, since equal elements of lists need no order. */
static struct bb_value sort_key(struct bb_work *work, struct bb_value item, struct bb_value attribute, bool has_case)
{
    struct bb_list_builder key = {.work = work};
    if (attribute.kind != BB_VALUE_TEXT) {
        struct bb_value value = get_path(work, item, attribute, BB_NONE);
        bb_list_add(&key, has_case ? value : ignore_case(work, value));
        return bb_list_finish(&key, BB_VALUE_LIST);
    }
    const struct bb_text *paths = attribute.text;
    for (size_t begin = 0, end; begin <= paths->length && work->status == BOMBUS_OK; begin = end + 1) {
        const char *comma = memchr(paths->bytes + begin, ',', paths->length - begin);
        end = comma != NULL ? (size_t)(comma - paths->bytes) : paths->length;
        struct bb_value path = bb_value_part(work, paths, begin, end);
        struct bb_value value = work->status == BOMBUS_OK ? get_path(work, item, path, BB_NONE) : BB_NONE;
        bb_list_add(&key, has_case ? value : ignore_case(work, value));
    }
    return bb_list_finish(&key, BB_VALUE_LIST);
}

static struct bb_value sort_by(struct bb_work *work, struct bb_list items, struct bb_value attribute, bool has_case,
                               bool is_reverse)
{
    struct bb_list_builder sorted = {.work = work}, keys = {.work = work};
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        bb_list_add(&sorted, items.items[i]);
        bb_list_add(&keys, sort_key(work, items.items[i], attribute, has_case));
    }
    if (work->status == BOMBUS_OK)
        bb_value_sort(work, sorted.items, keys.items, sorted.count, is_reverse);
    return bb_list_finish(&sorted, BB_VALUE_LIST);
}

FILTER(sort)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    return sort_by(work, items, bound[2], is_set(work, bound[1]), is_set(work, bound[0]));
}

FILTER(dictsort)
{
    (void)arguments;
    bool by_value = bound[1].kind == BB_VALUE_TEXT && bb_text_equals(bound[1].text, "value");
    if (!by_value && bound[1].kind != BB_VALUE_MISSING &&
        (bound[1].kind != BB_VALUE_TEXT || !bb_text_equals(bound[1].text, "key")))
        return bb_raise(work, "You can only sort by either \"key\" or \"value\"");
    if (value.kind != BB_VALUE_DICT)
        return value.kind == BB_VALUE_UNDEFINED
                   ? bb_raise_undefined(work, value)
                   : bb_raise(work, "'%s' object has no attribute 'items'", bb_value_type_name(value));
    struct bb_view view = {value.dict, BB_VIEW_ITEMS};
    struct bb_list items = bb_value_iterate(work, (struct bb_value){.kind = BB_VALUE_VIEW, .view = &view});
    return sort_by(work, items, bb_value_int(by_value), is_set(work, bound[0]), is_set(work, bound[2]));
}

static struct bb_value extreme(struct bb_work *work, struct bb_value value, const struct bb_value *bound, bool is_max)
{
    struct bb_list items = bb_value_iterate(work, value);
    if (work->status == BOMBUS_OK && items.count == 0)
        return bb_value_undefined(work, "No aggregated item, sequence was empty.", NULL, BB_NONE);
    bool has_case = is_set(work, bound[0]);
    struct bb_value best = BB_NONE, best_key = BB_NONE;
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        struct bb_value key = get_path(work, items.items[i], bound[1], BB_NONE);
        key = has_case ? key : ignore_case(work, key);
        if (i > 0 && (work->status != BOMBUS_OK ||
                      bb_value_compare(work, key, best_key, is_max ? ">" : "<") != (is_max ? 1 : -1)))
            continue;
        best = items.items[i];
        best_key = key;
    }
    return best;
}

FILTER(min)
{
    (void)arguments;
    return extreme(work, value, bound, false);
}
FILTER(max)
{
    (void)arguments;
    return extreme(work, value, bound, true);
}

FILTER(unique)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_dict *seen = bb_dict_create(work);
    struct bb_list_builder kept = {.work = work};
    bool has_case = is_set(work, bound[0]);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        struct bb_value key = get_path(work, items.items[i], bound[1], BB_NONE);
        key = has_case ? key : ignore_case(work, key);
        size_t before = seen->count;
        if (work->status == BOMBUS_OK)
            bb_dict_set(work, seen, key, BB_NONE);
        if (seen->count > before)
            bb_list_add(&kept, items.items[i]);
    }
    return generator(&kept);
}

FILTER(reverse)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_TEXT)
        return bb_value_slice(work, value, BB_NONE, BB_NONE, bb_value_int(-1));
    if (!bb_value_is_iterable(value))
        return bb_raise(work, "argument must be iterable");
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_list_builder reversed = {.work = work};
    for (size_t i = items.count; i > 0 && work->status == BOMBUS_OK; i--)
        bb_list_add(&reversed, items.items[i - 1]);
    if (value.kind == BB_VALUE_ITERATOR || value.kind == BB_VALUE_UNDEFINED)
        return bb_list_finish(&reversed, BB_VALUE_LIST);
    return bb_value_iterator(work, value.kind == BB_VALUE_LIST ? "list_reverseiterator" : "reversed",
                             (struct bb_list){.items = reversed.items, .count = reversed.count});
}

/* ---- parts ---- */

FILTER(first)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_ITERATOR && value.iterator->next < value.iterator->items.count)
        return value.iterator->items.items[value.iterator->next++];
    if (value.kind == BB_VALUE_TEXT) /* its head is enough */
        value = bb_value_slice(work, value, BB_NONE, bb_value_int(1), BB_NONE);
    struct bb_list items = bb_value_iterate(work, value);
    if (work->status == BOMBUS_OK && items.count == 0)
        return bb_value_undefined(work, "No first item, sequence was empty.", NULL, BB_NONE);
    return work->status == BOMBUS_OK ? items.items[0] : BB_NONE;
}

FILTER(last)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_TEXT && value.text->length > 0)
        return bb_value_item(work, value, bb_value_int(-1));
    if (value.kind == BB_VALUE_ITERATOR)
        return bb_raise(work, "'%s' object is not reversible", value.iterator->type_name);
    if (!bb_value_is_iterable(value))
        return bb_raise(work, "'%s' object is not reversible", bb_value_type_name(value));
    struct bb_list items = bb_value_iterate(work, value);
    if (work->status == BOMBUS_OK && items.count == 0)
        return bb_value_undefined(work, "No last item, sequence was empty.", NULL, BB_NONE);
    return work->status == BOMBUS_OK ? items.items[items.count - 1] : BB_NONE;
}

FILTER(length)
{
    (void)bound, (void)arguments;
    size_t length;
    return bb_value_length(work, value, &length) ? bb_value_int((int64_t)length) : BB_NONE;
}

FILTER(list)
{
    (void)bound, (void)arguments;
    return list_value(work, bb_value_iterate(work, value));
}

FILTER(items)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_value_iterator(work, "generator", (struct bb_list){0});
    if (value.kind != BB_VALUE_DICT)
        return bb_raise(work, "Can only get item pairs from a mapping.");
    struct bb_view view = {value.dict, BB_VIEW_ITEMS};
    return bb_value_iterator(work, "generator",
                             bb_value_iterate(work, (struct bb_value){.kind = BB_VALUE_VIEW, .view = &view}));
}

FILTER(batch)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_list_builder batches = {.work = work}, batch = {.work = work};
    int64_t size = bb_require_integer(work, bound[0], 0);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        if ((int64_t)batch.count == size) {
            bb_list_add(&batches, bb_list_finish(&batch, BB_VALUE_LIST));
            batch = (struct bb_list_builder){.work = work};
        }
        bb_list_add(&batch, items.items[i]);
    }
    bool fills = bound[1].kind != BB_VALUE_MISSING && bound[1].kind != BB_VALUE_NONE;
    while (fills && batch.count > 0 && (int64_t)batch.count < size && work->status == BOMBUS_OK)
        bb_list_add(&batch, bound[1]);
    if (batch.count > 0)
        bb_list_add(&batches, bb_list_finish(&batch, BB_VALUE_LIST));
    return generator(&batches);
}

FILTER(slice)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_list_builder slices = {.work = work};
    int64_t count = bb_require_integer(work, bound[0], 1), length = (int64_t)items.count, begin = 0;
    bool fills = bound[1].kind != BB_VALUE_MISSING && bound[1].kind != BB_VALUE_NONE;
    if (work->status == BOMBUS_OK && count == 0)
        return bb_raise(work, "integer division or modulo by zero");
    for (int64_t i = 0; i < count && bb_work_step(work, 1); i++) {
        int64_t end = begin + length / count + (i < length % count);
        struct bb_list_builder slice = {.work = work};
        for (int64_t j = begin; j < end; j++)
            bb_list_add(&slice, items.items[j]);
        if (fills && i >= length % count)
            bb_list_add(&slice, bound[1]);
        bb_list_add(&slices, bb_list_finish(&slice, BB_VALUE_LIST));
        begin = end;
    }
    return generator(&slices);
}

FILTER(join)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_builder result = {.work = work};
    struct bb_value separator = bound[0].kind != BB_VALUE_MISSING ? bb_value_to_text(work, bound[0]) : BB_MISSING;
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        if (i > 0 && separator.kind == BB_VALUE_TEXT)
            bb_build(&result, separator.text->bytes, separator.text->length);
        struct bb_value item = get_path(work, items.items[i], bound[1], BB_NONE);
        if (work->status == BOMBUS_OK)
            bb_build_value(&result, item);
    }
    return bb_build_finish(&result);
}

FILTER(sum)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_value total = bound[1].kind != BB_VALUE_MISSING ? bound[1] : bb_value_int(0);
    if (total.kind == BB_VALUE_TEXT)
        return bb_raise(work, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        struct bb_value item = get_path(work, items.items[i], bound[0], BB_NONE);
        if (work->status == BOMBUS_OK)
            total = bb_value_arithmetic(work, 0, total, item);
    }
    return total;
}

FILTER(groupby)
{
    (void)arguments;
    struct bb_list items = bb_value_iterate(work, value);
    struct bb_list_builder sorted = {.work = work}, keys = {.work = work}, groups = {.work = work},
                           group = {.work = work};
    bool has_case = is_set(work, bound[2]);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        struct bb_value key = get_path(work, items.items[i], bound[0], bound[1]);
        bb_list_add(&sorted, items.items[i]);
        bb_list_add(&keys, has_case ? key : ignore_case(work, key));
    }
    if (work->status == BOMBUS_OK)
        bb_value_sort(work, sorted.items, keys.items, sorted.count, false);
    for (size_t i = 0; i < sorted.count && work->status == BOMBUS_OK; i++) {
        bb_list_add(&group, sorted.items[i]);
        if (i + 1 < sorted.count && bb_value_is_equal(work, keys.items[i], keys.items[i + 1]))
            continue;
        struct bb_value key = group.count > 0 ? get_path(work, group.items[0], bound[0], bound[1]) : BB_NONE;
        struct bb_value members = bb_list_finish(&group, BB_VALUE_LIST);
        bb_list_add(&groups, bb_value_group(work, key, members));
        group = (struct bb_list_builder){.work = work};
    }
    return bb_list_finish(&groups, BB_VALUE_LIST);
}

/* ---- each item through a filter or test ---- */

static struct bb_arguments without_first(const struct bb_arguments *arguments, size_t count)
{
    struct bb_arguments rest = *arguments;
    rest.values += count;
    rest.count -= count;
    return rest;
}

static struct bb_value keyword(const struct bb_arguments *arguments, const char *name)
{
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (bb_text_equals(arguments->keywords[i].name.text, name))
            return arguments->keywords[i].value;
    return BB_MISSING;
}

FILTER(map)
{
    (void)bound;
    struct bb_list_builder mapped = {.work = work};
    struct bb_value attribute = arguments->count == 0 ? keyword(arguments, "attribute") : BB_MISSING;
    struct bb_value missing = keyword(arguments, "default");
    if (!bb_value_is_true(work, value))
        return generator(&mapped);
    struct bb_list items = bb_value_iterate(work, value);
    if (attribute.kind == BB_VALUE_MISSING && arguments->count == 0)
        return bb_raise(work, "map requires a filter argument");
    for (size_t i = 0; i < arguments->keyword_count && attribute.kind != BB_VALUE_MISSING; i++)
        if (!bb_text_equals(arguments->keywords[i].name.text, "attribute") &&
            !bb_text_equals(arguments->keywords[i].name.text, "default"))
            return bb_raise(work, "Unexpected keyword argument %s", bb_repr_string(work, arguments->keywords[i].name));
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        if (attribute.kind != BB_VALUE_MISSING) {
            bb_list_add(&mapped, get_path(work, items.items[i], attribute, missing));
            continue;
        }
        struct bb_arguments rest = without_first(arguments, 1);
        bb_list_add(&mapped, bb_call_filter(work, arguments->values[0], items.items[i], &rest));
    }
    return generator(&mapped);
}

static struct bb_value choose(struct bb_work *work, struct bb_value value, const struct bb_arguments *arguments,
                              bool by_attribute, bool keeps)
{
    struct bb_list_builder kept = {.work = work};
    size_t test = by_attribute;
    if (!bb_value_is_true(work, value))
        return generator(&kept);
    if (by_attribute && arguments->count == 0)
        return bb_raise(work, "Missing parameter for attribute name");
    struct bb_list items = bb_value_iterate(work, value);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        struct bb_value tested =
            by_attribute ? get_path(work, items.items[i], arguments->values[0], BB_NONE) : items.items[i];
        if (work->status != BOMBUS_OK)
            break;
        bool holds;
        if (arguments->count > test) {
            struct bb_arguments rest = without_first(arguments, test + 1);
            holds = bb_call_test(work, arguments->values[test], tested, &rest);
        } else {
            holds = bb_value_is_true(work, tested);
        }
        if (holds == keeps)
            bb_list_add(&kept, items.items[i]);
    }
    return generator(&kept);
}

FILTER(select)
{
    (void)bound;
    return choose(work, value, arguments, false, true);
}
FILTER(reject)
{
    (void)bound;
    return choose(work, value, arguments, false, false);
}
FILTER(selectattr)
{
    (void)bound;
    return choose(work, value, arguments, true, true);
}
FILTER(rejectattr)
{
    (void)bound;
    return choose(work, value, arguments, true, false);
}

const struct bb_function bb_sequence_filters[] = {
    {"batch", "linecount fill_with?", filter_batch, {0}},
    {"count", "", filter_length, {0}},
    {"dictsort", "case_sensitive? by? reverse?", filter_dictsort, {0}},
    {"first", "", filter_first, {0}},
    {"groupby", "attribute default? case_sensitive?", filter_groupby, {0}},
    {"items", "", filter_items, {0}},
    {"join", "d? attribute?", filter_join, {0}},
    {"last", "", filter_last, {0}},
    {"length", "", filter_length, {0}},
    {"list", "", filter_list, {0}},
    {"map", NULL, filter_map, {0}},
    {"max", "case_sensitive? attribute?", filter_max, {0}},
    {"min", "case_sensitive? attribute?", filter_min, {0}},
    {"reject", NULL, filter_reject, {0}},
    {"rejectattr", NULL, filter_rejectattr, {0}},
    {"reverse", "", filter_reverse, {0}},
    {"select", NULL, filter_select, {0}},
    {"selectattr", NULL, filter_selectattr, {0}},
    {"slice", "slices fill_with?", filter_slice, {0}},
    {"sort", "reverse? case_sensitive? attribute?", filter_sort, {0}},
    {"sum", "attribute? start?", filter_sum, {0}},
    {"unique", "case_sensitive? attribute?", filter_unique, {0}},
    {NULL, NULL, NULL, {0}},
};
