/* Methods of text, dicts, lists, loops and numbers. */
#include "text/template/methods.h"

#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/repr.h"
#include "text/template/text.h"

#include <math.h>

#define METHOD(name)                                                                                                   \
    static struct bb_value name(struct bb_work *work, struct bb_value self, const struct bb_value *bound,              \
                                const struct bb_arguments *arguments)
#define UNUSED_ARGUMENTS (void)bound, (void)arguments

static struct bb_value keep_markup(struct bb_work *work, struct bb_value self, struct bb_value result)
{
    return self.text->is_markup ? bb_value_markup(work, result) : result;
}

/* ---- text: letter case ---- */

METHOD(capitalize)
{
    UNUSED_ARGUMENTS;
    return bb_text_case(work, self.text, BB_CASE_CAPITALIZE);
}
METHOD(casefold)
{
    UNUSED_ARGUMENTS;
    return bb_text_case(work, self.text, BB_CASE_FOLD);
}
METHOD(lower)
{
    UNUSED_ARGUMENTS;
    return bb_text_case(work, self.text, BB_CASE_LOWER);
}
METHOD(swapcase)
{
    UNUSED_ARGUMENTS;
    return bb_text_case(work, self.text, BB_CASE_SWAP);
}
METHOD(title)
{
    UNUSED_ARGUMENTS;
    return bb_text_case(work, self.text, BB_CASE_TITLE);
}
METHOD(upper)
{
    UNUSED_ARGUMENTS;
    return bb_text_case(work, self.text, BB_CASE_UPPER);
}

/* ---- text: stripping, filling ---- */

static struct bb_value strip_sides(struct bb_work *work, struct bb_value self, const struct bb_value *bound, bool left,
                                   bool right)
{
    const struct bb_text *characters = NULL;
    if (bound[0].kind != BB_VALUE_MISSING && bound[0].kind != BB_VALUE_NONE) {
        if (bound[0].kind != BB_VALUE_TEXT)
            return bb_raise(work, "%sstrip arg must be None or str", left && right ? "" : left ? "l" : "r");
        characters = bound[0].text;
    }
    return bb_text_strip(work, self.text, characters, left, right);
}

METHOD(strip)
{
    (void)arguments;
    return strip_sides(work, self, bound, true, true);
}
METHOD(lstrip)
{
    (void)arguments;
    return strip_sides(work, self, bound, true, false);
}
METHOD(rstrip)
{
    (void)arguments;
    return strip_sides(work, self, bound, false, true);
}

static struct bb_value fill(struct bb_work *work, struct bb_value self, const struct bb_value *bound, int side)
{
    const struct bb_text *character = NULL;
    int64_t width = bb_require_integer(work, bound[0], 0);
    if (bound[1].kind != BB_VALUE_MISSING) {
        character = bb_require_text(work, bound[1], "The fill character");
        if (character->count != 1)
            return bb_raise(work, "The fill character must be exactly one character long");
    }
    return bb_text_center(work, self.text, width, character, side);
}

METHOD(center)
{
    (void)arguments;
    return fill(work, self, bound, 0);
}
METHOD(ljust)
{
    (void)arguments;
    return fill(work, self, bound, -1);
}
METHOD(rjust)
{
    (void)arguments;
    return fill(work, self, bound, 1);
}

METHOD(zfill)
{
    (void)arguments;
    static const struct bb_text zero = {.bytes = "0", .length = 1, .count = 1};
    int64_t width = bb_require_integer(work, bound[0], 0);
    size_t sign = self.text->length > 0 && (self.text->bytes[0] == '-' || self.text->bytes[0] == '+');
    struct bb_builder result = {.work = work};
    bb_build(&result, self.text->bytes, sign);
    bb_build_repeated(&result, &zero, width - (int64_t)self.text->count);
    bb_build(&result, self.text->bytes + sign, self.text->length - sign);
    return keep_markup(work, self, bb_build_finish(&result));
}

METHOD(expandtabs)
{
    (void)arguments;
    static const struct bb_text space = {.bytes = " ", .length = 1, .count = 1};
    int64_t size = bb_require_integer(work, bound[0], 8), column = 0;
    struct bb_builder result = {.work = work};
    for (size_t i = 0; i < self.text->length && bb_work_step(work, 1); i++) {
        char c = self.text->bytes[i];
        int64_t width = c != '\t' || size <= 0 ? 0 : size - column % size;
        if (c == '\t')
            bb_build_repeated(&result, &space, width);
        else
            bb_build_byte(&result, c);
        column = c == '\n' || c == '\r' ? 0 : column + (c == '\t' ? width : ((unsigned char)c & 0xC0) != 0x80);
    }
    return keep_markup(work, self, bb_build_finish(&result));
}

