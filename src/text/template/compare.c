/* Asking values: truth, equality, order, hash, type, length, iteration. */
#include "base/map.h"
#include "text/template/work.h"

#include <math.h>
#include <string.h>

#include "text/template/loop.h"

bool bb_value_is_integer(struct bb_value value)
{
    return value.kind == BB_VALUE_BOOL || value.kind == BB_VALUE_INT;
}

bool bb_value_is_number(struct bb_value value)
{
    return bb_value_is_integer(value) || value.kind == BB_VALUE_LONG || value.kind == BB_VALUE_FLOAT;
}

int64_t bb_value_to_integer(struct bb_value number)
{
    return number.kind == BB_VALUE_BOOL ? (int64_t)number.boolean : number.integer;
}

double bb_value_to_real(struct bb_value number)
{
    if (number.kind == BB_VALUE_FLOAT)
        return number.real;
    if (number.kind == BB_VALUE_LONG)
        return bb_real_parse(number.text->bytes, number.text->length);
    return (double)bb_value_to_integer(number);
}

bool bb_text_equals(const struct bb_text *text, const char *string)
{
    return text->length == strlen(string) && memcmp(text->bytes, string, text->length) == 0;
}

/* UTF-8 sorts as its code points do. */
int bb_text_compare(const struct bb_text *a, const struct bb_text *b)
{
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = shorter > 0 ? memcmp(a->bytes, b->bytes, shorter) : 0;
    return order != 0 ? (order < 0 ? -1 : 1) : (a->length > b->length) - (a->length < b->length);
}

static size_t view_length(const struct bb_view *view)
{
    return view->dict->count;
}

bool bb_value_has_length(struct bb_value value)
{
    switch (value.kind) {
    case BB_VALUE_UNDEFINED:
    case BB_VALUE_TEXT:
    case BB_VALUE_LIST:
    case BB_VALUE_TUPLE:
    case BB_VALUE_DICT:
    case BB_VALUE_RANGE:
    case BB_VALUE_VIEW:
    case BB_VALUE_LOOP: return true;
    default: return false;
    }
}

bool bb_value_length(struct bb_work *work, struct bb_value value, size_t *length)
{
    *length = 0;
    switch (value.kind) {
    case BB_VALUE_UNDEFINED: return true;
    case BB_VALUE_TEXT: *length = value.text->count; return true;
    case BB_VALUE_LIST:
    case BB_VALUE_TUPLE: *length = value.list->count; return true;
    case BB_VALUE_DICT: *length = value.dict->count; return true;
    case BB_VALUE_RANGE: *length = (size_t)value.range->count; return true;
    case BB_VALUE_VIEW: *length = view_length(value.view); return true;
    case BB_VALUE_LOOP: *length = value.loop->items.count; return true;
    default: bb_raise(work, "object of type '%s' has no len()", bb_value_type_name(value)); return false;
    }
}

bool bb_value_is_true(struct bb_work *work, struct bb_value value)
{
    size_t length;
    switch (value.kind) {
    case BB_VALUE_MISSING:
    case BB_VALUE_UNDEFINED:
    case BB_VALUE_NONE: return false;
    case BB_VALUE_BOOL: return value.boolean;
    case BB_VALUE_INT: return value.integer != 0;
    case BB_VALUE_FLOAT: return value.real != 0.0;
    default: return !bb_value_has_length(value) || (bb_value_length(work, value, &length) && length > 0);
    }
}

/* Short text that is equal is mostly one object in CPython. */
enum { SHORT_TEXT = 64 };

bool bb_value_is_same(struct bb_value a, struct bb_value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case BB_VALUE_NONE: return true;
    case BB_VALUE_BOOL: return a.boolean == b.boolean;
    case BB_VALUE_INT: return a.integer == b.integer;
    case BB_VALUE_FLOAT: return a.real == b.real;
    case BB_VALUE_TEXT:
        return a.text == b.text || (a.text->length <= SHORT_TEXT && bb_text_compare(a.text, b.text) == 0);
    default: return a.list == b.list;
    }
}

