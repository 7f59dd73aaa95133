/* What a value is: its type, a number's size, a text's bytes. */
#include "text/template/value.h"

#include "text/template/real.h"

#include <string.h>

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

bool bb_value_is_iterable(struct bb_value value)
{
    return (bb_value_has_length(value) || value.kind == BB_VALUE_ITERATOR);
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
