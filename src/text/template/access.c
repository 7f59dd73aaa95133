/* Looking into values: attributes, methods and items, with jinja2's fallbacks from one to the other and its sandbox's refusals.
 *
 * str.format is here, as in jinja2's sandbox: it is a method, and its fields look into values. */
#include "text/template/access.h"

#include "text/template/arguments.h"
#include "text/template/ast.h"
#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/format.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/methods.h"
#include "text/template/repr.h"
#include "text/template/text.h"
#include "text/template/undefined.h"

#include <inttypes.h>
#include <string.h>

/* ---- str.format ---- */

struct braces {
    struct bb_builder result;
    const struct bb_text *format;
    const struct bb_arguments *arguments;
    int64_t next; /* automatic number; -1 once numbers were given */
};

static struct bb_value positional(struct braces *braces, const char *digits, size_t length)
{
    struct bb_work *work = braces->result.work;
    int64_t index;
    if (length == 0) {
        if (braces->next < 0)
            return bb_raise(work, "cannot switch from manual field specification to automatic field numbering");
        index = braces->next++;
    } else {
        if (braces->next > 0)
            return bb_raise(work, "cannot switch from automatic field numbering to manual field specification");
        braces->next = -1;
        index = bb_format_number(&digits, digits + length);
    }
    if ((uint64_t)index >= braces->arguments->count)
        return bb_raise(work, "Replacement index %" PRId64 " out of range for positional args tuple", index);
    return braces->arguments->values[index];
}

static struct bb_value named(struct braces *braces, struct bb_value name)
{
    for (size_t i = 0; i < braces->arguments->keyword_count; i++)
        if (bb_text_compare(braces->arguments->keywords[i].name.text, name.text) == 0)
            return braces->arguments->keywords[i].value;
    return bb_raise(braces->result.work, "%s", bb_repr_string(braces->result.work, name));
}

static bool is_all_digits(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] < '0' || bytes[i] > '9')
            return false;
    return true;
}

/* name(.attribute | [index])* in format[begin, end). */
static struct bb_value field_value(struct braces *braces, size_t begin, size_t end)
{
    struct bb_work *work = braces->result.work;
    const char *bytes = braces->format->bytes;
    size_t stop = begin;
    while (stop < end && bytes[stop] != '.' && bytes[stop] != '[')
        stop++;
    struct bb_value value = is_all_digits(bytes + begin, stop - begin)
                                ? positional(braces, bytes + begin, stop - begin)
                                : named(braces, bb_value_part(work, braces->format, begin, stop));
    while (stop < end && work->status == BOMBUS_OK) {
        bool is_attribute = bytes[stop] == '.';
        size_t part = ++stop;
        while (stop < end && (is_attribute ? bytes[stop] != '.' && bytes[stop] != '[' : bytes[stop] != ']'))
            stop++;
        if (stop == part)
            return bb_raise(work, "Empty attribute in format string");
        struct bb_value name = bb_value_part(work, braces->format, part, stop);
        if (!is_attribute && is_all_digits(bytes + part, stop - part)) {
            const char *digits = bytes + part;
            name = bb_value_int(bb_format_number(&digits, bytes + stop));
        }
        if (work->status == BOMBUS_OK)
            value = is_attribute ? bb_value_attribute(work, value, name) : bb_value_item(work, value, name);
        stop += !is_attribute;
    }
    return value;
}

/* The specification may hold fields itself. */
static struct bb_value specification_text(struct braces *braces, size_t begin, size_t end)
{
    struct bb_work *work = braces->result.work;
    struct bb_builder text = {.work = work};
    const char *bytes = braces->format->bytes;
    for (size_t i = begin; i < end && work->status == BOMBUS_OK; i++) {
        if (bytes[i] != '{') {
            bb_build_byte(&text, bytes[i]);
            continue;
        }
        size_t close = i + 1;
        while (close < end && bytes[close] != '}')
            close++;
        struct bb_value value = field_value(braces, i + 1, close);
        if (work->status == BOMBUS_OK)
            bb_build_value(&text, value);
        i = close;
    }
    return bb_build_finish(&text);
}

