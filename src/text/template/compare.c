/* Comparing values, and dicts: they find keys by hash and equality, and two are equal if one finds the other's keys. */
#include "text/template/compare.h"

#include "base/map.h"
#include "text/template/undefined.h"

#include <math.h>
#include <string.h>

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

/* ---- dicts ---- */

enum { DICT_FIRST_CAPACITY = 4, DICT_LINEAR_COUNT = 8 };

struct bb_dict *bb_dict_create(struct bb_work *work)
{
    return bb_work_allocate(work, 1, sizeof(struct bb_dict));
}

struct bb_value bb_value_dict(struct bb_dict *dict)
{
    return dict != NULL ? (struct bb_value){.kind = BB_VALUE_DICT, .dict = dict} : BB_NONE;
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
