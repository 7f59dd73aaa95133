/* Tokens to expressions; precedence and oddities (** to the left, `is` beside filters) are jinja2's. */
#include "text/template/expression.h"

#include "text/template/builder.h"
#include "text/template/call.h"
#include "text/template/repr.h"

#include <string.h>

static struct bb_node *parse_unary(struct bb_parser *parser, bool with_filter);
static struct bb_node *parse_or(struct bb_parser *parser);

static struct bb_node *constant_node(struct bb_parser *parser, const struct bb_token *token, struct bb_value value)
{
    struct bb_node *node = bb_node_create(parser, BB_NODE_CONSTANT, token);
    if (node != NULL)
        node->constant = value;
    return node;
}

/* ---- primaries ---- */

static struct bb_node *parse_items(struct bb_parser *parser, bool is_dict)
{
    const struct bb_token *token = parser->token;
    enum bb_token_kind close = is_dict ? BB_TOKEN_RIGHT_BRACE : BB_TOKEN_RIGHT_BRACKET;
    struct bb_node *node = bb_node_create(parser, is_dict ? BB_NODE_DICT : BB_NODE_LIST, token);
    struct bb_node_list items = {0};
    bb_parser_advance(parser);
    while (node != NULL && parser->token->kind != close) {
        if (items.first != NULL && !bb_parser_expect(parser, BB_TOKEN_COMMA))
            return NULL;
        if (parser->token->kind == close)
            break;
        struct bb_node *item = bb_parse_expression(parser);
        bb_node_append(&items, item);
        if (item == NULL)
            return NULL;
        if (is_dict) {
            if (!bb_parser_expect(parser, BB_TOKEN_COLON) || (item = bb_parse_expression(parser)) == NULL)
                return NULL;
            bb_node_append(&items, item);
        }
    }
    if (node == NULL || !bb_parser_expect(parser, close))
        return NULL;
    node->second = items.first;
    return node;
}

/* Literals side by side are one string. */
static struct bb_node *parse_string(struct bb_parser *parser)
{
    const struct bb_token *token = parser->token;
    bb_parser_advance(parser);
    if (parser->token->kind != BB_TOKEN_STRING)
        return constant_node(parser, token, token->value);
    struct bb_builder text = {.work = parser->work};
    bb_build_value(&text, token->value);
    while (parser->token->kind == BB_TOKEN_STRING && parser->work->status == BOMBUS_OK) {
        bb_build_value(&text, parser->token->value);
        bb_parser_advance(parser);
    }
    return constant_node(parser, token, bb_build_finish(&text));
}

static void note_special_name(struct bb_parser *parser, uint32_t name)
{
    for (struct bb_macro_frame *frame = parser->macro; frame != NULL && name <= BB_NAME_KWARGS; frame = frame->outer) {
        frame->node->uses_caller |= name == BB_NAME_CALLER;
        frame->node->uses_varargs |= name == BB_NAME_VARARGS;
        frame->node->uses_kwargs |= name == BB_NAME_KWARGS;
    }
}

static struct bb_node *parse_name(struct bb_parser *parser)
{
    static const struct {
        const char *name;
        struct bb_value value;
    } constants[] = {
        {"true", {.kind = BB_VALUE_BOOL, .boolean = true}},
        {"True", {.kind = BB_VALUE_BOOL, .boolean = true}},
        {"false", {.kind = BB_VALUE_BOOL, .boolean = false}},
        {"False", {.kind = BB_VALUE_BOOL, .boolean = false}},
        {"none", {.kind = BB_VALUE_NONE}},
        {"None", {.kind = BB_VALUE_NONE}},
    };
    const struct bb_token *token = parser->token;
    bb_parser_advance(parser);
    for (size_t i = 0; i < BB_COUNT(constants); i++)
        if (bb_token_is_name(parser, token, constants[i].name))
            return constant_node(parser, token, constants[i].value);
    struct bb_node *node = bb_node_create(parser, BB_NODE_NAME, token);
    if (node == NULL)
        return NULL;
    node->name = bb_parser_name_number(parser, token);
    if (parser->work->status != BOMBUS_OK)
        return NULL;
    node->constant = parser->syntax->names[node->name];
    note_special_name(parser, node->name);
    return node;
}

