/* Calls: macros, callers, recursive loops, built-in functions; arguments put in order. */
#include "text/template/evaluate.h"
#include "text/template/functions.h"
#include "text/template/loop.h"
#include "text/template/scope.h"

#include <string.h>

static bool enter_call(struct bb_run *run)
{
    if (run->calls >= run->limits.depth) {
        bb_raise_status(run, BOMBUS_ERROR_LIMIT, "calls are nested more than %d deep", (int)run->limits.depth);
        return false;
    }
    run->calls++;
    return true;
}

struct bb_value bb_macro_value(struct bb_run *run, const struct bb_node *node)
{
    struct bb_macro *macro = bb_run_allocate(run, 1, sizeof *macro);
    if (macro == NULL)
        return BB_NONE;
    *macro = (struct bb_macro){ node, run->scope };
    return (struct bb_value){ .kind = BB_VALUE_MACRO, .macro = macro };
}

/* ---- macros ---- */

static const char *macro_name(struct bb_run *run, const struct bb_node *node)
{
    return node->kind == BB_NODE_MACRO ? bb_repr_string(run, node->constant) : "None";
}

static const struct bb_keyword *find_keyword(const struct bb_arguments *arguments, const struct bb_text *name)
{
    for (size_t i = 0; i < arguments->keyword_count; i++)
        if (bb_text_compare(arguments->keywords[i].name.text, name) == 0)
            return &arguments->keywords[i];
    return NULL;
}

