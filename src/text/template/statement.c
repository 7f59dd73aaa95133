/* Tokens to statements, and so to the whole tree. */
#include "text/template/statement.h"

#include "text/template/expression.h"
#include "text/template/repr.h"

static struct bb_node *parse_body(struct bb_parser *parser, const char *const *ends);

static void add_quoted(struct bb_buffer *message, const char *const *ends)
{
    for (size_t i = 0; ends[i] != NULL; i++)
        bb_buffer_format(message, "%s'%s'", i > 0 ? " or " : "", ends[i]);
}

/* jinja2's words for an unknown tag (name NULL: the end of the template). */
static struct bb_node *fail_tag(struct bb_parser *parser, const struct bb_token *token, bool is_end)
{
    struct bb_buffer message = {0};
    bool is_expected = false;
    for (int32_t i = 0; i < parser->open_count && !is_end; i++)
        for (size_t j = 0; parser->end_tags[i][j] != NULL; j++)
            is_expected |= bb_token_is_name(parser, token, parser->end_tags[i][j]);
    if (is_end)
        bb_buffer_add_text(&message, "Unexpected end of template.");
    else
        bb_buffer_format(&message, "Encountered unknown tag '%.*s'.", (int)(token->end - token->begin),
                         parser->work->source + token->begin);
    if (parser->open_count > 0) {
        const struct bb_token *open = parser->open_tags[parser->open_count - 1];
        bb_buffer_add_text(
            &message, is_expected ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently "
                                    "looking for "
                                  : " Jinja was looking for the following tags: ");
        add_quoted(&message, parser->end_tags[parser->open_count - 1]);
        bb_buffer_format(&message, ". The innermost block that needs to be closed is '%.*s'.",
                         (int)(open->end - open->begin), parser->work->source + open->begin);
    }
    bb_parser_fail(parser, token, "%s", message.is_failed ? "unknown tag" : message.data);
    bb_buffer_clear(&message);
    return NULL;
}

/* `%}`, statements, up to one of `ends`, which stays the current token. */
static struct bb_node *parse_block(struct bb_parser *parser, const struct bb_token *open, const char *const *ends)
{
    bb_parser_skip(parser, BB_TOKEN_COLON);
    if (!bb_parser_expect(parser, BB_TOKEN_BLOCK_END) || !bb_parser_enter(parser))
        return NULL;
    struct bb_node *body = NULL;
    if (parser->open_count == PARSER_MAX_OPEN_TAGS) {
        bb_raise_status(parser->work, BOMBUS_ERROR_LIMIT, "the template has more than %d tags open",
                        PARSER_MAX_OPEN_TAGS);
    } else {
        parser->end_tags[parser->open_count] = ends;
        parser->open_tags[parser->open_count++] = open;
        body = parse_body(parser, ends);
        if (parser->work->status == BOMBUS_OK && parser->token->kind == BB_TOKEN_END)
            fail_tag(parser, parser->token, true);
        parser->open_count--;
    }
    bb_parser_leave(parser);
    return body;
}

/* A body with names of its own, closed by `end`; unknown filters in it are errors at once. */
static struct bb_node *parse_scope(struct bb_parser *parser, const struct bb_token *open, const char *const *ends)
{
    bool was_soft = parser->is_soft;
    parser->is_soft = false;
    struct bb_node *body = parse_block(parser, open, ends);
    parser->is_soft = was_soft;
    return body;
}

