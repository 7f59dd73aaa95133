/* Filters of sequences. */
#include "text/template/functions.h"

#include <string.h>

#define FILTER(name) static struct bb_value filter_##name(struct bb_run *run, struct bb_value value, const struct bb_value *bound, \
                                                          const struct bb_arguments *arguments)

static bool is_set(struct bb_run *run, struct bb_value flag)
{
    return flag.kind != BB_VALUE_MISSING && bb_is_true(run, flag);
}

static struct bb_value list_value(struct bb_run *run, struct bb_list list)
{
    return bb_value_list(run, BB_VALUE_LIST, list.items, list.count);
}

static struct bb_value generator(struct bb_list_builder *items)
{
    return bb_value_iterator(items->run, "generator", (struct bb_list){ .items = items->items, .count = items->count });
}

/* Text in lower case, other values as they are. */
static struct bb_value ignore_case(struct bb_run *run, struct bb_value value)
{
    return value.kind == BB_VALUE_TEXT ? bb_text_case(run, value.text, BB_CASE_LOWER) : value;
}

static struct bb_value path_part(struct bb_run *run, const struct bb_text *path, size_t begin, size_t end)
{
    int64_t index = 0;
    bool is_index = end > begin && end - begin < 18;
    for (size_t i = begin; i < end && is_index; i++) {
        is_index = path->bytes[i] >= '0' && path->bytes[i] <= '9';
        index = index * 10 + (path->bytes[i] - '0');
    }
    return is_index ? bb_value_int(index) : bb_value_part(run, path, begin, end);
}

/* item.a.0.b for the path "a.0.b"; `attribute` MISSING or none: the item itself. */
static struct bb_value get_path(struct bb_run *run, struct bb_value item, struct bb_value attribute, struct bb_value missing)
{
    if (attribute.kind == BB_VALUE_MISSING || attribute.kind == BB_VALUE_NONE)
        return item;
    if (attribute.kind != BB_VALUE_TEXT) {
        item = bb_get_item(run, item, attribute);
        return item.kind == BB_VALUE_UNDEFINED && missing.kind > BB_VALUE_NONE ? missing : item;
    }
    const struct bb_text *path = attribute.text;
    for (size_t begin = 0, end; begin <= path->length && bb_run_step(run, 1); begin = end + 1) {
        const char *dot = memchr(path->bytes + begin, '.', path->length - begin);
        end = dot != NULL ? (size_t)(dot - path->bytes) : path->length;
        struct bb_value part = path_part(run, path, begin, end);
        item = run->status == BOMBUS_OK ? bb_get_item(run, item, part) : BB_NONE;
        if (item.kind == BB_VALUE_UNDEFINED && missing.kind > BB_VALUE_NONE)
            item = missing;
    }
    return item;
}

/* ---- order ---- */

/* Merges the sorted runs [low, middle) and [middle, high) of order into `merged`. */
static void merge(struct bb_run *run, const struct bb_value *keys, const size_t *order, size_t *merged, size_t low, size_t middle,
                  size_t high, bool is_reverse)
{
    size_t left = low, right = middle;
    for (size_t i = low; i < high; i++) {
        bool takes_right = left == middle;
        if (!takes_right && right < high && run->status == BOMBUS_OK)
            takes_right = is_reverse ? bb_compare(run, keys[order[left]], keys[order[right]], "<") == -1
                                     : bb_compare(run, keys[order[right]], keys[order[left]], "<") == -1;
        merged[i] = takes_right ? order[right++] : order[left++];
    }
}