static struct bb_node *unexpected(struct bb_parser *parser)
{
    const struct bb_token *token = parser->token;
    if (token->kind == BB_TOKEN_NAME)
        return bb_parser_fail(parser, token, "unexpected '%.*s'", (int)(token->end - token->begin),
                              parser->work->source + token->begin);
    return bb_parser_fail(parser, token, "unexpected '%s'", bb_token_kind_name(token->kind));
}

static struct bb_node *parse_primary(struct bb_parser *parser)
{
    const struct bb_token *token = parser->token;
    struct bb_node *node;
    switch (token->kind) {
    case BB_TOKEN_NAME: return parse_name(parser);
    case BB_TOKEN_STRING: return parse_string(parser);
    case BB_TOKEN_INTEGER:
    case BB_TOKEN_FLOAT: bb_parser_advance(parser); return constant_node(parser, token, token->value);
    case BB_TOKEN_LEFT_PAREN:
        bb_parser_advance(parser);
        node = bb_parse_tuple(parser, true, true, NULL);
        return node != NULL && bb_parser_expect(parser, BB_TOKEN_RIGHT_PAREN) ? node : NULL;
    case BB_TOKEN_LEFT_BRACKET: return parse_items(parser, false);
    case BB_TOKEN_LEFT_BRACE: return parse_items(parser, true);
    default: return unexpected(parser);
    }
}

static bool is_tuple_end(const struct bb_parser *parser, const char *end_name)
{
    enum bb_token_kind kind = parser->token->kind;
    return kind == BB_TOKEN_VARIABLE_END || kind == BB_TOKEN_BLOCK_END || kind == BB_TOKEN_RIGHT_PAREN ||
           (end_name != NULL && bb_token_is_name(parser, parser->token, end_name));
}

/* item, item, ...: a list of siblings; *is_tuple if there was a comma. */
static struct bb_node *parse_sequence(struct bb_parser *parser, struct bb_node *(*parse)(struct bb_parser *parser),
                                      const char *end_name, bool *is_tuple)
{
    struct bb_node_list items = {0};
    *is_tuple = false;
    while (parser->work->status == BOMBUS_OK && !is_tuple_end(parser, end_name)) {
        bb_node_append(&items, parse(parser));
        if (parser->token->kind != BB_TOKEN_COMMA)
            break;
        *is_tuple = true;
        bb_parser_advance(parser);
    }
    return parser->work->status == BOMBUS_OK ? items.first : NULL;
}

static const char *describe(const struct bb_parser *parser, char text[64])
{
    const struct bb_token *token = parser->token;
    size_t length = token->end - token->begin;
    if (token->kind != BB_TOKEN_NAME)
        return bb_token_kind_name(token->kind);
    length = length < 63 ? length : 63;
    memcpy(text, parser->work->source + token->begin, length);
    text[length] = '\0';
    return text;
}

struct bb_node *bb_parse_tuple(struct bb_parser *parser, bool with_condition, bool is_parenthesized,
                               const char *end_name)
{
    const struct bb_token *token = parser->token;
    bool is_tuple;
    char text[64];
    struct bb_node *items = NULL;
    if (!bb_parser_enter(parser))
        return NULL;
    items = parse_sequence(parser, with_condition ? bb_parse_expression : parse_or, end_name, &is_tuple);
    bb_parser_leave(parser);
    if (parser->work->status != BOMBUS_OK)
        return NULL;
    if (!is_tuple && items != NULL)
        return items;
    if (!is_tuple && !is_parenthesized)
        return bb_parser_fail(parser, parser->token, "Expected an expression, got '%s'", describe(parser, text));
    struct bb_node *node = bb_node_create(parser, BB_NODE_TUPLE, token);
    if (node != NULL)
        node->second = items;
    return node;
}

