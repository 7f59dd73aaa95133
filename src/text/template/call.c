/* Calls: macros, callers, recursive loops, built-in functions; arguments put in order. */
#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/evaluate.h"
#include "text/template/functions.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/repr.h"
#include "text/template/scope.h"
#include "text/template/undefined.h"

#include <string.h>

static bool enter_call(struct bb_work *work)
{
    if (work->calls >= work->limits.depth) {
        bb_raise_status(work, BOMBUS_ERROR_LIMIT, "calls are nested more than %d deep", (int)work->limits.depth);
        return false;
    }
    work->calls++;
    return true;
}

struct bb_value bb_macro_value(struct bb_work *work, const struct bb_node *node)
{
    struct bb_macro *macro = bb_work_allocate(work, 1, sizeof *macro);
    if (macro == NULL)
        return BB_NONE;
    *macro = (struct bb_macro){node, work->scope};
    return (struct bb_value){.kind = BB_VALUE_MACRO, .macro = macro};
}

/* ---- macros ---- */

static const char *macro_name(struct bb_work *work, const struct bb_node *node)
{
    return node->kind == BB_NODE_MACRO ? bb_repr_string(work, node->constant) : "None";
}

static const struct bb_keyword *find_keyword(struct bb_work *work, const struct bb_arguments *arguments,
                                             const struct bb_text *name)
{
    if (!bb_work_step(work, arguments->keyword_count))
        return NULL;
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (bb_text_compare(arguments->keywords[i].name.text, name) == 0)
            return &arguments->keywords[i];
    return NULL;
}

static struct bb_value missing_parameter(struct bb_work *work, const struct bb_node *parameter)
{
    struct bb_builder hint = {.work = work};
    bb_build_string(&hint, "parameter ");
    bb_build_repr(&hint, parameter->constant);
    bb_build(&hint, " was not provided", sizeof " was not provided");
    struct bb_value text = bb_build_finish(&hint);
    return bb_value_undefined(work, text.kind == BB_VALUE_TEXT ? text.text->bytes : NULL, NULL, parameter->constant);
}

/* Parameters get their values by position, else by keyword, else by default; a default sees the parameters that have one already,
 * and the others as undefined, whatever these names mean outside. */
static size_t bind_parameters(struct bb_work *work, const struct bb_node *node, const struct bb_arguments *arguments,
                              bool *keyword_used)
{
    size_t position = 0, given = arguments->count;
    for (const struct bb_node *parameter = node->second; parameter != NULL; parameter = parameter->next, position++) {
        const struct bb_keyword *keyword = find_keyword(work, arguments, parameter->constant.text);
        struct bb_value value = position < given  ? arguments->values[position]
                                : keyword != NULL ? keyword->value
                                                  : missing_parameter(work, parameter);
        if (position >= given && keyword != NULL)
            keyword_used[keyword - arguments->keywords] = true;
        if (work->status == BOMBUS_OK)
            bb_scope_set(work, work->scope, parameter->name, value);
    }
    position = 0;
    for (const struct bb_node *parameter = node->second; parameter != NULL; parameter = parameter->next, position++) {
        if (position < given || parameter->second == NULL ||
            find_keyword(work, arguments, parameter->constant.text) != NULL)
            continue;
        struct bb_value value = bb_evaluate(work, parameter->second);
        if (work->status == BOMBUS_OK)
            bb_scope_set(work, work->scope, parameter->name, value);
    }
    return position;
}

static bool has_parameter(const struct bb_node *node, uint32_t name)
{
    for (const struct bb_node *parameter = node->second; parameter != NULL; parameter = parameter->next)
        if (parameter->name == name)
            return true;
    return false;
}

