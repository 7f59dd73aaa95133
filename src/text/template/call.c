/* Calls: built-in functions, found by name, get their arguments in order; macros and loops carry what a call of them does. */
#include "text/template/call.h"

#include "text/template/builder.h"
#include "text/template/functions.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/repr.h"
#include "text/template/undefined.h"

#include <string.h>

enum { MAX_PARAMETERS = 6 };

struct parameter {
    const char *name;
    size_t length;
    bool is_optional;
};

static size_t read_parameters(const char *text, struct parameter *parameters)
{
    size_t count = 0;
    while (*text != '\0' && count < MAX_PARAMETERS) {
        size_t length = strcspn(text, " ?");
        parameters[count++] = (struct parameter){text, length, text[length] == '?'};
        text += length;
        while (*text == ' ' || *text == '?')
            text++;
    }
    return count;
}

static bool bind_keywords(struct bb_work *work, const char *name, const struct parameter *parameters, size_t count,
                          const struct bb_arguments *arguments, struct bb_value *bound)
{
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        const struct bb_text *keyword = arguments->keywords[i].name.text;
        size_t j = 0;
        while (j < count && (parameters[j].length != keyword->length ||
                             memcmp(parameters[j].name, keyword->bytes, keyword->length) != 0))
            j++;
        if (j == count) {
            bb_raise(work, "%s() got an unexpected keyword argument %s", name,
                     bb_repr_string(work, arguments->keywords[i].name));
            return false;
        }
        if (bound[j].kind != BB_VALUE_MISSING) {
            bb_raise(work, "%s() got multiple values for argument %s", name,
                     bb_repr_string(work, arguments->keywords[i].name));
            return false;
        }
        bound[j] = arguments->keywords[i].value;
    }
    return true;
}

struct bb_value bb_call_function(struct bb_work *work, const struct bb_function *function, struct bb_value self,
                                 const struct bb_arguments *arguments)
{
    struct parameter parameters[MAX_PARAMETERS];
    struct bb_value bound[MAX_PARAMETERS] = {{0}};
    if (function->parameters == NULL)
        return function->body(work, self, bound, arguments);
    size_t count = read_parameters(function->parameters, parameters);
    if (arguments->count > count)
        return bb_raise(work, "%s() takes at most %zu argument%s (%zu given)", function->name, count,
                        count == 1 ? "" : "s", arguments->count);
    for (size_t i = 0; i < arguments->count; i++)
        bound[i] = arguments->values[i];
    if (!bind_keywords(work, function->name, parameters, count, arguments, bound))
        return BB_NONE;
    for (size_t i = 0; i < count; i++)
        if (bound[i].kind == BB_VALUE_MISSING && !parameters[i].is_optional)
            return bb_raise(work, "%s() missing required argument: '%.*s'", function->name, (int)parameters[i].length,
                            parameters[i].name);
    return function->body(work, self, bound, arguments);
}

struct bb_value bb_value_call(struct bb_work *work, struct bb_value callee, const struct bb_arguments *arguments)
{
    struct bb_value value;
    if (!bb_work_enter(work))
        return BB_NONE;
    switch (callee.kind) {
    case BB_VALUE_UNDEFINED: value = bb_raise_undefined(work, callee); break;
    case BB_VALUE_FUNCTION: value = bb_call_function(work, callee.function, callee.function->self, arguments); break;
    case BB_VALUE_MACRO: value = callee.macro->call(work, callee.macro, arguments); break;
    case BB_VALUE_LOOP: value = callee.loop->call(work, callee.loop, arguments); break;
    case BB_VALUE_JOINER:
        value = callee.joiner->was_used ? callee.joiner->separator : bb_value_string(work, "");
        callee.joiner->was_used = true;
        break;
    default: value = bb_raise(work, "'%s' object is not callable", bb_value_type_name(callee));
    }
    bb_work_leave(work);
    return value;
}

/* ---- look-up ---- */

static const struct bb_function *find_in(const struct bb_function *table, const struct bb_text *name)
{
    for (; table->name != NULL; table++)
        if (bb_text_equals(name, table->name))
            return table;
    return NULL;
}

const struct bb_function *bb_find_filter(const struct bb_text *name)
{
    const struct bb_function *found = find_in(bb_text_filters, name);
    found = found != NULL ? found : find_in(bb_sequence_filters, name);
    return found != NULL ? found : find_in(bb_value_filters, name);
}

const struct bb_function *bb_find_test(const struct bb_text *name)
{
    return find_in(bb_tests, name);
}

const struct bb_function *bb_find_global(const struct bb_text *name)
{
    return find_in(bb_global_functions, name);
}

struct bb_value bb_call_filter(struct bb_work *work, struct bb_value name, struct bb_value value,
                               const struct bb_arguments *arguments)
{
    const struct bb_function *filter = name.kind == BB_VALUE_TEXT ? bb_find_filter(name.text) : NULL;
    if (filter == NULL)
        return bb_raise(work, "No filter named %s.", bb_repr_string(work, name));
    if (filter->body == NULL)
        return bb_raise_status(work, BOMBUS_ERROR_UNSUPPORTED, "the filter '%s' is not supported", filter->name);
    /* map('map', ...) nests. */
    if (!bb_work_enter(work))
        return BB_NONE;
    value = bb_call_function(work, filter, value, arguments);
    bb_work_leave(work);
    return value;
}

bool bb_call_test(struct bb_work *work, struct bb_value name, struct bb_value value,
                  const struct bb_arguments *arguments)
{
    const struct bb_function *test = name.kind == BB_VALUE_TEXT ? bb_find_test(name.text) : NULL;
    if (test == NULL) {
        bb_raise(work, "No test named %s.", bb_repr_string(work, name));
        return false;
    }
    return bb_value_is_true(work, bb_call_function(work, test, value, arguments));
}