/* ---- targets ---- */

static struct bb_node *parse_namespace_attribute(struct bb_parser *parser)
{
    const struct bb_token *token = parser->token;
    struct bb_node *node = bb_node_create(parser, BB_NODE_NAMESPACE_ATTRIBUTE, token);
    if (node == NULL)
        return NULL;
    node->name = bb_parser_name_number(parser, token);
    bb_parser_advance(parser);
    bb_parser_advance(parser);
    node->constant = bb_parser_token_text(parser, parser->token);
    return bb_parser_expect(parser, BB_TOKEN_NAME) ? node : NULL;
}

static struct bb_node *parse_target_item(struct bb_parser *parser)
{
    if (parser->token->kind == BB_TOKEN_NAME && parser->token[1].kind == BB_TOKEN_DOT)
        return parse_namespace_attribute(parser);
    return parse_primary(parser);
}

static bool can_assign(struct bb_parser *parser, const struct bb_node *node)
{
    static const char *const names[] = {"const", "name", "list", "tuple", "dict"};
    if (node->kind == BB_NODE_TUPLE) {
        for (const struct bb_node *item = node->second; item != NULL; item = item->next)
            if (!can_assign(parser, item))
                return false;
        return true;
    }
    if (node->kind == BB_NODE_NAME && parser->loop_count > 0 && node->name == BB_NAME_LOOP)
        bb_raise(parser->work, "Can't assign to special loop variable in for-loop target");
    else if (node->kind != BB_NODE_NAME && node->kind != BB_NODE_NAMESPACE_ATTRIBUTE)
        bb_raise(parser->work, "can't assign to '%s'", node->kind < BB_COUNT(names) ? names[node->kind] : "expression");
    return parser->work->status == BOMBUS_OK;
}

struct bb_node *bb_parse_target(struct bb_parser *parser, bool with_namespace, const char *end_name)
{
    const struct bb_token *token = parser->token;
    bool is_tuple;
    char text[64];
    struct bb_node *items =
        parse_sequence(parser, with_namespace ? parse_target_item : parse_primary, end_name, &is_tuple);
    if (parser->work->status != BOMBUS_OK)
        return NULL;
    if (items == NULL)
        return bb_parser_fail(parser, parser->token, "Expected an expression, got '%s'", describe(parser, text));
    struct bb_node *node = items;
    if (is_tuple) {
        if ((node = bb_node_create(parser, BB_NODE_TUPLE, token)) == NULL)
            return NULL;
        node->second = items;
    }
    parser->work->place = node->place;
    return can_assign(parser, node) ? node : NULL;
}

struct bb_node *bb_parse_target_name(struct bb_parser *parser)
{
    const struct bb_token *token = parser->token;
    struct bb_node *node = bb_node_create(parser, BB_NODE_NAME, token);
    if (node == NULL || !bb_parser_expect(parser, BB_TOKEN_NAME))
        return NULL;
    node->name = bb_parser_name_number(parser, token);
    node->constant = bb_parser_token_text(parser, token);
    return parser->work->status == BOMBUS_OK ? node : NULL;
}

void bb_parse_parameters(struct bb_parser *parser, struct bb_node *macro)
{
    struct bb_node_list parameters = {0};
    bool had_default = false;
    if (!bb_parser_expect(parser, BB_TOKEN_LEFT_PAREN))
        return;
    while (parser->token->kind != BB_TOKEN_RIGHT_PAREN) {
        if (parameters.first != NULL && !bb_parser_expect(parser, BB_TOKEN_COMMA))
            return;
        struct bb_node *parameter = bb_parse_target_name(parser);
        if (parameter == NULL)
            return;
        parameter->kind = BB_NODE_PARAMETER;
        bb_node_append(&parameters, parameter);
        if (bb_parser_skip(parser, BB_TOKEN_ASSIGN)) {
            had_default = true;
            if ((parameter->second = bb_parse_expression(parser)) == NULL)
                return;
        } else if (had_default) {
            bb_parser_fail(parser, parser->token, "non-default argument follows default argument");
            return;
        }
    }
    bb_parser_advance(parser);
    macro->second = parameters.first;
}

