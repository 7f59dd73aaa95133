/* Making values: text, lists, dicts. */
#include "text/template/value.h"

#include "base/map.h"
#include "text/template/work.h"

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

struct bb_value bb_value_iterator(struct bb_work *work, const char *type_name, struct bb_list items)
{
    struct bb_iterator *iterator = bb_work_allocate(work, 1, sizeof *iterator);
    if (iterator == NULL)
        return BB_NONE;
    iterator->items = items;
    iterator->type_name = type_name;
    return (struct bb_value){.kind = BB_VALUE_ITERATOR, .iterator = iterator};
}

struct bb_value bb_value_undefined(struct bb_work *work, const char *hint, const char *owner, struct bb_value name)
{
    struct bb_undefined *undefined = bb_work_allocate(work, 1, sizeof *undefined);
    if (undefined == NULL)
        return BB_NONE;
    *undefined = (struct bb_undefined){.hint = hint, .owner = owner, .name = name};
    return (struct bb_value){.kind = BB_VALUE_UNDEFINED, .undefined = undefined};
}

struct bb_value bb_value_function(struct bb_work *work, const struct bb_function *function, struct bb_value self)
{
    struct bb_function *bound = bb_work_allocate(work, 1, sizeof *bound);
    if (bound == NULL)
        return BB_NONE;
    *bound = *function;
    bound->self = self;
    return (struct bb_value){.kind = BB_VALUE_FUNCTION, .function = bound};
}

struct bb_value bb_value_dict(struct bb_dict *dict)
{
    return dict != NULL ? (struct bb_value){.kind = BB_VALUE_DICT, .dict = dict} : BB_NONE;
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

/* ---- dicts ---- */

enum { DICT_FIRST_CAPACITY = 4, DICT_LINEAR_COUNT = 8 };

struct bb_dict *bb_dict_create(struct bb_work *work)
{
    return bb_work_allocate(work, 1, sizeof(struct bb_dict));
}

/* Index of the pair, or SIZE_MAX. *slot: where it is or would be, if there are slots. */
static size_t dict_search(struct bb_work *work, const struct bb_dict *dict, struct bb_value key, uint64_t hash,
                          size_t *slot)
{
    if (dict->slots == NULL) {
        for (size_t i = 0; i < dict->count; i++)
            if (dict->pairs[i].hash == hash && bb_value_is_equal(work, dict->pairs[i].key, key))
                return i;
        return SIZE_MAX;
    }
    size_t mask = dict->slot_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        *slot = i;
        if (dict->slots[i] == 0 || !bb_work_step(work, 1))
            return SIZE_MAX;
        const struct bb_pair *pair = &dict->pairs[dict->slots[i] - 1];
        if (pair->hash == hash && bb_value_is_equal(work, pair->key, key))
            return dict->slots[i] - 1;
    }
}

static bool dict_grow(struct bb_work *work, struct bb_dict *dict)
{
    size_t capacity = dict->capacity > 0 ? dict->capacity * 2 : DICT_FIRST_CAPACITY;
    struct bb_pair *pairs = bb_work_allocate(work, capacity, sizeof *pairs);
    if (pairs == NULL || capacity >= UINT32_MAX)
        return false;
    if (dict->count > 0)
        memcpy(pairs, dict->pairs, dict->count * sizeof *pairs);
    dict->pairs = pairs;
    dict->capacity = capacity;
    if (capacity <= DICT_LINEAR_COUNT)
        return true;
    size_t slot_count = capacity * 2;
    uint32_t *slots = bb_work_allocate(work, slot_count, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        size_t slot = (size_t)pairs[i].hash & (slot_count - 1);
        while (slots[slot] != 0)
            slot = (slot + 1) & (slot_count - 1);
        slots[slot] = (uint32_t)(i + 1);
    }
    dict->slots = slots;
    dict->slot_count = slot_count;
    return true;
}

void bb_dict_set(struct bb_work *work, struct bb_dict *dict, struct bb_value key, struct bb_value value)
{
    size_t slot = 0;
    uint64_t hash = bb_value_hash(work, key);
    if (!bb_work_step(work, 1))
        return;
    size_t found = dict_search(work, dict, key, hash, &slot);
    if (work->status != BOMBUS_OK)
        return;
    if (found != SIZE_MAX) {
        dict->pairs[found].value = value;
        return;
    }
    if (dict->count == dict->capacity) {
        if (!dict_grow(work, dict))
            return;
        found = dict_search(work, dict, key, hash, &slot);
    }
    dict->pairs[dict->count++] = (struct bb_pair){key, value, hash};
    if (dict->slots != NULL)
        dict->slots[slot] = (uint32_t)dict->count;
}

const struct bb_value *bb_dict_find(struct bb_work *work, const struct bb_dict *dict, struct bb_value key)
{
    size_t slot;
    uint64_t hash = bb_value_hash(work, key);
    if (work->status != BOMBUS_OK)
        return NULL;
    size_t found = dict_search(work, dict, key, hash, &slot);
    return found == SIZE_MAX ? NULL : &dict->pairs[found].value;
}

const struct bb_value *bb_dict_find_string(struct bb_work *work, const struct bb_dict *dict, const char *key)
{
    struct bb_text text = {.bytes = key, .length = strlen(key), .count = bb_code_count(key, strlen(key))};
    return bb_dict_find(work, dict, (struct bb_value){.kind = BB_VALUE_TEXT, .text = &text});
}