void bb_sort(struct bb_run *run, struct bb_value *items, struct bb_value *keys, size_t count, bool is_reverse)
{
    size_t *order = bb_run_allocate(run, count, sizeof *order), *merged = bb_run_allocate(run, count, sizeof *merged);
    struct bb_value *sorted = bb_run_allocate(run, count, sizeof *sorted);
    if (order == NULL || merged == NULL || sorted == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t width = 1; width < count && run->status == BOMBUS_OK; width *= 2) {
        for (size_t low = 0; low < count; low += 2 * width) {
            size_t middle = low + width < count ? low + width : count, high = low + 2 * width < count ? low + 2 * width : count;
            merge(run, keys, order, merged, low, middle, high, is_reverse);
        }
        size_t *swapped = order;
        order = merged;
        merged = swapped;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = items[order[i]];
    memcpy(items, sorted, count * sizeof *items);
    for (size_t i = 0; i < count; i++)
        sorted[i] = keys[order[i]];
    memcpy(keys, sorted, count * sizeof *keys);
}

/* The sort key of one item: for several attributes ("a,b") a list of them. */
static struct bb_value sort_key(struct bb_run *run, struct bb_value item, struct bb_value attribute, bool has_case)
{
    struct bb_list_builder key = { .run = run };
    if (attribute.kind != BB_VALUE_TEXT || memchr(attribute.text->bytes, ',', attribute.text->length) == NULL) {
        struct bb_value value = get_path(run, item, attribute, BB_NONE);
        return has_case ? value : ignore_case(run, value);
    }
    const struct bb_text *paths = attribute.text;
    for (size_t begin = 0, end; begin <= paths->length && run->status == BOMBUS_OK; begin = end + 1) {
        const char *comma = memchr(paths->bytes + begin, ',', paths->length - begin);
        end = comma != NULL ? (size_t)(comma - paths->bytes) : paths->length;
        struct bb_value path = bb_value_part(run, paths, begin, end);
        struct bb_value value = run->status == BOMBUS_OK ? get_path(run, item, path, BB_NONE) : BB_NONE;
        bb_list_add(&key, has_case ? value : ignore_case(run, value));
    }
    return bb_list_finish(&key, BB_VALUE_LIST);
}

static struct bb_value sort_by(struct bb_run *run, struct bb_list items, struct bb_value attribute, bool has_case, bool is_reverse)
{
    struct bb_list_builder sorted = { .run = run }, keys = { .run = run };
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        bb_list_add(&sorted, items.items[i]);
        bb_list_add(&keys, sort_key(run, items.items[i], attribute, has_case));
    }
    if (run->status == BOMBUS_OK)
        bb_sort(run, sorted.items, keys.items, sorted.count, is_reverse);
    return bb_list_finish(&sorted, BB_VALUE_LIST);
}

FILTER(sort)
{
    (void)arguments;
    struct bb_list items = bb_iterate(run, value);
    return sort_by(run, items, bound[2], is_set(run, bound[1]), is_set(run, bound[0]));
}

FILTER(dictsort)
{
    (void)arguments;
    bool by_value = bound[1].kind == BB_VALUE_TEXT && bb_text_equals(bound[1].text, "value");
    if (!by_value && bound[1].kind != BB_VALUE_MISSING && (bound[1].kind != BB_VALUE_TEXT || !bb_text_equals(bound[1].text, "key")))
        return bb_raise(run, "You can only sort by either \"key\" or \"value\"");
    if (value.kind != BB_VALUE_DICT)
        return value.kind == BB_VALUE_UNDEFINED ? bb_raise_undefined(run, value)
                                                : bb_raise(run, "'%s' object has no attribute 'items'", bb_type_name(value));
    struct bb_view view = { value.dict, BB_VIEW_ITEMS };
    struct bb_list items = bb_iterate(run, (struct bb_value){ .kind = BB_VALUE_VIEW, .view = &view });
    return sort_by(run, items, bb_value_int(by_value), is_set(run, bound[0]), is_set(run, bound[2]));
}

static struct bb_value extreme(struct bb_run *run, struct bb_value value, const struct bb_value *bound, bool is_max)
{
    struct bb_list items = bb_iterate(run, value);
    if (run->status == BOMBUS_OK && items.count == 0)
        return bb_value_undefined(run, "No aggregated item, sequence was empty.", NULL, BB_NONE);
    bool has_case = is_set(run, bound[0]);
    struct bb_value best = BB_NONE, best_key = BB_NONE;
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        struct bb_value key = get_path(run, items.items[i], bound[1], BB_NONE);
        key = has_case ? key : ignore_case(run, key);
        if (i > 0 && (run->status != BOMBUS_OK || bb_compare(run, key, best_key, is_max ? ">" : "<") != (is_max ? 1 : -1)))
            continue;
        best = items.items[i];
        best_key = key;
    }
    return best;
}