/* Parameters in order: positional, by keyword, default (which sees the parameters before it). *used counts keywords taken. */
static size_t bind_parameters(struct bb_run *run, const struct bb_node *node, const struct bb_arguments *arguments, bool *keyword_used)
{
    size_t position = 0;
    for (const struct bb_node *parameter = node->second; parameter != NULL; parameter = parameter->next, position++) {
        struct bb_value value = BB_MISSING;
        const struct bb_keyword *keyword = NULL;
        if (position < arguments->count)
            value = arguments->values[position];
        else if ((keyword = find_keyword(arguments, parameter->constant.text)) != NULL) {
            value = keyword->value;
            keyword_used[keyword - arguments->keywords] = true;
        } else if (parameter->second != NULL) {
            value = bb_evaluate(run, parameter->second);
        } else {
            struct bb_builder hint = { .run = run };
            bb_build_string(&hint, "parameter ");
            bb_build_repr(&hint, parameter->constant);
            bb_build(&hint, " was not provided", sizeof " was not provided");
            struct bb_value text = bb_build_finish(&hint);
            value = bb_value_undefined(run, text.kind == BB_VALUE_TEXT ? text.text->bytes : NULL, NULL, parameter->constant);
        }
        if (run->status == BOMBUS_OK)
            bb_scope_set(run, run->scope, parameter->name, value);
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
static void bind_specials(struct bb_run *run, const struct bb_node *node, const struct bb_arguments *arguments, bool *keyword_used,
                          size_t parameter_count)
{
    for (size_t i = 0; i < arguments->keyword_count && node->uses_caller && !has_parameter(node, BB_NAME_CALLER); i++)
        if (bb_text_equals(arguments->keywords[i].name.text, "caller") && !keyword_used[i]) {
            bb_scope_set(run, run->scope, BB_NAME_CALLER, arguments->keywords[i].value);
            keyword_used[i] = true;
        }
    if (node->uses_kwargs && !has_parameter(node, BB_NAME_KWARGS)) {
        struct bb_dict *dict = bb_dict_create(run);
        for (size_t i = 0; i < arguments->keyword_count && run->status == BOMBUS_OK; i++)
            if (!keyword_used[i]) {
                bb_dict_set(run, dict, arguments->keywords[i].name, arguments->keywords[i].value);
                keyword_used[i] = true;
            }
        bb_scope_set(run, run->scope, BB_NAME_KWARGS, bb_value_dict(dict));
    }
    if (node->uses_varargs && !has_parameter(node, BB_NAME_VARARGS)) {
        size_t skipped = parameter_count < arguments->count ? parameter_count : arguments->count;
        bb_scope_set(run, run->scope, BB_NAME_VARARGS,
                     bb_value_list(run, BB_VALUE_TUPLE, arguments->count > 0 ? arguments->values + skipped : NULL, arguments->count - skipped));
    } else if (arguments->count > parameter_count) {
        bb_raise(run, "macro %s takes not more than %zu argument(s)", macro_name(run, node), parameter_count);
    }
}

static void bind_macro(struct bb_run *run, const struct bb_node *node, const struct bb_arguments *arguments)
{
    bool *keyword_used = bb_run_allocate(run, arguments->keyword_count, sizeof *keyword_used);
    if (keyword_used == NULL)
        return;
    if (node->uses_caller && !has_parameter(node, BB_NAME_CALLER))
        bb_scope_set(run, run->scope, BB_NAME_CALLER,
                     bb_value_undefined(run, "No caller defined", NULL, BB_NONE));
    size_t parameter_count = run->status == BOMBUS_OK ? bind_parameters(run, node, arguments, keyword_used) : 0;
    if (run->status == BOMBUS_OK)
        bind_specials(run, node, arguments, keyword_used, parameter_count);
    for (size_t i = 0; i < arguments->keyword_count && run->status == BOMBUS_OK; i++)
        if (!keyword_used[i] && bb_text_equals(arguments->keywords[i].name.text, "caller"))
            bb_raise(run, "macro %s was invoked with two values for the special caller argument. This is most likely a bug.",
                     macro_name(run, node));
        else if (!keyword_used[i])
            bb_raise(run, "macro %s takes no keyword argument %s", macro_name(run, node),
                     bb_repr_string(run, arguments->keywords[i].name));
}

struct bb_value bb_call_macro(struct bb_run *run, const struct bb_macro *macro, const struct bb_arguments *arguments)
{
    struct bb_scope *caller_scope = run->scope, *scope = bb_scope_create(run, macro->scope);
    struct bb_value text = BB_NONE;
    if (scope == NULL || !enter_call(run))
        return BB_NONE;
    run->scope = scope;
    bind_macro(run, macro->node, arguments);
    if (run->status == BOMBUS_OK)
        text = bb_render_captured(run, macro->node->body, scope);
    run->scope = caller_scope;
    run->calls--;
    return text;
}

struct bb_value bb_call_loop(struct bb_run *run, struct bb_loop *loop, const struct bb_arguments *arguments)
{
    if (!loop->node->is_recursive)
        return bb_raise(run, "The loop must have the 'recursive' marker to be called recursively.");
    if (arguments->count != 1 || arguments->keyword_count > 0)
        return bb_raise(run, "LoopContext.__call__() takes 2 positional arguments but %zu were given", arguments->count + 1);
    if (!enter_call(run))
        return BB_NONE;
    struct bb_builder text = { .run = run }, *caller_output = run->output;
    struct bb_scope *caller_scope = run->scope;
    run->output = &text;
    run->scope = loop->scope;
    bb_render_loop(run, loop->node, arguments->values[0], loop->depth + 1);
    run->scope = caller_scope;
    run->output = caller_output;
    run->calls--;
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
        parameters[count++] = (struct parameter){ text, length, text[length] == '?' };
        text += length;
        while (*text == ' ' || *text == '?')
            text++;
    }
    return count;
}

static bool bind_keywords(struct bb_run *run, const char *name, const struct parameter *parameters, size_t count,
                          const struct bb_arguments *arguments, struct bb_value *bound)
{
    for (size_t i = 0; i < arguments->keyword_count; i++) {
        const struct bb_text *keyword = arguments->keywords[i].name.text;
        size_t j = 0;
        while (j < count && (parameters[j].length != keyword->length || memcmp(parameters[j].name, keyword->bytes, keyword->length) != 0))
            j++;
        if (j == count) {
            bb_raise(run, "%s() got an unexpected keyword argument %s", name, bb_repr_string(run, arguments->keywords[i].name));
            return false;
        }
        if (bound[j].kind != BB_VALUE_MISSING) {
            bb_raise(run, "%s() got multiple values for argument %s", name, bb_repr_string(run, arguments->keywords[i].name));
            return false;
        }
        bound[j] = arguments->keywords[i].value;
    }
    return true;
}

struct bb_value bb_call_function(struct bb_run *run, const struct bb_function *function, struct bb_value self,
                                 const struct bb_arguments *arguments)
{
    struct parameter parameters[BB_MAX_PARAMETERS];
    struct bb_value bound[BB_MAX_PARAMETERS] = {{0}};
    if (function->parameters == NULL)
        return function->body(run, self, bound, arguments);
    size_t count = read_parameters(function->parameters, parameters);
    if (arguments->count > count)
        return bb_raise(run, "%s() takes at most %zu argument%s (%zu given)", function->name, count, count == 1 ? "" : "s", arguments->count);
    for (size_t i = 0; i < arguments->count; i++)
        bound[i] = arguments->values[i];
    if (!bind_keywords(run, function->name, parameters, count, arguments, bound))
        return BB_NONE;
    for (size_t i = 0; i < count; i++)
        if (bound[i].kind == BB_VALUE_MISSING && !parameters[i].is_optional)
            return bb_raise(run, "%s() missing required argument: '%.*s'", function->name, (int)parameters[i].length, parameters[i].name);
    return function->body(run, self, bound, arguments);
}

struct bb_value bb_call(struct bb_run *run, struct bb_value callee, const struct bb_arguments *arguments)
{
    struct bb_value value;
    if (!bb_run_enter(run))
        return BB_NONE;
    switch (callee.kind) {
    case BB_VALUE_UNDEFINED: value = bb_raise_undefined(run, callee); break;
    case BB_VALUE_FUNCTION: value = bb_call_function(run, callee.function, callee.function->self, arguments); break;
    case BB_VALUE_MACRO: value = bb_call_macro(run, callee.macro, arguments); break;
    case BB_VALUE_LOOP: value = bb_call_loop(run, callee.loop, arguments); break;
    case BB_VALUE_JOINER:
        value = callee.joiner->was_used ? callee.joiner->separator : bb_value_string(run, "");
        callee.joiner->was_used = true;
        break;
    default: value = bb_raise(run, "'%s' object is not callable", bb_type_name(callee));
    }
    bb_run_leave(run);
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

struct bb_value bb_call_filter(struct bb_run *run, struct bb_value name, struct bb_value value, const struct bb_arguments *arguments)
{
    const struct bb_function *filter = name.kind == BB_VALUE_TEXT ? bb_find_filter(name.text) : NULL;
    if (filter == NULL)
        return bb_raise(run, "No filter named %s.", bb_repr_string(run, name));
    if (filter->body == NULL)
        return bb_raise_status(run, BOMBUS_ERROR_UNSUPPORTED, "the filter '%s' is not supported", filter->name);
    /* map('map', ...) nests. */
    if (!bb_run_enter(run))
        return BB_NONE;
    value = bb_call_function(run, filter, value, arguments);
    bb_run_leave(run);
    return value;
}

bool bb_call_test(struct bb_run *run, struct bb_value name, struct bb_value value, const struct bb_arguments *arguments)
{
    const struct bb_function *test = name.kind == BB_VALUE_TEXT ? bb_find_test(name.text) : NULL;
    if (test == NULL) {
        bb_raise(run, "No test named %s.", bb_repr_string(run, name));
        return false;
    }
    return bb_is_true(run, bb_call_function(run, test, value, arguments));
}
