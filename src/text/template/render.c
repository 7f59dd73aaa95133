/* Statements to text. */
#include "text/template/evaluate.h"
#include "text/template/functions.h"
#include "text/template/loop.h"
#include "text/template/scope.h"

static void assign_tuple(struct bb_run *run, const struct bb_node *target, struct bb_value value)
{
    size_t wanted = 0, i = 0;
    for (const struct bb_node *item = target->second; item != NULL; item = item->next)
        wanted++;
    if (!bb_is_iterable(value)) {
        bb_raise(run, "cannot unpack non-iterable %s object", bb_type_name(value));
        return;
    }
    struct bb_list items = bb_iterate(run, value);
    if (run->status != BOMBUS_OK)
        return;
    if (items.count < wanted)
        bb_raise(run, "not enough values to unpack (expected %zu, got %zu)", wanted, items.count);
    else if (items.count > wanted)
        bb_raise(run, "too many values to unpack (expected %zu)", wanted);
    for (const struct bb_node *item = target->second; item != NULL && run->status == BOMBUS_OK; item = item->next)
        bb_assign(run, item, items.items[i++]);
}

static void assign_attribute(struct bb_run *run, const struct bb_node *target, struct bb_value value)
{
    struct bb_value owner = bb_scope_get(run, target->name);
    run->place = target->place;
    if (owner.kind != BB_VALUE_NAMESPACE)
        bb_raise(run, "cannot assign attribute on non-namespace object");
    else if (target->constant.text->length > 0 && target->constant.text->bytes[0] == '_')
        bb_raise(run, "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename the "
                      "attribute.", bb_repr_string(run, target->constant));
    else
        bb_dict_set(run, owner.names, target->constant, value);
}

void bb_assign(struct bb_run *run, const struct bb_node *target, struct bb_value value)
{
    if (run->status != BOMBUS_OK)
        return;
    if (target->kind == BB_NODE_NAME)
        bb_scope_set(run, run->scope, target->name, value);
    else if (target->kind == BB_NODE_TUPLE)
        assign_tuple(run, target, value);
    else
        assign_attribute(run, target, value);
}

/* ---- loops ---- */

/* The items for which `test` holds; it sees the loop's target, but not its `loop`. */
static struct bb_list filter_items(struct bb_run *run, const struct bb_node *node, struct bb_list items)
{
    struct bb_list_builder kept = { .run = run };
    struct bb_scope *outer = run->scope;
    for (size_t i = 0; i < items.count && run->status == BOMBUS_OK; i++) {
        if ((run->scope = bb_scope_create(run, outer)) == NULL)
            break;
        bb_assign(run, node->second, items.items[i]);
        if (run->status == BOMBUS_OK && bb_is_true(run, bb_evaluate(run, node->test)))
            bb_list_add(&kept, items.items[i]);
    }
    run->scope = outer;
    return (struct bb_list){ .items = kept.items, .count = kept.count };
}

static void render_turns(struct bb_run *run, const struct bb_node *node, struct bb_loop *loop)
{
    struct bb_scope *outer = run->scope;
    struct bb_value variable = { .kind = BB_VALUE_LOOP, .loop = loop };
    for (; loop->index < loop->items.count && bb_run_step(run, 1); loop->index++) {
        if ((run->scope = bb_scope_create(run, outer)) == NULL)
            break;
        run->place = node->place;
        bb_assign(run, node->second, loop->items.items[loop->index]);
        bb_scope_set(run, run->scope, BB_NAME_LOOP, variable);
        if (run->status == BOMBUS_OK)
            bb_render_body(run, node->body);
        run->is_leaving_turn = false;
        if (run->is_leaving_loop) {
            run->is_leaving_loop = false;
            break;
        }
    }
    run->scope = outer;
}

void bb_render_loop(struct bb_run *run, const struct bb_node *node, struct bb_value iterable, int32_t depth)
{
    run->place = node->third->place;
    struct bb_list items = bb_iterate(run, iterable);
    if (node->test != NULL && run->status == BOMBUS_OK)
        items = filter_items(run, node, items);
    if (run->status != BOMBUS_OK)
        return;
    if (items.count == 0) {
        struct bb_scope *outer = run->scope;
        if (node->otherwise != NULL && (run->scope = bb_scope_create(run, outer)) != NULL)
            bb_render_body(run, node->otherwise);
        run->scope = outer;
        return;
    }
    struct bb_loop *loop = bb_run_allocate(run, 1, sizeof *loop);
    if (loop == NULL)
        return;
    *loop = (struct bb_loop){ .items = items, .depth = depth, .node = node, .scope = run->scope };
    render_turns(run, node, loop);
}

/* ---- blocks ---- */