FILTER(min) { (void)arguments; return extreme(run, value, bound, false); }
FILTER(max) { (void)arguments; return extreme(run, value, bound, true); }

FILTER(unique)
{
    (void)arguments;
    struct bb_list items = bb_iterate(run, value);
    struct bb_dict *seen = bb_dict_create(run);
    struct bb_list_builder kept = { .run = run };
    bool has_case = is_set(run, bound[0]);
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        struct bb_value key = get_path(run, items.items[i], bound[1], BB_NONE);
        key = has_case ? key : ignore_case(run, key);
        size_t before = seen->count;
        if (run->status == BOMBUS_OK)
            bb_dict_set(run, seen, key, BB_NONE);
        if (seen->count > before)
            bb_list_add(&kept, items.items[i]);
    }
    return generator(&kept);
}

FILTER(reverse)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_TEXT)
        return bb_get_slice(run, value, BB_NONE, BB_NONE, bb_value_int(-1));
    if (!bb_is_iterable(value))
        return bb_raise(run, "argument must be iterable");
    struct bb_list items = bb_iterate(run, value);
    struct bb_list_builder reversed = { .run = run };
    for (size_t i = items.count; i > 0 && run->status == BOMBUS_OK; i--)
        bb_list_add(&reversed, items.items[i - 1]);
    if (value.kind == BB_VALUE_ITERATOR || value.kind == BB_VALUE_UNDEFINED)
        return bb_list_finish(&reversed, BB_VALUE_LIST);
    return bb_value_iterator(run, value.kind == BB_VALUE_LIST ? "list_reverseiterator" : "reversed",
                             (struct bb_list){ .items = reversed.items, .count = reversed.count });
}

/* ---- parts ---- */

FILTER(first)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_ITERATOR && value.iterator->next < value.iterator->items.count)
        return value.iterator->items.items[value.iterator->next++];
    if (value.kind == BB_VALUE_TEXT && value.text->length > 0)
        return bb_get_item(run, value, bb_value_int(0));
    struct bb_list items = bb_iterate(run, value);
    if (run->status == BOMBUS_OK && items.count == 0)
        return bb_value_undefined(run, "No first item, sequence was empty.", NULL, BB_NONE);
    return run->status == BOMBUS_OK ? items.items[0] : BB_NONE;
}

FILTER(last)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_TEXT && value.text->length > 0)
        return bb_get_item(run, value, bb_value_int(-1));
    if (value.kind == BB_VALUE_ITERATOR)
        return bb_raise(run, "'%s' object is not reversible", value.iterator->type_name);
    if (!bb_is_iterable(value))
        return bb_raise(run, "'%s' object is not reversible", bb_type_name(value));
    struct bb_list items = bb_iterate(run, value);
    if (run->status == BOMBUS_OK && items.count == 0)
        return bb_value_undefined(run, "No last item, sequence was empty.", NULL, BB_NONE);
    return run->status == BOMBUS_OK ? items.items[items.count - 1] : BB_NONE;
}

FILTER(length)
{
    (void)bound, (void)arguments;
    size_t length;
    return bb_length(run, value, &length) ? bb_value_int((int64_t)length) : BB_NONE;
}

FILTER(list)
{
    (void)bound, (void)arguments;
    return list_value(run, bb_iterate(run, value));
}

FILTER(items)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_value_iterator(run, "generator", (struct bb_list){0});
    if (value.kind != BB_VALUE_DICT)
        return bb_raise(run, "Can only get item pairs from a mapping.");
    struct bb_view view = { value.dict, BB_VIEW_ITEMS };
    return bb_value_iterator(run, "generator", bb_iterate(run, (struct bb_value){ .kind = BB_VALUE_VIEW, .view = &view }));
}

