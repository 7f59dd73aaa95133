/* The parameters of a macro get their values. */
#include "text/template/macro.h"

#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/evaluate.h"
#include "text/template/list.h"
#include "text/template/repr.h"
#include "text/template/scope.h"
#include "text/template/undefined.h"

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

void bb_macro_bind(struct bb_work *work, const struct bb_node *node, const struct bb_arguments *arguments)
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