/* Exactly as Python: an int and a float are equal if their values are, without rounding. */
static bool numbers_are_equal(struct bb_value a, struct bb_value b)
{
    if (a.kind == BB_VALUE_LONG && b.kind == BB_VALUE_LONG)
        return bb_text_compare(a.text, b.text) == 0;
    if (bb_value_is_integer(a) && bb_value_is_integer(b))
        return bb_value_to_integer(a) == bb_value_to_integer(b);
    if (bb_value_is_integer(b) && a.kind == BB_VALUE_FLOAT)
        return numbers_are_equal(b, a);
    if (bb_value_is_integer(a) && b.kind == BB_VALUE_FLOAT)
        return b.real >= -0x1p63 && b.real < 0x1p63 && floor(b.real) == b.real &&
               (int64_t)b.real == bb_value_to_integer(a);
    if (bb_value_is_integer(a) || bb_value_is_integer(b))
        return false;
    return bb_value_to_real(a) == bb_value_to_real(b);
}

static bool lists_are_equal(struct bb_work *work, const struct bb_list *a, const struct bb_list *b)
{
    if (a->count != b->count || !bb_work_enter(work))
        return false;
    bool equal = true;
    for (size_t i = 0; i < a->count && equal; i++)
        equal = bb_value_is_equal(work, a->items[i], b->items[i]);
    bb_work_leave(work);
    return equal;
}

static bool dicts_are_equal(struct bb_work *work, const struct bb_dict *a, const struct bb_dict *b)
{
    if (a->count != b->count || !bb_work_enter(work))
        return false;
    bool equal = true;
    for (size_t i = 0; i < a->count && equal; i++) {
        const struct bb_value *other = bb_dict_find(work, b, a->pairs[i].key);
        equal = other != NULL && bb_value_is_equal(work, a->pairs[i].value, *other);
    }
    bb_work_leave(work);
    return equal;
}

static bool ranges_are_equal(const struct bb_range *a, const struct bb_range *b)
{
    return a->count == b->count && (a->count == 0 || (a->start == b->start && (a->count == 1 || a->step == b->step)));
}

bool bb_value_is_equal(struct bb_work *work, struct bb_value a, struct bb_value b)
{
    if (!bb_work_step(work, 1))
        return false;
    if (bb_value_is_number(a) && bb_value_is_number(b))
        return numbers_are_equal(a, b);
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case BB_VALUE_UNDEFINED:
    case BB_VALUE_NONE: return true;
    case BB_VALUE_TEXT:
        return a.text->length == b.text->length && bb_work_scan(work, a.text->length) &&
               bb_text_compare(a.text, b.text) == 0;
    case BB_VALUE_LIST:
    case BB_VALUE_TUPLE: return lists_are_equal(work, a.list, b.list);
    case BB_VALUE_DICT: return dicts_are_equal(work, a.dict, b.dict);
    case BB_VALUE_RANGE: return ranges_are_equal(a.range, b.range);
    default: return a.list == b.list;
    }
}

static int compare_numbers(struct bb_value a, struct bb_value b)
{
    if (bb_value_is_integer(a) && bb_value_is_integer(b))
        return (bb_value_to_integer(a) > bb_value_to_integer(b)) - (bb_value_to_integer(a) < bb_value_to_integer(b));
    if (numbers_are_equal(a, b))
        return 0;
    double left = bb_value_to_real(a), right = bb_value_to_real(b);
    return left < right ? -1 : left > right ? 1 : left == right ? 0 : 2;
}

int bb_value_compare(struct bb_work *work, struct bb_value a, struct bb_value b, const char *operation)
{
    if (!bb_work_step(work, 1))
        return 0;
    if (bb_value_is_number(a) && bb_value_is_number(b))
        return compare_numbers(a, b);
    if (a.kind == BB_VALUE_TEXT && b.kind == BB_VALUE_TEXT)
        return bb_work_scan(work, a.text->length < b.text->length ? a.text->length : b.text->length)
                   ? bb_text_compare(a.text, b.text)
                   : 0;
    if (a.kind == b.kind && (a.kind == BB_VALUE_LIST || a.kind == BB_VALUE_TUPLE)) {
        if (!bb_work_enter(work))
            return 0;
        int order = 0;
        size_t i = 0;
        for (; i < a.list->count && i < b.list->count && work->status == BOMBUS_OK && order == 0; i++)
            if (!bb_value_is_equal(work, a.list->items[i], b.list->items[i]))
                order = bb_value_compare(work, a.list->items[i], b.list->items[i], operation);
        bb_work_leave(work);
        return order != 0 ? order : (a.list->count > b.list->count) - (a.list->count < b.list->count);
    }
    if (a.kind == BB_VALUE_UNDEFINED || b.kind == BB_VALUE_UNDEFINED)
        bb_raise_undefined(work, a.kind == BB_VALUE_UNDEFINED ? a : b);
    else
        bb_raise(work, "'%s' not supported between instances of '%s' and '%s'", operation, bb_value_type_name(a),
                 bb_value_type_name(b));
    return 0;
}