FILTER(batch)
{
    (void)arguments;
    struct bb_list items = bb_iterate(run, value);
    struct bb_list_builder batches = { .run = run }, batch = { .run = run };
    int64_t size = bb_require_integer(run, bound[0], 0);
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        if ((int64_t)batch.count == size) {
            bb_list_add(&batches, bb_list_finish(&batch, BB_VALUE_LIST));
            batch = (struct bb_list_builder){ .run = run };
        }
        bb_list_add(&batch, items.items[i]);
    }
    bool fills = bound[1].kind != BB_VALUE_MISSING && bound[1].kind != BB_VALUE_NONE;
    while (fills && batch.count > 0 && (int64_t)batch.count < size && run->status == BOMBUS_OK)
        bb_list_add(&batch, bound[1]);
    if (batch.count > 0)
        bb_list_add(&batches, bb_list_finish(&batch, BB_VALUE_LIST));
    return generator(&batches);
}

FILTER(slice)
{
    (void)arguments;
    struct bb_list items = bb_iterate(run, value);
    struct bb_list_builder slices = { .run = run };
    int64_t count = bb_require_integer(run, bound[0], 1), length = (int64_t)items.count, begin = 0;
    bool fills = bound[1].kind != BB_VALUE_MISSING && bound[1].kind != BB_VALUE_NONE;
    if (run->status == BOMBUS_OK && count == 0)
        return bb_raise(run, "integer division or modulo by zero");
    for (int64_t i = 0; i < count && bb_run_step(run, 1); i++) {
        int64_t end = begin + length / count + (i < length % count);
        struct bb_list_builder slice = { .run = run };
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
    struct bb_list items = bb_iterate(run, value);
    struct bb_builder result = { .run = run };
    struct bb_value separator = bound[0].kind != BB_VALUE_MISSING ? bb_to_text(run, bound[0]) : BB_MISSING;
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        if (i > 0 && separator.kind == BB_VALUE_TEXT)
            bb_build(&result, separator.text->bytes, separator.text->length);
        struct bb_value item = get_path(run, items.items[i], bound[1], BB_NONE);
        if (run->status == BOMBUS_OK)
            bb_build_value(&result, item);
    }
    return bb_build_finish(&result);
}

FILTER(sum)
{
    (void)arguments;
    struct bb_list items = bb_iterate(run, value);
    struct bb_value total = bound[1].kind != BB_VALUE_MISSING ? bound[1] : bb_value_int(0);
    if (total.kind == BB_VALUE_TEXT)
        return bb_raise(run, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        struct bb_value item = get_path(run, items.items[i], bound[0], BB_NONE);
        if (run->status == BOMBUS_OK)
            total = bb_arithmetic(run, 0, total, item);
    }
    return total;
}

FILTER(groupby)
{
    (void)arguments;
    struct bb_list items = bb_iterate(run, value);
    struct bb_list_builder sorted = { .run = run }, keys = { .run = run }, groups = { .run = run }, group = { .run = run };
    bool has_case = is_set(run, bound[2]);
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        struct bb_value key = get_path(run, items.items[i], bound[0], bound[1]);
        bb_list_add(&sorted, items.items[i]);
        bb_list_add(&keys, has_case ? key : ignore_case(run, key));
    }
    if (run->status == BOMBUS_OK)
        bb_sort(run, sorted.items, keys.items, sorted.count, false);
    for (size_t i = 0; i < sorted.count && run->status == BOMBUS_OK; i++) {
        bb_list_add(&group, sorted.items[i]);
        if (i + 1 < sorted.count && bb_is_equal(run, keys.items[i], keys.items[i + 1]))
            continue;
        struct bb_value key = group.count > 0 ? get_path(run, group.items[0], bound[0], bound[1]) : BB_NONE;
        struct bb_value members = bb_list_finish(&group, BB_VALUE_LIST);
        bb_list_add(&groups, bb_value_group(run, key, members));
        group = (struct bb_list_builder){ .run = run };
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
    struct bb_list_builder mapped = { .run = run };
    struct bb_value attribute = arguments->count == 0 ? keyword(arguments, "attribute") : BB_MISSING;
    struct bb_value missing = keyword(arguments, "default");
    if (!bb_is_true(run, value))
        return generator(&mapped);
    struct bb_list items = bb_iterate(run, value);
    if (attribute.kind == BB_VALUE_MISSING && arguments->count == 0)
        return bb_raise(run, "map requires a filter argument");
    for (size_t i = 0; i < arguments->keyword_count && attribute.kind != BB_VALUE_MISSING; i++)
        if (!bb_text_equals(arguments->keywords[i].name.text, "attribute") && !bb_text_equals(arguments->keywords[i].name.text, "default"))
            return bb_raise(run, "Unexpected keyword argument %s", bb_repr_string(run, arguments->keywords[i].name));
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        if (attribute.kind != BB_VALUE_MISSING) {
            bb_list_add(&mapped, get_path(run, items.items[i], attribute, missing));
            continue;
        }
        struct bb_arguments rest = without_first(arguments, 1);
        bb_list_add(&mapped, bb_call_filter(run, arguments->values[0], items.items[i], &rest));
    }
    return generator(&mapped);
}

