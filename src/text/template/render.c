/* Statements to text, and the calls that render statements: of macros, callers and recursive loops. */
#include "text/template/render.h"

#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/call.h"
#include "text/template/compare.h"
#include "text/template/evaluate.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/macro.h"
#include "text/template/repr.h"
#include "text/template/scope.h"

static void assign(struct bb_work *work, const struct bb_node *target, struct bb_value value);

static void assign_tuple(struct bb_work *work, const struct bb_node *target, struct bb_value value)
{
    size_t wanted = 0, i = 0;
    for (const struct bb_node *item = target->second; item != NULL; item = item->next)
        wanted++;
    if (!bb_value_is_iterable(value)) {
        bb_raise(work, "cannot unpack non-iterable %s object", bb_value_type_name(value));
        return;
    }
    struct bb_list items = bb_value_iterate(work, value);
    if (work->status != BOMBUS_OK)
        return;
    if (items.count < wanted)
        bb_raise(work, "not enough values to unpack (expected %zu, got %zu)", wanted, items.count);
    else if (items.count > wanted)
        bb_raise(work, "too many values to unpack (expected %zu)", wanted);
    for (const struct bb_node *item = target->second; item != NULL && work->status == BOMBUS_OK; item = item->next)
        assign(work, item, items.items[i++]);
}

static void assign_attribute(struct bb_work *work, const struct bb_node *target, struct bb_value value)
{
    struct bb_value owner = bb_scope_get(work, target->name);
    work->place = target->place;
    if (owner.kind != BB_VALUE_NAMESPACE)
        bb_raise(work, "cannot assign attribute on non-namespace object");
    else if (target->constant.text->length > 0 && target->constant.text->bytes[0] == '_')
        bb_raise(
            work,
            "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the "
            "attribute.",
            bb_repr_string(work, target->constant));
    else
        bb_dict_set(work, owner.names, target->constant, value);
}

static void assign(struct bb_work *work, const struct bb_node *target, struct bb_value value)
{
    if (work->status != BOMBUS_OK)
        return;
    if (target->kind == BB_NODE_NAME)
        bb_scope_set(work, work->scope, target->name, value);
    else if (target->kind == BB_NODE_TUPLE)
        assign_tuple(work, target, value);
    else
        assign_attribute(work, target, value);
}

/* ---- macros ---- */

static bool enter_call(struct bb_work *work)
{
    if (work->calls >= work->limits.depth) {
        bb_raise_status(work, BOMBUS_ERROR_LIMIT, "calls are nested more than %d deep", (int)work->limits.depth);
        return false;
    }
    work->calls++;
    return true;
}

/* The text of a body with a scope of its own. */
static struct bb_value render_captured(struct bb_work *work, const struct bb_node *body, struct bb_scope *outer)
{
    struct bb_scope *caller_scope = work->scope;
    struct bb_builder text = {.work = work}, *caller_output = work->output;
    if ((work->scope = bb_scope_create(work, outer)) != NULL) {
        work->output = &text;
        bb_render_body(work, body);
        work->output = caller_output;
    }
    work->scope = caller_scope;
    return bb_build_finish(&text);
}

static struct bb_value call_macro(struct bb_work *work, const struct bb_macro *macro,
                                  const struct bb_arguments *arguments)
{
    struct bb_scope *caller_scope = work->scope, *scope = bb_scope_create(work, macro->scope);
    struct bb_value text = BB_NONE;
    if (scope == NULL || !enter_call(work))
        return BB_NONE;
    work->scope = scope;
    bb_macro_bind(work, macro->node, arguments);
    if (work->status == BOMBUS_OK)
        text = render_captured(work, macro->node->body, scope);
    work->scope = caller_scope;
    work->calls--;
    return text;
}

/* The macro is defined in work->scope. */
static struct bb_value macro_value(struct bb_work *work, const struct bb_node *node)
{
    struct bb_macro *macro = bb_work_allocate(work, 1, sizeof *macro);
    if (macro == NULL)
        return BB_NONE;
    *macro = (struct bb_macro){.node = node, .scope = work->scope, .call = call_macro};
    return (struct bb_value){.kind = BB_VALUE_MACRO, .macro = macro};
}