/* Equal values have equal hashes: 1, 1.0 and true. */
static uint64_t hash_number(struct bb_value value)
{
    if (value.kind == BB_VALUE_LONG)
        value = bb_value_float(bb_value_to_real(value));
    if (value.kind == BB_VALUE_FLOAT && floor(value.real) == value.real && fabs(value.real) < 0x1p63)
        value = bb_value_int((int64_t)value.real);
    if (value.kind == BB_VALUE_FLOAT)
        return bb_hash(&value.real, sizeof value.real, 2);
    int64_t integer = bb_value_to_integer(value);
    return bb_hash(&integer, sizeof integer, 1);
}

uint64_t bb_value_hash(struct bb_work *work, struct bb_value value)
{
    uint64_t hash = (uint64_t)value.kind;
    switch (value.kind) {
    case BB_VALUE_BOOL:
    case BB_VALUE_INT:
    case BB_VALUE_LONG:
    case BB_VALUE_FLOAT: return hash_number(value);
    case BB_VALUE_TEXT:
        return bb_work_scan(work, value.text->length) ? bb_hash(value.text->bytes, value.text->length, 3) : 0;
    case BB_VALUE_TUPLE:
        if (!bb_work_enter(work))
            return 0;
        for (size_t i = 0; i < value.list->count && bb_work_step(work, 1); i++)
            hash = hash * UINT64_C(0x9E3779B97F4A7C15) + bb_value_hash(work, value.list->items[i]);
        bb_work_leave(work);
        return hash;
    case BB_VALUE_LIST:
    case BB_VALUE_DICT: bb_raise(work, "unhashable type: '%s'", bb_value_type_name(value)); return 0;
    default: return hash; /* identity is compared; few of these are ever keys */
    }
}

const char *bb_value_type_name(struct bb_value value)
{
    switch (value.kind) {
    case BB_VALUE_MISSING:
    case BB_VALUE_NONE: return "NoneType";
    case BB_VALUE_UNDEFINED: return "Undefined";
    case BB_VALUE_BOOL: return "bool";
    case BB_VALUE_INT:
    case BB_VALUE_LONG: return "int";
    case BB_VALUE_FLOAT: return "float";
    case BB_VALUE_TEXT: return value.text->is_markup ? "Markup" : "str";
    case BB_VALUE_LIST: return "list";
    case BB_VALUE_TUPLE: return "tuple";
    case BB_VALUE_DICT: return "dict";
    case BB_VALUE_RANGE: return "range";
    case BB_VALUE_VIEW:
        return value.view->kind == BB_VIEW_KEYS     ? "dict_keys"
               : value.view->kind == BB_VIEW_VALUES ? "dict_values"
                                                    : "dict_items";
    case BB_VALUE_ITERATOR: return value.iterator->type_name;
    case BB_VALUE_NAMESPACE: return "TemplateNamespace";
    case BB_VALUE_MACRO: return "Macro";
    case BB_VALUE_FUNCTION:
        return value.function->self.kind != BB_VALUE_MISSING ? "builtin_function_or_method" : "function";
    case BB_VALUE_LOOP: return "LoopContext";
    case BB_VALUE_CYCLER: return "Cycler";
    case BB_VALUE_JOINER: return "Joiner";
    }
    return "object";
}