/* ---- text: the rest ---- */

METHOD(text_join)
{
    (void)arguments;
    struct bb_builder result = {.work = work};
    if (!bb_value_is_iterable(bound[0]))
        return bb_raise(work, "can only join an iterable");
    struct bb_list items = bb_value_iterate(work, bound[0]);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        if (items.items[i].kind != BB_VALUE_TEXT && !self.text->is_markup) {
            bb_raise(work, "sequence item %zu: expected str instance, %s found", i, bb_value_type_name(items.items[i]));
            break;
        }
        if (i > 0)
            bb_build(&result, self.text->bytes, self.text->length);
        struct bb_value item = bb_text_escape_for(work, self.text, items.items[i]);
        if (work->status == BOMBUS_OK)
            bb_build_value(&result, item);
    }
    return keep_markup(work, self, bb_build_finish(&result));
}

static const struct bb_function text_methods[] = {
    {"capitalize", "", capitalize, {0}},
    {"casefold", "", casefold, {0}},
    {"lower", "", lower, {0}},
    {"swapcase", "", swapcase, {0}},
    {"title", "", title, {0}},
    {"upper", "", upper, {0}},
    {"strip", "chars?", strip, {0}},
    {"lstrip", "chars?", lstrip, {0}},
    {"rstrip", "chars?", rstrip, {0}},
    {"center", "width fillchar?", center, {0}},
    {"ljust", "width fillchar?", ljust, {0}},
    {"rjust", "width fillchar?", rjust, {0}},
    {"zfill", "width", zfill, {0}},
    {"expandtabs", "tabsize?", expandtabs, {0}},
    {"join", "iterable", text_join, {0}},
    {NULL, NULL, NULL, {0}},
};

/* ---- dicts ---- */

static struct bb_value view(struct bb_work *work, struct bb_value self, enum bb_view_kind kind)
{
    struct bb_view *result = bb_work_allocate(work, 1, sizeof *result);
    if (result == NULL)
        return BB_NONE;
    *result = (struct bb_view){self.dict, kind};
    return (struct bb_value){.kind = BB_VALUE_VIEW, .view = result};
}

METHOD(keys)
{
    UNUSED_ARGUMENTS;
    return view(work, self, BB_VIEW_KEYS);
}
METHOD(values)
{
    UNUSED_ARGUMENTS;
    return view(work, self, BB_VIEW_VALUES);
}
METHOD(items)
{
    UNUSED_ARGUMENTS;
    return view(work, self, BB_VIEW_ITEMS);
}
METHOD(copy)
{
    (void)work;
    UNUSED_ARGUMENTS;
    return self;
} /* nothing can change either */

METHOD(get)
{
    (void)arguments;
    const struct bb_value *found = bb_dict_find(work, self.dict, bound[0]);
    return found != NULL ? *found : bound[1].kind != BB_VALUE_MISSING ? bound[1] : BB_NONE;
}

METHOD(fromkeys)
{
    (void)self;
    (void)arguments;
    struct bb_dict *dict = bb_dict_create(work);
    struct bb_list names = bb_value_iterate(work, bound[0]);
    for (size_t i = 0; i < names.count && work->status == BOMBUS_OK; i++)
        bb_dict_set(work, dict, names.items[i], bound[1].kind != BB_VALUE_MISSING ? bound[1] : BB_NONE);
    return bb_value_dict(dict);
}

static const struct bb_function dict_methods[] = {
    {"get", "key default?", get, {0}}, {"items", "", items, {0}}, {"keys", "", keys, {0}},
    {"values", "", values, {0}},       {"copy", "", copy, {0}},   {"fromkeys", "iterable value?", fromkeys, {0}},
    {NULL, NULL, NULL, {0}},
};

/* ---- lists, tuples, ranges ---- */

METHOD(list_count)
{
    (void)arguments;
    struct bb_list all = bb_value_iterate(work, self);
    int64_t count = 0;
    for (size_t i = 0; i < all.count && work->status == BOMBUS_OK; i++)
        count += bb_value_is_equal(work, all.items[i], bound[0]);
    return bb_value_int(count);
}