static struct bb_node *parse_if(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last_end[] = {"endif", NULL};
    bool was_soft = parser->is_soft;
    struct bb_node_list branches = {0};
    struct bb_node *branch = NULL;
    parser->is_soft = true;
    do {
        if ((branch = bb_node_create(parser, BB_NODE_IF, token)) == NULL ||
            (branch->second = bb_parse_tuple(parser, false, false, NULL)) == NULL)
            return NULL;
        /* Branches hang on `third`; the list is only for finding the last. */
        if (branches.first == NULL)
            branches.first = branch;
        else
            branches.last->third = branch;
        branches.last = branch;
        branch->body = parse_block(parser, token, ends);
        if (parser->work->status != BOMBUS_OK)
            return NULL;
    } while (bb_parser_skip_name(parser, "elif"));
    if (bb_parser_skip_name(parser, "else")) {
        if ((branch->third = bb_node_create(parser, BB_NODE_IF, token)) == NULL)
            return NULL;
        branch->third->body = parse_block(parser, token, last_end);
    }
    parser->is_soft = was_soft;
    return bb_parser_expect_name(parser, "endif") ? branches.first : NULL;
}

static struct bb_node *parse_for(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endfor", "else", NULL}, *const last_end[] = {"endfor", NULL};
    struct bb_node *node = bb_node_create(parser, BB_NODE_FOR, token);
    if (node == NULL)
        return NULL;
    parser->loop_count++;
    node->second = bb_parse_target(parser, false, "in");
    parser->loop_count--;
    if (node->second == NULL || !bb_parser_expect_name(parser, "in") ||
        (node->third = bb_parse_tuple(parser, false, false, "recursive")) == NULL)
        return NULL;
    if (bb_parser_skip_name(parser, "if") && (node->test = bb_parse_expression(parser)) == NULL)
        return NULL;
    node->is_recursive = bb_parser_skip_name(parser, "recursive");
    parser->loop_count++;
    node->body = parse_scope(parser, token, ends);
    parser->loop_count--;
    if (parser->work->status == BOMBUS_OK && bb_parser_skip_name(parser, "else"))
        node->otherwise = parse_scope(parser, token, last_end);
    return bb_parser_expect_name(parser, "endfor") ? node : NULL;
}

static struct bb_node *parse_set(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endset", NULL};
    struct bb_node *node = bb_node_create(parser, BB_NODE_SET, token);
    if (node == NULL || (node->second = bb_parse_target(parser, true, NULL)) == NULL)
        return NULL;
    if (bb_parser_skip(parser, BB_TOKEN_ASSIGN)) {
        node->third = bb_parse_tuple(parser, true, false, NULL);
        return node->third != NULL ? node : NULL;
    }
    node->kind = BB_NODE_SET_BLOCK;
    if (parser->token->kind == BB_TOKEN_PIPE && (node->third = bb_parse_filters(parser, NULL, false)) == NULL)
        return NULL;
    node->body = parse_scope(parser, token, ends);
    return bb_parser_expect_name(parser, "endset") ? node : NULL;
}

static struct bb_node *parse_with(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endwith", NULL};
    struct bb_node *node = bb_node_create(parser, BB_NODE_WITH, token);
    struct bb_node_list pairs = {0};
    while (node != NULL && parser->token->kind != BB_TOKEN_BLOCK_END) {
        if (pairs.first != NULL && !bb_parser_expect(parser, BB_TOKEN_COMMA))
            return NULL;
        struct bb_node *target = bb_parse_target(parser, false, NULL), *value = NULL;
        if (target == NULL || !bb_parser_expect(parser, BB_TOKEN_ASSIGN) ||
            (value = bb_parse_expression(parser)) == NULL)
            return NULL;
        bb_node_append(&pairs, target);
        bb_node_append(&pairs, value);
    }
    if (node == NULL)
        return NULL;
    node->second = pairs.first;
    node->body = parse_scope(parser, token, ends);
    return bb_parser_expect_name(parser, "endwith") ? node : NULL;
}

/* A body that is called: it sees no loop to break, and learns which special names it uses. */
static void parse_macro_body(struct bb_parser *parser, const struct bb_token *token, struct bb_node *node,
                             const char *const *ends)
{
    struct bb_macro_frame frame = {node, parser->macro};
    int32_t loop_count = parser->loop_count;
    parser->macro = &frame;
    parser->loop_count = 0;
    node->body = parse_scope(parser, token, ends);
    parser->loop_count = loop_count;
    parser->macro = frame.outer;
    for (struct bb_node *p = node->second; p != NULL; p = p->next)
        if (p->name == BB_NAME_CALLER && p->second == NULL && node->uses_caller && parser->work->status == BOMBUS_OK)
            bb_parser_fail(parser, token,
                           "When defining macros or call blocks the special \"caller\" argument must be omitted or be "
                           "given a default.");
    bb_parser_expect_name(parser, ends[0]);
}