/* ---- what follows a primary ---- */

static struct bb_node *parse_argument(struct bb_parser *parser, enum bb_argument_kind *latest)
{
    const struct bb_token *token = parser->token;
    enum bb_argument_kind kind = BB_ARGUMENT_POSITIONAL;
    if (token->kind == BB_TOKEN_MULTIPLY)
        kind = BB_ARGUMENT_SPREAD;
    else if (token->kind == BB_TOKEN_POWER)
        kind = BB_ARGUMENT_SPREAD_KEYWORDS;
    else if (token->kind == BB_TOKEN_NAME && token[1].kind == BB_TOKEN_ASSIGN)
        kind = BB_ARGUMENT_KEYWORD;
    /* Positional, keywords, then at most one *spread and one **spread; keywords may stand behind *spread. */
    bool is_wrong = *latest == BB_ARGUMENT_SPREAD_KEYWORDS ||
                    (*latest == BB_ARGUMENT_SPREAD && kind <= BB_ARGUMENT_POSITIONAL) ||
                    (*latest == BB_ARGUMENT_SPREAD && kind == BB_ARGUMENT_SPREAD) ||
                    (*latest == BB_ARGUMENT_KEYWORD && kind == BB_ARGUMENT_POSITIONAL);
    if (is_wrong)
        return bb_parser_fail(parser, token, "invalid syntax for function call expression");
    struct bb_node *node = bb_node_create(parser, BB_NODE_ARGUMENT, token);
    if (node == NULL)
        return NULL;
    node->operation = (int32_t)kind;
    if (kind == BB_ARGUMENT_KEYWORD) {
        node->constant = bb_parser_token_text(parser, token);
        bb_parser_advance(parser);
    }
    if (kind != BB_ARGUMENT_POSITIONAL)
        bb_parser_advance(parser);
    if (!(kind == BB_ARGUMENT_KEYWORD && *latest == BB_ARGUMENT_SPREAD))
        *latest = kind;
    node->second = bb_parse_expression(parser);
    return node->second != NULL ? node : NULL;
}

static void parse_arguments(struct bb_parser *parser, struct bb_node *call)
{
    struct bb_node_list arguments = {0};
    enum bb_argument_kind latest = BB_ARGUMENT_POSITIONAL;
    if (!bb_parser_expect(parser, BB_TOKEN_LEFT_PAREN))
        return;
    while (parser->work->status == BOMBUS_OK && parser->token->kind != BB_TOKEN_RIGHT_PAREN) {
        if (arguments.first != NULL && !bb_parser_expect(parser, BB_TOKEN_COMMA))
            return;
        if (parser->token->kind == BB_TOKEN_RIGHT_PAREN)
            break;
        bb_node_append(&arguments, parse_argument(parser, &latest));
    }
    bb_parser_expect(parser, BB_TOKEN_RIGHT_PAREN);
    call->second = arguments.first;
}

static struct bb_node *parse_call(struct bb_parser *parser, struct bb_node *node)
{
    struct bb_node *call = bb_node_upon(parser, BB_NODE_CALL, parser->token, node);
    if (call != NULL)
        parse_arguments(parser, call);
    return parser->work->status == BOMBUS_OK ? call : NULL;
}

static struct bb_node *slice_part(struct bb_parser *parser)
{
    enum bb_token_kind kind = parser->token->kind;
    if (kind == BB_TOKEN_COLON || kind == BB_TOKEN_RIGHT_BRACKET || kind == BB_TOKEN_COMMA)
        return constant_node(parser, parser->token, BB_NONE);
    return bb_parse_expression(parser);
}

