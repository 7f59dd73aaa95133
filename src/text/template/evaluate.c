/* Expressions to values. */
#include "text/template/evaluate.h"

#include "text/template/access.h"
#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/call.h"
#include "text/template/compare.h"
#include "text/template/list.h"
#include "text/template/operators.h"
#include "text/template/repr.h"
#include "text/template/scope.h"
#include "text/template/slice.h"
#include "text/template/undefined.h"

static struct bb_value evaluate_items(struct bb_work *work, const struct bb_node *node)
{
    struct bb_list_builder items = {.work = work};
    for (const struct bb_node *item = node->second; item != NULL && work->status == BOMBUS_OK; item = item->next)
        bb_list_add(&items, bb_evaluate(work, item));
    return bb_list_finish(&items, node->kind == BB_NODE_LIST ? BB_VALUE_LIST : BB_VALUE_TUPLE);
}

static struct bb_value evaluate_dict(struct bb_work *work, const struct bb_node *node)
{
    struct bb_dict *dict = bb_dict_create(work);
    for (const struct bb_node *key = node->second; key != NULL && work->status == BOMBUS_OK; key = key->next->next) {
        struct bb_value name = bb_evaluate(work, key), value = bb_evaluate(work, key->next);
        if (work->status == BOMBUS_OK)
            bb_dict_set(work, dict, name, value);
    }
    return bb_value_dict(dict);
}

static struct bb_value evaluate_leaf(struct bb_work *work, const struct bb_node *node)
{
    struct bb_value value;
    switch (node->kind) {
    case BB_NODE_CONSTANT: return node->constant;
    case BB_NODE_NAME:
        value = bb_scope_get(work, node->name);
        return value.kind == BB_VALUE_MISSING ? bb_value_undefined(work, NULL, NULL, node->constant) : value;
    case BB_NODE_LIST:
    case BB_NODE_TUPLE: return evaluate_items(work, node);
    case BB_NODE_DICT: return evaluate_dict(work, node);
    default: return work->captured;
    }
}

static void add_keyword(struct bb_work *work, struct bb_arguments *arguments, struct bb_value name,
                        struct bb_value value)
{
    for (size_t i = 0; i < arguments->keyword_count && bb_work_step(work, 1); i++)
        if (bb_text_compare(arguments->keywords[i].name.text, name.text) == 0)
            bb_raise(work, "got multiple values for keyword argument %s", bb_repr_string(work, name));
    if (work->status == BOMBUS_OK && !bb_arguments_append(work, arguments, name, value))
        return;
}

static void spread_keywords(struct bb_work *work, struct bb_value value, struct bb_arguments *arguments)
{
    if (value.kind != BB_VALUE_DICT) {
        bb_raise(work, "argument after ** must be a mapping, not %s", bb_value_type_name(value));
        return;
    }
    for (size_t i = 0; i < value.dict->count && work->status == BOMBUS_OK; i++) {
        if (value.dict->pairs[i].key.kind != BB_VALUE_TEXT)
            bb_raise(work, "keywords must be strings");
        else
            add_keyword(work, arguments, value.dict->pairs[i].key, value.dict->pairs[i].value);
    }
}

static void spread_items(struct bb_work *work, struct bb_value value, struct bb_list_builder *positional)
{
    if (!bb_value_is_iterable(value)) {
        bb_raise(work, "Value after * must be an iterable, not %s", bb_value_type_name(value));
        return;
    }
    struct bb_list items = bb_value_iterate(work, value);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++)
        bb_list_add(positional, items.items[i]);
}

bool bb_evaluate_arguments(struct bb_work *work, const struct bb_node *list, struct bb_arguments *arguments)
{
    struct bb_list_builder positional = {.work = work};
    *arguments = (struct bb_arguments){0};
    for (const struct bb_node *node = list; node != NULL && work->status == BOMBUS_OK; node = node->next) {
        struct bb_value value = bb_evaluate(work, node->second);
        if (work->status != BOMBUS_OK)
            return false;
        if (node->operation == BB_ARGUMENT_POSITIONAL) {
            bb_list_add(&positional, value);
        } else if (node->operation == BB_ARGUMENT_KEYWORD) {
            add_keyword(work, arguments, node->constant, value);
        } else if (node->operation == BB_ARGUMENT_SPREAD) {
            spread_items(work, value, &positional);
        } else {
            spread_keywords(work, value, arguments);
        }
    }
    arguments->values = positional.items;
    arguments->count = positional.count;
    return work->status == BOMBUS_OK;
}

static bool compare(struct bb_work *work, int32_t operation, struct bb_value a, struct bb_value b)
{
    int order;
    switch (operation) {
    case BB_OPERATION_EQUAL: return bb_value_is_equal(work, a, b);
    case BB_OPERATION_NOT_EQUAL: return !bb_value_is_equal(work, a, b);
    case BB_OPERATION_IN: return bb_value_contains(work, b, a);
    case BB_OPERATION_NOT_IN: return !bb_value_contains(work, b, a);
    default:
        order = bb_value_compare(work, a, b, bb_operation_name(operation));
        return operation == BB_OPERATION_LESS         ? order == -1
               : operation == BB_OPERATION_LESS_EQUAL ? order == -1 || order == 0
               : operation == BB_OPERATION_GREATER    ? order == 1
                                                      : order == 1 || order == 0;
    }
}