/* ---- loops ---- */

static void render_loop(struct bb_work *work, const struct bb_node *node, struct bb_value iterable, int32_t depth);

static struct bb_value call_loop(struct bb_work *work, struct bb_loop *loop, const struct bb_arguments *arguments)
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
    render_loop(work, loop->node, arguments->values[0], loop->depth + 1);
    work->scope = caller_scope;
    work->output = caller_output;
    work->calls--;
    return bb_build_finish(&text);
}

/* The items for which `test` holds; it sees the loop's target, but not its `loop`. */
static struct bb_list filter_items(struct bb_work *work, const struct bb_node *node, struct bb_list items)
{
    struct bb_list_builder kept = {.work = work};
    struct bb_scope *outer = work->scope;
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++) {
        if ((work->scope = bb_scope_create(work, outer)) == NULL)
            break;
        assign(work, node->second, items.items[i]);
        if (work->status == BOMBUS_OK && bb_value_is_true(work, bb_evaluate(work, node->test)))
            bb_list_add(&kept, items.items[i]);
    }
    work->scope = outer;
    return (struct bb_list){.items = kept.items, .count = kept.count};
}

/* True if a turn came to its end; one left by continue or break does not count, as in jinja2. */
static bool render_turns(struct bb_work *work, const struct bb_node *node, struct bb_loop *loop)
{
    struct bb_scope *outer = work->scope;
    bool is_complete = false;
    struct bb_value variable = {.kind = BB_VALUE_LOOP, .loop = loop};
    for (; loop->index < loop->items.count && bb_work_step(work, 1); loop->index++) {
        if ((work->scope = bb_scope_create(work, outer)) == NULL)
            break;
        work->place = node->place;
        assign(work, node->second, loop->items.items[loop->index]);
        bb_scope_set(work, work->scope, BB_NAME_LOOP, variable);
        if (work->status == BOMBUS_OK)
            bb_render_body(work, node->body);
        is_complete |= !work->is_leaving_turn;
        work->is_leaving_turn = false;
        if (work->is_leaving_loop) {
            work->is_leaving_loop = false;
            break;
        }
    }
    work->scope = outer;
    return is_complete;
}

static void render_otherwise(struct bb_work *work, const struct bb_node *node)
{
    struct bb_scope *outer = work->scope;
    if (node->otherwise != NULL && (work->scope = bb_scope_create(work, outer)) != NULL)
        bb_render_body(work, node->otherwise);
    work->scope = outer;
}

/* `depth`: 0, or how often the loop was called within itself. */
static void render_loop(struct bb_work *work, const struct bb_node *node, struct bb_value iterable, int32_t depth)
{
    work->place = node->third->place;
    struct bb_list items = bb_value_iterate(work, iterable);
    if (node->test != NULL && work->status == BOMBUS_OK)
        items = filter_items(work, node, items);
    struct bb_loop *loop = bb_work_allocate(work, 1, sizeof *loop);
    if (loop == NULL)
        return;
    *loop = (struct bb_loop){.items = items, .depth = depth, .node = node, .scope = work->scope, .call = call_loop};
    if (!render_turns(work, node, loop) && work->status == BOMBUS_OK)
        render_otherwise(work, node);
}

/* ---- blocks ---- */

/* The captured body through the filters of a set or filter block, if any. */
static struct bb_value render_filtered(struct bb_work *work, const struct bb_node *node)
{
    struct bb_value text = render_captured(work, node->body, work->scope), outer = work->captured;
    if (node->third == NULL || work->status != BOMBUS_OK)
        return text;
    work->captured = text;
    text = bb_evaluate(work, node->third);
    work->captured = outer;
    return text;
}