/* One index, or start:stop:step as three siblings (*is_slice). */
static struct bb_node *parse_index(struct bb_parser *parser, bool *is_slice)
{
    struct bb_node_list parts = {0};
    *is_slice = parser->token->kind == BB_TOKEN_COLON;
    bb_node_append(&parts, slice_part(parser));
    if (parts.first == NULL || parser->token->kind != BB_TOKEN_COLON)
        return parts.first;
    *is_slice = true;
    bb_parser_advance(parser);
    bb_node_append(&parts, slice_part(parser));
    bb_parser_skip(parser, BB_TOKEN_COLON);
    bb_node_append(&parts, slice_part(parser));
    return parser->work->status == BOMBUS_OK ? parts.first : NULL;
}

static struct bb_node *parse_subscript(struct bb_parser *parser, struct bb_node *node)
{
    const struct bb_token *token = parser->token;
    struct bb_node_list indexes = {0};
    bool is_slice = false;
    bb_parser_advance(parser);
    while (parser->work->status == BOMBUS_OK && parser->token->kind != BB_TOKEN_RIGHT_BRACKET) {
        if (indexes.first != NULL && !bb_parser_expect(parser, BB_TOKEN_COMMA))
            return NULL;
        if (is_slice)
            return bb_parser_fail(parser, parser->token, "a slice cannot be part of a tuple");
        struct bb_node *index = parse_index(parser, &is_slice);
        if (is_slice && indexes.first != NULL)
            return bb_parser_fail(parser, parser->token, "a slice cannot be part of a tuple");
        bb_node_append(&indexes, index);
    }
    if (!bb_parser_expect(parser, BB_TOKEN_RIGHT_BRACKET))
        return NULL;
    struct bb_node *item = bb_node_upon(parser, is_slice ? BB_NODE_SLICE : BB_NODE_ITEM, token, node);
    if (item == NULL)
        return NULL;
    item->second = indexes.first;
    if (!is_slice && (indexes.first == NULL || indexes.first->next != NULL)) {
        if ((item->second = bb_node_create(parser, BB_NODE_TUPLE, token)) == NULL)
            return NULL;
        item->second->second = indexes.first;
    }
    return item;
}

static struct bb_node *parse_attribute(struct bb_parser *parser, struct bb_node *node)
{
    bb_parser_advance(parser);
    const struct bb_token *token = parser->token;
    if (token->kind != BB_TOKEN_NAME && token->kind != BB_TOKEN_INTEGER)
        return bb_parser_fail(parser, token, "expected name or number");
    bb_parser_advance(parser);
    if (token->kind == BB_TOKEN_INTEGER) {
        struct bb_node *item = bb_node_upon(parser, BB_NODE_ITEM, token, node);
        if (item != NULL)
            item->second = constant_node(parser, token, token->value);
        return item;
    }
    struct bb_node *attribute = bb_node_upon(parser, BB_NODE_ATTRIBUTE, token, node);
    if (attribute != NULL)
        attribute->constant = bb_parser_token_text(parser, token);
    return attribute;
}