static struct bb_node *parse_macro(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct bb_node *node = bb_parse_target_name(parser);
    if (node == NULL)
        return NULL;
    node->kind = BB_NODE_MACRO;
    bb_parse_parameters(parser, node);
    parse_macro_body(parser, token, node, ends);
    return node;
}

static struct bb_node *parse_call_block(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endcall", NULL};
    struct bb_node *node = bb_node_create(parser, BB_NODE_CALL_BLOCK, token);
    if (node == NULL)
        return NULL;
    if (parser->token->kind == BB_TOKEN_LEFT_PAREN)
        bb_parse_parameters(parser, node);
    node->third = bb_parse_expression(parser);
    if (node->third == NULL)
        return NULL;
    if (node->third->kind != BB_NODE_CALL)
        return bb_parser_fail(parser, token, "expected call");
    parse_macro_body(parser, token, node, ends);
    return node;
}

static struct bb_node *parse_filter_block(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct bb_node *node = bb_node_create(parser, BB_NODE_FILTER_BLOCK, token);
    if (node == NULL || (node->third = bb_parse_filters(parser, NULL, true)) == NULL)
        return NULL;
    node->body = parse_scope(parser, token, ends);
    return bb_parser_expect_name(parser, "endfilter") ? node : NULL;
}

static struct bb_node *parse_generation(struct bb_parser *parser, const struct bb_token *token)
{
    static const char *const ends[] = {"endgeneration", NULL};
    struct bb_node *node = bb_node_create(parser, BB_NODE_GENERATION, token);
    int32_t loop_count = parser->loop_count;
    if (node == NULL)
        return NULL;
    parser->loop_count = 0;
    node->body = parse_scope(parser, token, ends);
    parser->loop_count = loop_count;
    return bb_parser_expect_name(parser, "endgeneration") ? node : NULL;
}

static struct bb_node *parse_print(struct bb_parser *parser)
{
    struct bb_node_list outputs = {0};
    while (parser->work->status == BOMBUS_OK && parser->token->kind != BB_TOKEN_BLOCK_END) {
        if (outputs.first != NULL && !bb_parser_expect(parser, BB_TOKEN_COMMA))
            return NULL;
        struct bb_node *output = bb_node_create(parser, BB_NODE_OUTPUT, parser->token);
        if (output == NULL || (output->second = bb_parse_expression(parser)) == NULL)
            return NULL;
        bb_node_append(&outputs, output);
    }
    return outputs.first;
}

static struct bb_node *parse_jump(struct bb_parser *parser, const struct bb_token *token, enum bb_node_kind kind)
{
    if (parser->loop_count == 0)
        return bb_parser_fail(parser, token,
                              kind == BB_NODE_BREAK ? "'break' outside loop" : "'continue' not properly in loop");
    return bb_node_create(parser, kind, token);
}