/* a < b < c: each operand evaluated once, as long as the comparisons before hold. */
static struct bb_value evaluate_comparison(struct bb_work *work, const struct bb_node *node, struct bb_value left)
{
    bool holds = true;
    for (const struct bb_node *operand = node->second; operand != NULL && holds && work->status == BOMBUS_OK;
         operand = operand->next) {
        struct bb_value right = bb_evaluate(work, operand->second);
        work->place = operand->place;
        holds = work->status == BOMBUS_OK && compare(work, operand->operation, left, right);
        left = right;
    }
    return bb_value_bool(holds);
}

static struct bb_value evaluate_concat(struct bb_work *work, const struct bb_node *node, struct bb_value left)
{
    struct bb_builder text = {.work = work};
    struct bb_value result = BB_NONE;
    bb_build_value(&text, left);
    for (const struct bb_node *operand = node->second; operand != NULL && work->status == BOMBUS_OK;
         operand = operand->next) {
        struct bb_value value = bb_evaluate(work, operand);
        if (work->status == BOMBUS_OK)
            bb_build_value(&text, value);
    }
    result = bb_build_finish(&text);
    return result;
}

static struct bb_value evaluate_call(struct bb_work *work, const struct bb_node *node, struct bb_value callee)
{
    struct bb_arguments arguments;
    if (!bb_evaluate_arguments(work, node->second, &arguments))
        return BB_NONE;
    work->place = node->place;
    return bb_value_call(work, callee, &arguments);
}

static struct bb_value evaluate_function(struct bb_work *work, const struct bb_node *node, struct bb_value value)
{
    struct bb_arguments arguments;
    if (!bb_evaluate_arguments(work, node->second, &arguments))
        return BB_NONE;
    work->place = node->place;
    if (node->function == NULL)
        return bb_raise(work, "No %s named %s found.", node->kind == BB_NODE_FILTER ? "filter" : "test",
                        bb_repr_string(work, node->constant));
    return bb_call_function(work, node->function, value, &arguments);
}

static struct bb_value evaluate_slice(struct bb_work *work, const struct bb_node *node, struct bb_value value)
{
    struct bb_value ends[3];
    const struct bb_node *part = node->second;
    for (size_t i = 0; i < 3; i++, part = part->next)
        ends[i] = bb_evaluate(work, part);
    work->place = node->place;
    return work->status == BOMBUS_OK ? bb_value_slice(work, value, ends[0], ends[1], ends[2]) : BB_NONE;
}

static struct bb_value missing_else(struct bb_work *work, const struct bb_node *node)
{
    struct bb_undefined *undefined = bb_work_allocate(work, 1, sizeof *undefined);
    if (undefined == NULL)
        return BB_NONE;
    *undefined = (struct bb_undefined){.name = BB_NONE, .is_condition = true, .place = node->place};
    return (struct bb_value){.kind = BB_VALUE_UNDEFINED, .undefined = undefined};
}

/* What a node makes of the value of its first operand. */
static struct bb_value apply(struct bb_work *work, const struct bb_node *node, struct bb_value value)
{
    struct bb_value right;
    switch (node->kind) {
    case BB_NODE_ATTRIBUTE: return bb_value_attribute(work, value, node->constant);
    case BB_NODE_ITEM:
        right = bb_evaluate(work, node->second);
        work->place = node->place;
        return work->status == BOMBUS_OK ? bb_value_item(work, value, right) : BB_NONE;
    case BB_NODE_SLICE: return evaluate_slice(work, node, value);
    case BB_NODE_CALL: return evaluate_call(work, node, value);
    case BB_NODE_FILTER:
    case BB_NODE_TEST: return evaluate_function(work, node, value);
    case BB_NODE_ARITHMETIC:
        right = bb_evaluate(work, node->second);
        work->place = node->place;
        return work->status == BOMBUS_OK ? bb_value_arithmetic(work, node->operation, value, right) : BB_NONE;
    case BB_NODE_COMPARE: return evaluate_comparison(work, node, value);
    case BB_NODE_CONCAT: return evaluate_concat(work, node, value);
    case BB_NODE_AND: return bb_value_is_true(work, value) ? bb_evaluate(work, node->second) : value;
    case BB_NODE_OR: return bb_value_is_true(work, value) ? value : bb_evaluate(work, node->second);
    case BB_NODE_NOT: return bb_value_bool(!bb_value_is_true(work, value));
    case BB_NODE_NEGATE:
    case BB_NODE_POSITIVE: return bb_value_negate(work, value, node->kind == BB_NODE_NEGATE);
    default: /* CONDITION */
        if (bb_value_is_true(work, value))
            return bb_evaluate(work, node->second);
        return node->third != NULL ? bb_evaluate(work, node->third) : missing_else(work, node);
    }
}

struct bb_value bb_evaluate(struct bb_work *work, const struct bb_node *node)
{
    const struct bb_node *leaf = node;
    if (!bb_work_enter(work))
        return BB_NONE;
    while (leaf->first != NULL)
        leaf = leaf->first;
    work->place = leaf->place;
    struct bb_value value = bb_work_step(work, 1) ? evaluate_leaf(work, leaf) : BB_NONE;
    while (leaf != node && work->status == BOMBUS_OK) {
        leaf = leaf->up;
        work->place = leaf->place;
        if (bb_work_step(work, 1))
            value = apply(work, leaf, value);
    }
    bb_work_leave(work);
    return work->status == BOMBUS_OK ? value : BB_NONE;
}