static struct bb_node *parse_postfix(struct bb_parser *parser, struct bb_node *node)
{
    while (node != NULL) {
        if (parser->token->kind == BB_TOKEN_DOT)
            node = parse_attribute(parser, node);
        else if (parser->token->kind == BB_TOKEN_LEFT_BRACKET)
            node = parse_subscript(parser, node);
        else if (parser->token->kind == BB_TOKEN_LEFT_PAREN)
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}

/* name(.name)*: the text of a filter's or test's name, and its function. */
static void parse_function_name(struct bb_parser *parser, struct bb_node *node, bool is_filter)
{
    const struct bb_token *token = parser->token;
    struct bb_builder name = {.work = parser->work};
    do {
        bb_build(&name, parser->work->source + parser->token->begin, parser->token->end - parser->token->begin);
        if (!bb_parser_expect(parser, BB_TOKEN_NAME) || parser->token->kind != BB_TOKEN_DOT)
            break;
        bb_build_byte(&name, '.');
        bb_parser_advance(parser);
    } while (parser->work->status == BOMBUS_OK);
    node->constant = bb_build_finish(&name);
    if (parser->work->status != BOMBUS_OK)
        return;
    node->function = is_filter ? bb_find_filter(node->constant.text) : bb_find_test(node->constant.text);
    parser->work->place = token->begin;
    if (node->function == NULL && !parser->is_soft && parser->unknown == NULL)
        parser->unknown = node;
    if (node->function != NULL && node->function->body == NULL)
        bb_raise_status(parser->work, BOMBUS_ERROR_UNSUPPORTED, "the filter '%s' is not supported",
                        node->function->name);
}

struct bb_node *bb_parse_filters(struct bb_parser *parser, struct bb_node *node, bool is_first_bare)
{
    if (node == NULL)
        node = bb_node_create(parser, BB_NODE_CAPTURED, parser->token);
    while (node != NULL && (is_first_bare || parser->token->kind == BB_TOKEN_PIPE)) {
        if (!is_first_bare)
            bb_parser_advance(parser);
        is_first_bare = false;
        if ((node = bb_node_upon(parser, BB_NODE_FILTER, parser->token, node)) == NULL)
            return NULL;
        parse_function_name(parser, node, true);
        if (parser->work->status == BOMBUS_OK && parser->token->kind == BB_TOKEN_LEFT_PAREN)
            parse_arguments(parser, node);
        if (parser->work->status != BOMBUS_OK)
            return NULL;
    }
    return node;
}

/* `is even`, `is divisibleby 3`, `is divisibleby(3)`, `is not none`. */
static struct bb_node *parse_test(struct bb_parser *parser, struct bb_node *first)
{
    const struct bb_token *token = parser->token;
    bb_parser_advance(parser);
    bool is_negated = bb_parser_skip_name(parser, "not");
    struct bb_node *node = bb_node_upon(parser, BB_NODE_TEST, token, first);
    if (node == NULL)
        return NULL;
    parse_function_name(parser, node, false);
    if (parser->work->status != BOMBUS_OK)
        return NULL;
    enum bb_token_kind kind = parser->token->kind;
    bool is_bare_argument = kind == BB_TOKEN_NAME || kind == BB_TOKEN_STRING || kind == BB_TOKEN_INTEGER ||
                            kind == BB_TOKEN_FLOAT || kind == BB_TOKEN_LEFT_BRACKET || kind == BB_TOKEN_LEFT_BRACE;
    bool is_operator = bb_token_is_name(parser, parser->token, "else") ||
                       bb_token_is_name(parser, parser->token, "or") || bb_token_is_name(parser, parser->token, "and");
    if (kind == BB_TOKEN_LEFT_PAREN) {
        parse_arguments(parser, node);
    } else if (is_bare_argument && !is_operator) {
        if (bb_token_is_name(parser, parser->token, "is"))
            return bb_parser_fail(parser, parser->token, "You cannot chain multiple tests with is");
        struct bb_node *argument = bb_node_create(parser, BB_NODE_ARGUMENT, parser->token);
        if (argument == NULL || (argument->second = parse_postfix(parser, parse_primary(parser))) == NULL)
            return NULL;
        node->second = argument;
    }
    if (parser->work->status != BOMBUS_OK)
        return NULL;
    return is_negated ? bb_node_upon(parser, BB_NODE_NOT, token, node) : node;
}

static struct bb_node *parse_filters_and_tests(struct bb_parser *parser, struct bb_node *node)
{
    while (node != NULL) {
        if (parser->token->kind == BB_TOKEN_PIPE)
            node = bb_parse_filters(parser, node, false);
        else if (bb_token_is_name(parser, parser->token, "is"))
            node = parse_test(parser, node);
        else if (parser->token->kind == BB_TOKEN_LEFT_PAREN)
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}

/* ---- operators, tightest first ---- */

static struct bb_node *parse_unary(struct bb_parser *parser, bool with_filter)
{
    const struct bb_token *token = parser->token;
    struct bb_node *node;
    if (!bb_parser_enter(parser))
        return NULL;
    if (token->kind == BB_TOKEN_SUBTRACT || token->kind == BB_TOKEN_ADD) {
        bb_parser_advance(parser);
        node = parse_unary(parser, false);
        node = bb_node_upon(parser, token->kind == BB_TOKEN_ADD ? BB_NODE_POSITIVE : BB_NODE_NEGATE, token, node);
    } else {
        node = parse_primary(parser);
    }
    bb_parser_leave(parser);
    node = parse_postfix(parser, node);
    return with_filter ? parse_filters_and_tests(parser, node) : node;
}

static bool is_one_of(enum bb_token_kind kind, const enum bb_token_kind *kinds, size_t count, size_t *index)
{
    for (*index = 0; *index < count; ++*index)
        if (kinds[*index] == kind)
            return true;
    return false;
}

static struct bb_node *parse_operand(struct bb_parser *parser)
{
    return parse_unary(parser, true);
}

static struct bb_node *parse_arithmetic(struct bb_parser *parser, struct bb_node *(*parse)(struct bb_parser *parser),
                                        const enum bb_token_kind *kinds, const enum bb_operation *operations,
                                        size_t count)
{
    struct bb_node *left = parse(parser);
    size_t index;
    while (left != NULL && is_one_of(parser->token->kind, kinds, count, &index)) {
        const struct bb_token *token = parser->token;
        bb_parser_advance(parser);
        struct bb_node *right = parse(parser);
        left = right != NULL ? bb_node_upon(parser, BB_NODE_ARITHMETIC, token, left) : NULL;
        if (left != NULL) {
            left->second = right;
            left->operation = (int32_t)operations[index];
        }
    }
    return left;
}

static struct bb_node *parse_power(struct bb_parser *parser)
{
    static const enum bb_token_kind kinds[] = {BB_TOKEN_POWER};
    static const enum bb_operation operations[] = {BB_OPERATION_POWER};
    return parse_arithmetic(parser, parse_operand, kinds, operations, 1);
}

static struct bb_node *parse_product(struct bb_parser *parser)
{
    static const enum bb_token_kind kinds[] = {BB_TOKEN_MULTIPLY, BB_TOKEN_DIVIDE, BB_TOKEN_FLOOR_DIVIDE,
                                               BB_TOKEN_REMAINDER};
    static const enum bb_operation operations[] = {BB_OPERATION_MULTIPLY, BB_OPERATION_DIVIDE,
                                                   BB_OPERATION_FLOOR_DIVIDE, BB_OPERATION_REMAINDER};
    return parse_arithmetic(parser, parse_power, kinds, operations, BB_COUNT(kinds));
}

static struct bb_node *parse_concat(struct bb_parser *parser)
{
    struct bb_node *left = parse_product(parser);
    if (left == NULL || parser->token->kind != BB_TOKEN_TILDE)
        return left;
    struct bb_node *node = bb_node_upon(parser, BB_NODE_CONCAT, parser->token, left);
    struct bb_node_list rest = {0};
    while (node != NULL && parser->work->status == BOMBUS_OK && bb_parser_skip(parser, BB_TOKEN_TILDE))
        bb_node_append(&rest, parse_product(parser));
    if (node == NULL || parser->work->status != BOMBUS_OK)
        return NULL;
    node->second = rest.first;
    return node;
}

static struct bb_node *parse_sum(struct bb_parser *parser)
{
    static const enum bb_token_kind kinds[] = {BB_TOKEN_ADD, BB_TOKEN_SUBTRACT};
    static const enum bb_operation operations[] = {BB_OPERATION_ADD, BB_OPERATION_SUBTRACT};
    return parse_arithmetic(parser, parse_concat, kinds, operations, BB_COUNT(kinds));
}

static bool skip_comparison(struct bb_parser *parser, enum bb_operation *operation)
{
    static const enum bb_token_kind kinds[] = {BB_TOKEN_EQUAL,      BB_TOKEN_NOT_EQUAL, BB_TOKEN_LESS,
                                               BB_TOKEN_LESS_EQUAL, BB_TOKEN_GREATER,   BB_TOKEN_GREATER_EQUAL};
    size_t index;
    if (is_one_of(parser->token->kind, kinds, BB_COUNT(kinds), &index)) {
        *operation = (enum bb_operation)(BB_OPERATION_EQUAL + index);
        bb_parser_advance(parser);
        return true;
    }
    *operation = BB_OPERATION_IN;
    if (bb_parser_skip_name(parser, "in"))
        return true;
    *operation = BB_OPERATION_NOT_IN;
    if (!bb_token_is_name(parser, parser->token, "not") || !bb_token_is_name(parser, parser->token + 1, "in"))
        return false;
    bb_parser_advance(parser);
    bb_parser_advance(parser);
    return true;
}

static struct bb_node *parse_comparison(struct bb_parser *parser)
{
    struct bb_node *left = parse_sum(parser), *node = NULL;
    struct bb_node_list operands = {0};
    const struct bb_token *token = parser->token;
    enum bb_operation operation;
    while (left != NULL && skip_comparison(parser, &operation)) {
        struct bb_node *operand = bb_node_create(parser, BB_NODE_OPERAND, token);
        if (operand == NULL || (operand->second = parse_sum(parser)) == NULL)
            return NULL;
        operand->operation = (int32_t)operation;
        bb_node_append(&operands, operand);
        token = parser->token;
    }
    if (operands.first == NULL)
        return left;
    if ((node = bb_node_upon(parser, BB_NODE_COMPARE, token, left)) == NULL)
        return NULL;
    node->place = operands.first->place;
    node->second = operands.first;
    return node;
}

static struct bb_node *parse_not(struct bb_parser *parser)
{
    const struct bb_token *token = parser->token;
    if (!bb_token_is_name(parser, token, "not"))
        return parse_comparison(parser);
    if (!bb_parser_enter(parser))
        return NULL;
    bb_parser_advance(parser);
    struct bb_node *node = parse_not(parser);
    bb_parser_leave(parser);
    return bb_node_upon(parser, BB_NODE_NOT, token, node);
}

static struct bb_node *parse_and(struct bb_parser *parser)
{
    struct bb_node *left = parse_not(parser);
    const struct bb_token *token = parser->token;
    while (left != NULL && bb_parser_skip_name(parser, "and")) {
        struct bb_node *right = parse_not(parser);
        if ((left = right != NULL ? bb_node_upon(parser, BB_NODE_AND, token, left) : NULL) != NULL)
            left->second = right;
        token = parser->token;
    }
    return left;
}

static struct bb_node *parse_or(struct bb_parser *parser)
{
    struct bb_node *left = parse_and(parser);
    const struct bb_token *token = parser->token;
    while (left != NULL && bb_parser_skip_name(parser, "or")) {
        struct bb_node *right = parse_and(parser);
        if ((left = right != NULL ? bb_node_upon(parser, BB_NODE_OR, token, left) : NULL) != NULL)
            left->second = right;
        token = parser->token;
    }
    return left;
}

struct bb_node *bb_parse_expression(struct bb_parser *parser)
{
    const struct bb_node *unknown_before = parser->unknown;
    if (!bb_parser_enter(parser))
        return NULL;
    parser->unknown = NULL;
    struct bb_node *node = parse_or(parser);
    const struct bb_token *token = parser->token;
    while (node != NULL && bb_parser_skip_name(parser, "if")) {
        struct bb_node *then = node, *test = parse_or(parser), *otherwise = NULL;
        if (test != NULL && bb_parser_skip_name(parser, "else") && (otherwise = bb_parse_expression(parser)) == NULL)
            test = NULL;
        if ((node = test != NULL ? bb_node_upon(parser, BB_NODE_CONDITION, token, test) : NULL) != NULL) {
            node->second = then;
            node->third = otherwise;
        }
        parser->unknown = NULL;
        token = parser->token;
    }
    parser->unknown = unknown_before != NULL ? unknown_before : parser->unknown;
    bb_parser_leave(parser);
    return node;
}