METHOD(list_index)
{
    (void)arguments;
    struct bb_list all = bb_value_iterate(work, self);
    int64_t count = (int64_t)all.count, start = bb_require_integer(work, bound[1], 0),
            stop = bb_require_integer(work, bound[2], count);
    start = start < -count ? 0 : start < 0 ? start + count : start;
    stop = stop < 0 ? stop + count : stop < count ? stop : count;
    for (int64_t i = start; i < stop && work->status == BOMBUS_OK; i++)
        if (bb_value_is_equal(work, all.items[i], bound[0]))
            return bb_value_int(i);
    return bb_raise(work, self.kind == BB_VALUE_TUPLE ? "tuple.index(x): x not in tuple" : "%s is not in list",
                    bb_repr_string(work, bound[0]));
}

static const struct bb_function list_methods[] = {
    {"count", "value", list_count, {0}},
    {"index", "value start? stop?", list_index, {0}},
    {"copy", "", copy, {0}},
    {NULL, NULL, NULL, {0}},
};

/* ---- loops, cyclers, numbers ---- */

METHOD(loop_cycle)
{
    (void)bound;
    if (arguments->count == 0)
        return bb_raise(work, "no items for cycling given");
    return arguments->values[self.loop->index % arguments->count];
}

METHOD(loop_changed)
{
    (void)bound;
    struct bb_value seen = bb_value_list(work, BB_VALUE_TUPLE, arguments->values, arguments->count);
    if (work->status != BOMBUS_OK ||
        (self.loop->changed.kind == BB_VALUE_TUPLE && bb_value_is_equal(work, self.loop->changed, seen)))
        return bb_value_bool(false);
    self.loop->changed = seen;
    return bb_value_bool(true);
}

static const struct bb_function loop_methods[] = {
    {"cycle", NULL, loop_cycle, {0}},
    {"changed", NULL, loop_changed, {0}},
    {NULL, NULL, NULL, {0}},
};

METHOD(cycler_next)
{
    (void)work;
    UNUSED_ARGUMENTS;
    struct bb_value value = self.cycler->items->items[self.cycler->next];
    self.cycler->next = (self.cycler->next + 1) % self.cycler->items->count;
    return value;
}

METHOD(cycler_reset)
{
    (void)work;
    UNUSED_ARGUMENTS;
    self.cycler->next = 0;
    return BB_NONE;
}

static const struct bb_function cycler_methods[] = {
    {"next", "", cycler_next, {0}},
    {"reset", "", cycler_reset, {0}},
    {NULL, NULL, NULL, {0}},
};

METHOD(is_integer)
{
    (void)work;
    UNUSED_ARGUMENTS;
    return bb_value_bool(isfinite(self.real) && floor(self.real) == self.real);
}

METHOD(bit_length)
{
    (void)work;
    UNUSED_ARGUMENTS;
    int64_t count = 0, integer = bb_value_to_integer(self);
    for (uint64_t rest = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer; rest > 0; rest >>= 1)
        count++;
    return bb_value_int(count);
}

static const struct bb_function float_methods[] = {{"is_integer", "", is_integer, {0}}, {NULL, NULL, NULL, {0}}};
static const struct bb_function int_methods[] = {{"bit_length", "", bit_length, {0}}, {NULL, NULL, NULL, {0}}};

/* ---- look-up ---- */

static const struct bb_function *method_table(struct bb_value value, const struct bb_text *name)
{
    static const struct bb_function none[] = {{NULL, NULL, NULL, {0}}};
    switch (value.kind) {
    case BB_VALUE_TEXT:
        for (const struct bb_function *method = bb_text_search_methods; method->name != NULL; method++)
            if (bb_text_equals(name, method->name))
                return bb_text_search_methods;
        return text_methods;
    case BB_VALUE_DICT: return dict_methods;
    case BB_VALUE_LIST: return list_methods;
    case BB_VALUE_TUPLE:
    case BB_VALUE_RANGE: return bb_text_equals(name, "copy") ? none : list_methods;
    case BB_VALUE_LOOP: return loop_methods;
    case BB_VALUE_CYCLER: return cycler_methods;
    case BB_VALUE_FLOAT: return float_methods;
    case BB_VALUE_INT:
    case BB_VALUE_BOOL: return int_methods;
    default: return none;
    }
}

const struct bb_function *bb_find_method(struct bb_value value, const struct bb_text *name)
{
    for (const struct bb_function *method = method_table(value, name); method->name != NULL; method++)
        if (bb_text_equals(name, method->name))
            return method;
    return NULL;
}