/* caller, kwargs and varargs, for a body that uses them. */
static void bind_specials(struct bb_work *work, const struct bb_node *node, const struct bb_arguments *arguments,
                          bool *keyword_used, size_t parameter_count)
{
    for (size_t i = 0; i < arguments->keyword_count && node->uses_caller && !has_parameter(node, BB_NAME_CALLER); i++)
        if (bb_text_equals(arguments->keywords[i].name.text, "caller") && !keyword_used[i]) {
            bb_scope_set(work, work->scope, BB_NAME_CALLER, arguments->keywords[i].value);
            keyword_used[i] = true;
        }
    if (node->uses_kwargs && !has_parameter(node, BB_NAME_KWARGS)) {
        struct bb_dict *dict = bb_dict_create(work);
        for (size_t i = 0; i < arguments->keyword_count && work->status == BOMBUS_OK; i++)
            if (!keyword_used[i]) {
                bb_dict_set(work, dict, arguments->keywords[i].name, arguments->keywords[i].value);
                keyword_used[i] = true;
            }
        bb_scope_set(work, work->scope, BB_NAME_KWARGS, bb_value_dict(dict));
    }
    if (node->uses_varargs && !has_parameter(node, BB_NAME_VARARGS)) {
        size_t skipped = parameter_count < arguments->count ? parameter_count : arguments->count;
        bb_scope_set(work, work->scope, BB_NAME_VARARGS,
                     bb_value_list(work, BB_VALUE_TUPLE, arguments->count > 0 ? arguments->values + skipped : NULL,
                                   arguments->count - skipped));
    } else if (arguments->count > parameter_count) {
        bb_raise(work, "macro %s takes not more than %zu argument(s)", macro_name(work, node), parameter_count);
    }
}

static void bind_macro(struct bb_work *work, const struct bb_node *node, const struct bb_arguments *arguments)
{
    bool *keyword_used = bb_work_allocate(work, arguments->keyword_count, sizeof *keyword_used);
    if (keyword_used == NULL)
        return;
    if (node->uses_caller && !has_parameter(node, BB_NAME_CALLER))
        bb_scope_set(work, work->scope, BB_NAME_CALLER, bb_value_undefined(work, "No caller defined", NULL, BB_NONE));
    size_t parameter_count = work->status == BOMBUS_OK ? bind_parameters(work, node, arguments, keyword_used) : 0;
    if (work->status == BOMBUS_OK)
        bind_specials(work, node, arguments, keyword_used, parameter_count);
    for (size_t i = 0; i < arguments->keyword_count && work->status == BOMBUS_OK; i++)
        if (!keyword_used[i] && bb_text_equals(arguments->keywords[i].name.text, "caller"))
            bb_raise(work,
                     "macro %s was invoked with two values for the special caller argument. This is most likely a bug.",
                     macro_name(work, node));
        else if (!keyword_used[i])
            bb_raise(work, "macro %s takes no keyword argument %s", macro_name(work, node),
                     bb_repr_string(work, arguments->keywords[i].name));
}

struct bb_value bb_call_macro(struct bb_work *work, const struct bb_macro *macro, const struct bb_arguments *arguments)
{
    struct bb_scope *caller_scope = work->scope, *scope = bb_scope_create(work, macro->scope);
    struct bb_value text = BB_NONE;
    if (scope == NULL || !enter_call(work))
        return BB_NONE;
    work->scope = scope;
    bind_macro(work, macro->node, arguments);
    if (work->status == BOMBUS_OK)
        text = bb_render_captured(work, macro->node->body, scope);
    work->scope = caller_scope;
    work->calls--;
    return text;
}

struct bb_value bb_call_loop(struct bb_work *work, struct bb_loop *loop, const struct bb_arguments *arguments)
{
    if (!loop->node->is_recursive)
        return bb_raise(work, "The loop must have the 'recursive' marker to be called recursively.");
    if (arguments->count != 1 || arguments->keyword_count > 0)
        return bb_raise(work, "LoopContext.__call__() takes 2 positional arguments but %zu were given",
                        arguments->count + 1);
    if (!enter_call(work))
        return BB_NONE;
    struct bb_builder text = {.work = work}, *caller_output = work->output;
    struct bb_scope *caller_scope = work->scope;
    work->output = &text;
    work->scope = loop->scope;
    bb_render_loop(work, loop->node, arguments->values[0], loop->depth + 1);
    work->scope = caller_scope;
    work->output = caller_output;
    work->calls--;
    return bb_build_finish(&text);
}

/* ---- built-in functions ---- */

struct parameter {
    const char *name;
    size_t length;
    bool is_optional;
};

static size_t read_parameters(const char *text, struct parameter *parameters)
{
    size_t count = 0;
    while (*text != '\0' && count < BB_MAX_PARAMETERS) {
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
    struct parameter parameters[BB_MAX_PARAMETERS];
    struct bb_value bound[BB_MAX_PARAMETERS] = {{0}};
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
    case BB_VALUE_MACRO: value = bb_call_macro(work, callee.macro, arguments); break;
    case BB_VALUE_LOOP: value = bb_call_loop(work, callee.loop, arguments); break;
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