static void build_field(struct braces *braces, size_t begin, size_t end)
{
    struct bb_work *work = braces->result.work;
    const char *bytes = braces->format->bytes;
    size_t name_end = begin;
    int open = 0;
    while (name_end < end && (open > 0 || (bytes[name_end] != '!' && bytes[name_end] != ':'))) {
        open += bytes[name_end] == '[' ? 1 : bytes[name_end] == ']' ? -1 : 0;
        name_end++;
    }
    struct bb_value value = field_value(braces, begin, name_end);
    char conversion = '\0';
    if (name_end < end && bytes[name_end] == '!') {
        conversion = name_end + 1 < end ? bytes[name_end + 1] : '\0';
        name_end += 2;
        if (conversion == '\0' || strchr("rsa", conversion) == NULL || (name_end < end && bytes[name_end] != ':'))
            bb_raise(work, "expected ':' after conversion specifier");
    }
    struct bb_value specification = specification_text(braces, name_end < end ? name_end + 1 : end, end);
    if (work->status != BOMBUS_OK)
        return;
    if (conversion == 'r' || conversion == 'a') {
        struct bb_builder repr = {.work = work};
        bb_build_repr(&repr, value);
        value = bb_build_finish(&repr);
    } else if (conversion == 's') {
        value = bb_value_to_text(work, value);
    }
    if (braces->format->is_markup)
        value = bb_text_escape(work, value);
    if (work->status == BOMBUS_OK)
        bb_format_value(&braces->result, value, specification.text->bytes, specification.text->length);
}

static struct bb_value format_braces(struct bb_work *work, const struct bb_text *format,
                                     const struct bb_arguments *arguments)
{
    struct braces braces = {.result = {.work = work}, .format = format, .arguments = arguments};
    for (size_t i = 0; i < format->length && bb_work_step(work, 1); i++) {
        char c = format->bytes[i];
        if (c != '{' && c != '}') {
            bb_build_byte(&braces.result, c);
        } else if (i + 1 < format->length && format->bytes[i + 1] == c) {
            bb_build_byte(&braces.result, c);
            i++;
        } else if (c == '}') {
            bb_raise(work, "Single '}' encountered in format string");
        } else {
            size_t end = i + 1;
            int open = 1;
            while (end < format->length && (open += format->bytes[end] == '{'   ? 1
                                                    : format->bytes[end] == '}' ? -1
                                                                                : 0) > 0)
                end++;
            if (open > 0)
                bb_raise(work, i + 1 == format->length ? "Single '{' encountered in format string"
                                                       : "expected '}' before end of string");
            else
                build_field(&braces, i + 1, end);
            i = end;
        }
    }
    struct bb_value result = bb_build_finish(&braces.result);
    return format->is_markup ? bb_value_markup(work, result) : result;
}

static struct bb_value format(struct bb_work *work, struct bb_value self, const struct bb_value *bound,
                              const struct bb_arguments *arguments)
{
    (void)bound;
    return format_braces(work, self.text, arguments);
}

static struct bb_value format_map(struct bb_work *work, struct bb_value self, const struct bb_value *bound,
                                  const struct bb_arguments *arguments)
{
    (void)arguments;
    struct bb_arguments spread = {0};
    if (bound[0].kind != BB_VALUE_DICT)
        return bb_raise(work, "format_map() argument must be a mapping");
    for (size_t i = 0; i < bound[0].dict->count; i++)
        if (bound[0].dict->pairs[i].key.kind == BB_VALUE_TEXT &&
            !bb_arguments_append(work, &spread, bound[0].dict->pairs[i].key, bound[0].dict->pairs[i].value))
            return BB_NONE;
    return format_braces(work, self.text, &spread);
}

/* ---- methods ---- */