static struct bb_value choose(struct bb_run *run, struct bb_value value, const struct bb_arguments *arguments, bool by_attribute,
                              bool keeps)
{
    struct bb_list_builder kept = { .run = run };
    size_t test = by_attribute;
    if (!bb_is_true(run, value))
        return generator(&kept);
    if (by_attribute && arguments->count == 0)
        return bb_raise(run, "Missing parameter for attribute name");
    struct bb_list items = bb_iterate(run, value);
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        struct bb_value tested = by_attribute ? get_path(run, items.items[i], arguments->values[0], BB_NONE) : items.items[i];
        if (run->status != BOMBUS_OK)
            break;
        bool holds;
        if (arguments->count > test) {
            struct bb_arguments rest = without_first(arguments, test + 1);
            holds = bb_call_test(run, arguments->values[test], tested, &rest);
        } else {
            holds = bb_is_true(run, tested);
        }
        if (holds == keeps)
            bb_list_add(&kept, items.items[i]);
    }
    return generator(&kept);
}

FILTER(select) { (void)bound; return choose(run, value, arguments, false, true); }
FILTER(reject) { (void)bound; return choose(run, value, arguments, false, false); }
FILTER(selectattr) { (void)bound; return choose(run, value, arguments, true, true); }
FILTER(rejectattr) { (void)bound; return choose(run, value, arguments, true, false); }

const struct bb_function bb_sequence_filters[] = {
    { "batch", "linecount fill_with?", filter_batch, {0} },
    { "count", "", filter_length, {0} },
    { "dictsort", "case_sensitive? by? reverse?", filter_dictsort, {0} },
    { "first", "", filter_first, {0} },
    { "groupby", "attribute default? case_sensitive?", filter_groupby, {0} },
    { "items", "", filter_items, {0} },
    { "join", "d? attribute?", filter_join, {0} },
    { "last", "", filter_last, {0} },
    { "length", "", filter_length, {0} },
    { "list", "", filter_list, {0} },
    { "map", NULL, filter_map, {0} },
    { "max", "case_sensitive? attribute?", filter_max, {0} },
    { "min", "case_sensitive? attribute?", filter_min, {0} },
    { "reject", NULL, filter_reject, {0} },
    { "rejectattr", NULL, filter_rejectattr, {0} },
    { "reverse", "", filter_reverse, {0} },
    { "select", NULL, filter_select, {0} },
    { "selectattr", NULL, filter_selectattr, {0} },
    { "slice", "slices fill_with?", filter_slice, {0} },
    { "sort", "reverse? case_sensitive? attribute?", filter_sort, {0} },
    { "sum", "attribute? start?", filter_sum, {0} },
    { "unique", "case_sensitive? attribute?", filter_unique, {0} },
    { NULL, NULL, NULL, {0} },
};