/* The token is the tag's name. NULL without an error: an empty print statement. */
static struct bb_node *parse_statement(struct bb_parser *parser)
{
    static const char *const unsupported[] = {"block", "extends", "include", "import", "from", "autoescape"};
    const struct bb_token *token = parser->token;
    if (token->kind != BB_TOKEN_NAME)
        return bb_parser_fail(parser, token, "tag name expected");
    for (size_t i = 0; i < BB_COUNT(unsupported); i++)
        if (bb_token_is_name(parser, token, unsupported[i])) {
            parser->work->place = token->begin;
            bb_raise_status(parser->work, BOMBUS_ERROR_UNSUPPORTED, "the tag '%s' is not supported in chat templates",
                            unsupported[i]);
            return NULL;
        }
    bb_parser_advance(parser);
    if (bb_token_is_name(parser, token, "if"))
        return parse_if(parser, token);
    if (bb_token_is_name(parser, token, "for"))
        return parse_for(parser, token);
    if (bb_token_is_name(parser, token, "set"))
        return parse_set(parser, token);
    if (bb_token_is_name(parser, token, "macro"))
        return parse_macro(parser, token);
    if (bb_token_is_name(parser, token, "call"))
        return parse_call_block(parser, token);
    if (bb_token_is_name(parser, token, "filter"))
        return parse_filter_block(parser, token);
    if (bb_token_is_name(parser, token, "with"))
        return parse_with(parser, token);
    if (bb_token_is_name(parser, token, "print"))
        return parse_print(parser);
    if (bb_token_is_name(parser, token, "generation"))
        return parse_generation(parser, token);
    if (bb_token_is_name(parser, token, "break"))
        return parse_jump(parser, token, BB_NODE_BREAK);
    if (bb_token_is_name(parser, token, "continue"))
        return parse_jump(parser, token, BB_NODE_CONTINUE);
    return fail_tag(parser, token, false);
}

static struct bb_node *parse_output(struct bb_parser *parser)
{
    struct bb_node *node = bb_node_create(parser, BB_NODE_OUTPUT, parser->token);
    bb_parser_advance(parser);
    if (node == NULL || (node->second = bb_parse_tuple(parser, true, false, NULL)) == NULL)
        return NULL;
    node->place = node->second->place;
    return bb_parser_expect(parser, BB_TOKEN_VARIABLE_END) ? node : NULL;
}

static void fail_unknown(struct bb_parser *parser)
{
    const struct bb_node *node = parser->unknown;
    parser->unknown = NULL;
    if (node == NULL || parser->work->status != BOMBUS_OK)
        return;
    parser->work->place = node->place;
    bb_raise(parser->work, "No %s named %s.", node->kind == BB_NODE_FILTER ? "filter" : "test",
             bb_repr_string(parser->work, node->constant));
}

static bool is_at_end_tag(const struct bb_parser *parser, const char *const *ends)
{
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++)
        if (bb_token_is_name(parser, parser->token, ends[i]))
            return true;
    return false;
}

/* Statements up to one of `ends` (NULL: none), which becomes the current token, or to the end of the template. */
static struct bb_node *parse_body(struct bb_parser *parser, const char *const *ends)
{
    struct bb_node_list body = {0};
    while (parser->work->status == BOMBUS_OK && parser->token->kind != BB_TOKEN_END) {
        const struct bb_token *token = parser->token;
        struct bb_node *node = NULL;
        if (token->kind == BB_TOKEN_DATA) {
            if ((node = bb_node_create(parser, BB_NODE_DATA, token)) != NULL)
                node->constant = bb_parser_token_text(parser, token);
            bb_parser_advance(parser);
        } else if (token->kind == BB_TOKEN_VARIABLE_BEGIN) {
            node = parse_output(parser);
        } else {
            bb_parser_advance(parser);
            if (is_at_end_tag(parser, ends))
                return body.first;
            node = parse_statement(parser);
            bb_parser_expect(parser, BB_TOKEN_BLOCK_END);
        }
        fail_unknown(parser);
        bb_node_append(&body, node);
    }
    return body.first;
}

void bb_template_parse(struct bb_work *work, struct bb_syntax *syntax)
{
    bombus_error late;
    struct bb_parser *parser = bb_parser_create(work, syntax, &late);
    if (parser == NULL)
        return;
    syntax->body = parse_body(parser, NULL);
    bool is_at_end = parser->token->kind == BB_TOKEN_END && work->status != BOMBUS_ERROR_MEMORY;
    if (late.status != BOMBUS_OK && (work->status == BOMBUS_OK || is_at_end)) {
        work->status = late.status;
        if (work->error != NULL)
            *work->error = late;
    }
    bb_parser_free(parser);
}