const char *bb_value_owner_name(struct bb_value value)
{
    switch (value.kind) {
    case BB_VALUE_MISSING:
    case BB_VALUE_NONE: return "None";
    case BB_VALUE_UNDEFINED: return "Undefined object";
    case BB_VALUE_BOOL: return "bool object";
    case BB_VALUE_INT:
    case BB_VALUE_LONG: return "int object";
    case BB_VALUE_FLOAT: return "float object";
    case BB_VALUE_TEXT: return value.text->is_markup ? "markupsafe.Markup object" : "str object";
    case BB_VALUE_LIST: return "list object";
    case BB_VALUE_TUPLE: return "tuple object";
    case BB_VALUE_DICT: return "dict object";
    case BB_VALUE_RANGE: return "range object";
    case BB_VALUE_VIEW:
        return value.view->kind == BB_VIEW_KEYS     ? "dict_keys object"
               : value.view->kind == BB_VIEW_VALUES ? "dict_values object"
                                                    : "dict_items object";
    case BB_VALUE_ITERATOR: return "generator object";
    case BB_VALUE_NAMESPACE: return "namespace object";
    case BB_VALUE_MACRO: return "jinja2.runtime.Macro object";
    case BB_VALUE_FUNCTION: return "function object";
    case BB_VALUE_LOOP: return "jinja2.runtime.LoopContext object";
    case BB_VALUE_CYCLER: return "jinja2.utils.Cycler object";
    case BB_VALUE_JOINER: return "jinja2.utils.Joiner object";
    }
    return "object";
}

bool bb_value_is_iterable(struct bb_value value)
{
    return (bb_value_has_length(value) || value.kind == BB_VALUE_ITERATOR);
}

/* The characters of Markup are plain text. */
static void iterate_text(struct bb_work *work, const struct bb_text *text, struct bb_list_builder *items)
{
    struct bb_text plain = *text;
    plain.is_markup = false;
    for (size_t offset = 0, length; offset < text->length && work->status == BOMBUS_OK; offset += length) {
        bb_code_read(text->bytes + offset, &length);
        bb_list_add(items, bb_value_part(work, &plain, offset, offset + length));
    }
}

static void iterate_dict(struct bb_work *work, const struct bb_dict *dict, enum bb_view_kind kind,
                         struct bb_list_builder *items)
{
    for (size_t i = 0; i < dict->count && work->status == BOMBUS_OK; i++) {
        const struct bb_pair *pair = &dict->pairs[i];
        bb_list_add(items, kind == BB_VIEW_KEYS     ? pair->key
                           : kind == BB_VIEW_VALUES ? pair->value
                                                    : bb_value_pair(work, pair->key, pair->value));
    }
}

struct bb_list bb_value_iterate(struct bb_work *work, struct bb_value value)
{
    struct bb_list_builder items = {.work = work};
    struct bb_list rest;
    switch (value.kind) {
    case BB_VALUE_UNDEFINED: break;
    case BB_VALUE_LIST:
    case BB_VALUE_TUPLE: return *value.list;
    case BB_VALUE_TEXT: iterate_text(work, value.text, &items); break;
    case BB_VALUE_DICT: iterate_dict(work, value.dict, BB_VIEW_KEYS, &items); break;
    case BB_VALUE_VIEW: iterate_dict(work, value.view->dict, value.view->kind, &items); break;
    case BB_VALUE_RANGE:
        for (int64_t i = 0; i < value.range->count && work->status == BOMBUS_OK; i++)
            bb_list_add(&items, bb_value_int(value.range->start + i * value.range->step));
        break;
    case BB_VALUE_ITERATOR:
        rest = value.iterator->items;
        rest.items = rest.items != NULL ? rest.items + value.iterator->next : NULL;
        rest.count -= value.iterator->next;
        value.iterator->next = value.iterator->items.count;
        return rest;
    default: bb_raise(work, "'%s' object is not iterable", bb_value_type_name(value));
    }
    return (struct bb_list){.items = items.items, .count = items.count};
}

struct bb_value bb_raise_undefined(struct bb_work *work, struct bb_value value)
{
    const struct bb_undefined *undefined = value.undefined;
    if (undefined->is_condition) {
        int32_t line, column;
        bb_find_place(work->source, work->source_length, undefined->place, &line, &column);
        return bb_raise(work, "the inline if-expression on line %d evaluated to false and no else section was defined.",
                        (int)line);
    }
    if (undefined->hint != NULL)
        return bb_raise(work, "%s", undefined->hint);
    const char *name = bb_repr_string(work, undefined->name);
    if (undefined->owner == NULL)
        return bb_raise(work, "%s is undefined", name);
    if (undefined->name.kind != BB_VALUE_TEXT)
        return bb_raise(work, "%s has no element %s", undefined->owner, name);
    return bb_raise(work, "'%s' has no attribute %s", undefined->owner, name);
}