struct bb_value bb_render_captured(struct bb_run *run, const struct bb_node *body, struct bb_scope *outer)
{
    struct bb_scope *caller_scope = run->scope;
    struct bb_builder text = { .run = run }, *caller_output = run->output;
    if ((run->scope = bb_scope_create(run, outer)) != NULL) {
        run->output = &text;
        bb_render_body(run, body);
        run->output = caller_output;
    }
    run->scope = caller_scope;
    return bb_build_finish(&text);
}

/* The captured body through the filters of a set or filter block, if any. */
static struct bb_value render_filtered(struct bb_run *run, const struct bb_node *node)
{
    struct bb_value text = bb_render_captured(run, node->body, run->scope), outer = run->captured;
    if (node->third == NULL || run->status != BOMBUS_OK)
        return text;
    run->captured = text;
    text = bb_evaluate(run, node->third);
    run->captured = outer;
    return text;
}

static void render_with(struct bb_run *run, const struct bb_node *node)
{
    struct bb_scope *outer = run->scope, *inner = bb_scope_create(run, outer);
    for (const struct bb_node *target = node->second; target != NULL && run->status == BOMBUS_OK; target = target->next->next) {
        struct bb_value value = bb_evaluate(run, target->next); /* sees the names outside */
        run->scope = inner;
        bb_assign(run, target, value);
        run->scope = outer;
    }
    if (run->status != BOMBUS_OK)
        return;
    run->scope = inner;
    bb_render_body(run, node->body);
    run->scope = outer;
}

static void render_generation(struct bb_run *run, const struct bb_node *node)
{
    struct bb_builder *output = run->output;
    struct bb_scope *outer = run->scope;
    size_t place = output->span_count, begin = output->buffer.length;
    bb_build_span(output, begin, begin); /* now, so that an outer block stands before those inside */
    if (run->status != BOMBUS_OK || (run->scope = bb_scope_create(run, outer)) == NULL)
        return;
    bb_render_body(run, node->body);
    run->scope = outer;
    if (run->status == BOMBUS_OK)
        output->spans[place].end = output->buffer.length;
}

static void render_call_block(struct bb_run *run, const struct bb_node *node)
{
    struct bb_arguments arguments;
    struct bb_value callee = bb_evaluate(run, node->third->first);
    if (run->status != BOMBUS_OK || !bb_evaluate_arguments(run, node->third->second, &arguments) ||
        !bb_arguments_append(run, &arguments, bb_value_string(run, "caller"), bb_macro_value(run, node)))
        return;
    run->place = node->third->place;
    struct bb_value text = bb_call(run, callee, &arguments);
    if (run->status == BOMBUS_OK)
        bb_build_value(run->output, text);
}

static void render_if(struct bb_run *run, const struct bb_node *node)
{
    while (node != NULL && node->second != NULL && !bb_is_true(run, bb_evaluate(run, node->second)))
        node = run->status == BOMBUS_OK ? node->third : NULL;
    if (node != NULL && run->status == BOMBUS_OK)
        bb_render_body(run, node->body);
}

static void render_statement(struct bb_run *run, const struct bb_node *node)
{
    struct bb_value value;
    switch (node->kind) {
    case BB_NODE_DATA: bb_build(run->output, node->constant.text->bytes, node->constant.text->length); break;
    case BB_NODE_OUTPUT:
        value = bb_evaluate(run, node->second);
        run->place = node->place;
        if (run->status == BOMBUS_OK)
            bb_build_value(run->output, value);
        break;
    case BB_NODE_IF: render_if(run, node); break;
    case BB_NODE_FOR:
        value = bb_evaluate(run, node->third);
        if (run->status == BOMBUS_OK)
            bb_render_loop(run, node, value, 0);
        break;
    case BB_NODE_SET:
        value = bb_evaluate(run, node->third);
        run->place = node->place;
        bb_assign(run, node->second, value);
        break;
    case BB_NODE_SET_BLOCK: bb_assign(run, node->second, render_filtered(run, node)); break;
    case BB_NODE_FILTER_BLOCK:
        value = render_filtered(run, node);
        if (run->status == BOMBUS_OK)
            bb_build_value(run->output, value);
        break;
    case BB_NODE_WITH: render_with(run, node); break;
    case BB_NODE_MACRO: bb_scope_set(run, run->scope, node->name, bb_macro_value(run, node)); break;
    case BB_NODE_CALL_BLOCK: render_call_block(run, node); break;
    case BB_NODE_GENERATION: render_generation(run, node); break;
    case BB_NODE_CONTINUE: run->is_leaving_turn = true; break;
    default: run->is_leaving_turn = run->is_leaving_loop = true; /* BREAK */
    }
}

void bb_render_body(struct bb_run *run, const struct bb_node *body)
{
    if (!bb_run_enter(run))
        return;
    for (const struct bb_node *node = body; node != NULL && bb_run_step(run, 1) && !run->is_leaving_turn; node = node->next) {
        run->place = node->place;
        render_statement(run, node);
    }
    bb_run_leave(run);
}