static void render_with(struct bb_work *work, const struct bb_node *node)
{
    struct bb_scope *outer = work->scope, *inner = bb_scope_create(work, outer);
    for (const struct bb_node *target = node->second; target != NULL && work->status == BOMBUS_OK;
         target = target->next->next) {
        struct bb_value value = bb_evaluate(work, target->next); /* sees the names outside */
        work->scope = inner;
        assign(work, target, value);
        work->scope = outer;
    }
    if (work->status != BOMBUS_OK)
        return;
    work->scope = inner;
    bb_render_body(work, node->body);
    work->scope = outer;
}

static void render_generation(struct bb_work *work, const struct bb_node *node)
{
    struct bb_builder *output = work->output;
    struct bb_scope *outer = work->scope;
    size_t place = output->span_count, begin = output->buffer.length;
    bb_build_span(output, begin, begin); /* now, so that an outer block stands before those inside */
    if (work->status != BOMBUS_OK || (work->scope = bb_scope_create(work, outer)) == NULL)
        return;
    bb_render_body(work, node->body);
    work->scope = outer;
    if (work->status == BOMBUS_OK)
        output->spans[place].end = output->buffer.length;
}

static void render_call_block(struct bb_work *work, const struct bb_node *node)
{
    struct bb_arguments arguments;
    struct bb_value callee = bb_evaluate(work, node->third->first);
    if (work->status != BOMBUS_OK || !bb_evaluate_arguments(work, node->third->second, &arguments) ||
        !bb_arguments_append(work, &arguments, bb_value_string(work, "caller"), macro_value(work, node)))
        return;
    work->place = node->third->place;
    struct bb_value text = bb_value_call(work, callee, &arguments);
    if (work->status == BOMBUS_OK)
        bb_build_value(work->output, text);
}

static void render_if(struct bb_work *work, const struct bb_node *node)
{
    while (node != NULL && node->second != NULL && !bb_value_is_true(work, bb_evaluate(work, node->second)))
        node = work->status == BOMBUS_OK ? node->third : NULL;
    if (node != NULL && work->status == BOMBUS_OK)
        bb_render_body(work, node->body);
}

static void render_statement(struct bb_work *work, const struct bb_node *node)
{
    struct bb_value value;
    switch (node->kind) {
    case BB_NODE_DATA: bb_build(work->output, node->constant.text->bytes, node->constant.text->length); break;
    case BB_NODE_OUTPUT:
        value = bb_evaluate(work, node->second);
        work->place = node->place;
        if (work->status == BOMBUS_OK)
            bb_build_value(work->output, value);
        break;
    case BB_NODE_IF: render_if(work, node); break;
    case BB_NODE_FOR:
        value = bb_evaluate(work, node->third);
        if (work->status == BOMBUS_OK)
            render_loop(work, node, value, 0);
        break;
    case BB_NODE_SET:
        value = bb_evaluate(work, node->third);
        work->place = node->place;
        assign(work, node->second, value);
        break;
    case BB_NODE_SET_BLOCK: assign(work, node->second, render_filtered(work, node)); break;
    case BB_NODE_FILTER_BLOCK:
        value = render_filtered(work, node);
        if (work->status == BOMBUS_OK)
            bb_build_value(work->output, value);
        break;
    case BB_NODE_WITH: render_with(work, node); break;
    case BB_NODE_MACRO: bb_scope_set(work, work->scope, node->name, macro_value(work, node)); break;
    case BB_NODE_CALL_BLOCK: render_call_block(work, node); break;
    case BB_NODE_GENERATION: render_generation(work, node); break;
    case BB_NODE_CONTINUE: work->is_leaving_turn = true; break;
    default: work->is_leaving_turn = work->is_leaving_loop = true; /* BREAK */
    }
}

void bb_render_body(struct bb_work *work, const struct bb_node *body)
{
    if (!bb_work_enter(work))
        return;
    for (const struct bb_node *node = body; node != NULL && bb_work_step(work, 1) && !work->is_leaving_turn;
         node = node->next) {
        work->place = node->place;
        render_statement(work, node);
    }
    bb_work_leave(work);
}
