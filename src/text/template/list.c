/* Lists, and what other values have in common with them: a length, and items to walk. */
#include "text/template/list.h"

#include "text/template/builder.h"
#include "text/template/loop.h"

#include <string.h>

struct bb_value bb_value_list(struct bb_work *work, enum bb_value_kind kind, const struct bb_value *items, size_t count)
{
    struct bb_list *list = bb_work_allocate(work, 1, sizeof *list);
    struct bb_value *copy = bb_work_allocate(work, count, sizeof *copy);
    if (list == NULL || copy == NULL || !bb_work_step(work, count))
        return BB_NONE;
    if (count > 0)
        memcpy(copy, items, count * sizeof *copy);
    list->items = copy;
    list->count = count;
    return (struct bb_value){.kind = kind, .list = list};
}

struct bb_value bb_value_pair(struct bb_work *work, struct bb_value first, struct bb_value second)
{
    struct bb_value items[2] = {first, second};
    return bb_value_list(work, BB_VALUE_TUPLE, items, 2);
}

struct bb_value bb_value_group(struct bb_work *work, struct bb_value key, struct bb_value members)
{
    struct bb_value pair = bb_value_pair(work, key, members);
    if (work->status == BOMBUS_OK)
        ((struct bb_list *)pair.list)->is_group = true;
    return pair;
}

void bb_list_add(struct bb_list_builder *builder, struct bb_value value)
{
    struct bb_work *work = builder->work;
    if (!bb_work_step(work, 1))
        return;
    if (builder->count == builder->capacity) {
        size_t capacity = builder->capacity > 0 ? builder->capacity * 2 : 8;
        struct bb_value *items = bb_work_allocate(work, capacity, sizeof *items);
        if (items == NULL)
            return;
        if (builder->count > 0)
            memcpy(items, builder->items, builder->count * sizeof *items);
        builder->items = items;
        builder->capacity = capacity;
    }
    builder->items[builder->count++] = value;
}

struct bb_value bb_list_finish(struct bb_list_builder *builder, enum bb_value_kind kind)
{
    struct bb_list *list = bb_work_allocate(builder->work, 1, sizeof *list);
    if (list == NULL)
        return BB_NONE;
    list->items = builder->items;
    list->count = builder->count;
    return (struct bb_value){.kind = kind, .list = list};
}

/* ---- length ---- */

static size_t view_length(const struct bb_view *view)
{
    return view->dict->count;
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

/* ---- items ---- */

struct bb_value bb_value_iterator(struct bb_work *work, const char *type_name, struct bb_list items)
{
    struct bb_iterator *iterator = bb_work_allocate(work, 1, sizeof *iterator);
    if (iterator == NULL)
        return BB_NONE;
    iterator->items = items;
    iterator->type_name = type_name;
    return (struct bb_value){.kind = BB_VALUE_ITERATOR, .iterator = iterator};
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