static struct bb_value bind(struct bb_work *work, const struct bb_function *function, struct bb_value self)
{
    struct bb_function *bound = bb_work_allocate(work, 1, sizeof *bound);
    if (bound == NULL)
        return BB_NONE;
    *bound = *function;
    bound->self = self;
    return (struct bb_value){.kind = BB_VALUE_FUNCTION, .function = bound};
}

/* What the immutable sandbox refuses: methods that change a list or dict, and Python's own attributes. */
static bool is_unsafe(struct bb_value value, const struct bb_text *name)
{
    static const char *const of_lists[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
    static const char *const of_all[] = {
        "__class__",       "__delattr__", "__dict__",    "__dir__",           "__doc__",
        "__eq__",          "__format__",  "__ge__",      "__getattribute__",  "__getstate__",
        "__gt__",          "__hash__",    "__init__",    "__init_subclass__", "__le__",
        "__lt__",          "__module__",  "__ne__",      "__new__",           "__reduce__",
        "__reduce_ex__",   "__repr__",    "__setattr__", "__sizeof__",        "__str__",
        "__subclasshook__"};
    static const char *const of_containers[] = {"__contains__", "__getitem__", "__iter__",    "__len__",     "__add__",
                                                "__mul__",      "__setitem__", "__delitem__", "__reversed__"};
    for (size_t i = 0; value.kind == BB_VALUE_LIST && i < BB_COUNT(of_lists); i++)
        if (bb_text_equals(name, of_lists[i]))
            return true;
    for (size_t i = 0; value.kind == BB_VALUE_DICT && i < BB_COUNT(of_dicts); i++)
        if (bb_text_equals(name, of_dicts[i]))
            return true;
    if (name->length < 2 || name->bytes[0] != '_' || name->bytes[1] != '_')
        return false;
    for (size_t i = 0; i < BB_COUNT(of_all); i++)
        if (bb_text_equals(name, of_all[i]))
            return true;
    for (size_t i = 0; (value.kind == BB_VALUE_LIST || value.kind == BB_VALUE_DICT || value.kind == BB_VALUE_TEXT) &&
                       i < BB_COUNT(of_containers);
         i++)
        if (bb_text_equals(name, of_containers[i]))
            return true;
    return (value.kind == BB_VALUE_FUNCTION || value.kind == BB_VALUE_MACRO) &&
           (bb_text_equals(name, "__globals__") || bb_text_equals(name, "__code__") ||
            bb_text_equals(name, "__call__"));
}

static struct bb_value unsafe_attribute(struct bb_work *work, struct bb_value value, struct bb_value name)
{
    struct bb_builder hint = {.work = work};
    bb_build_string(&hint, "access to attribute ");
    bb_build_repr(&hint, name);
    bb_build_format(&hint, " of '%s' object is unsafe.", bb_value_type_name(value));
    bb_build_byte(&hint, '\0');
    struct bb_value text = bb_build_finish(&hint);
    return text.kind == BB_VALUE_TEXT ? bb_value_undefined(work, text.text->bytes, bb_value_owner_name(value), name)
                                      : BB_NONE;
}

struct bb_value bb_value_method(struct bb_work *work, struct bb_value value, struct bb_value name)
{
    static const struct bb_function format_methods[] = {
        {"format", NULL, format, {0}},
        {"format_map", "mapping", format_map, {0}},
    };
    if (is_unsafe(value, name.text))
        return unsafe_attribute(work, value, name);
    for (size_t i = 0; value.kind == BB_VALUE_TEXT && i < BB_COUNT(format_methods); i++)
        if (bb_text_equals(name.text, format_methods[i].name))
            return bind(work, &format_methods[i], value);
    const struct bb_function *method = bb_find_method(value, name.text);
    return method != NULL ? bind(work, method, value) : BB_MISSING;
}

/* ---- attributes and items ---- */

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
    return found.kind != BB_VALUE_MISSING || work->status != BOMBUS_OK ? found : bb_value_method(work, value, name);
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
