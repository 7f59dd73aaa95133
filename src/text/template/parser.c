/* The parser's place among the tokens, and what statements and expressions share: nodes, names, errors. */
#include "text/template/parser.h"

#include "text/template/builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void bb_node_append(struct bb_node_list *list, struct bb_node *node)
{
    if (node == NULL)
        return;
    if (list->first == NULL)
        list->first = node;
    else
        list->last->next = node;
    list->last = node;
    while (list->last->next != NULL)
        list->last = list->last->next;
}

struct bb_node *bb_node_create(struct bb_parser *parser, enum bb_node_kind kind, const struct bb_token *token)
{
    struct bb_node *node = bb_work_allocate(parser->work, 1, sizeof *node);
    if (node == NULL)
        return NULL;
    node->kind = kind;
    node->place = token->begin;
    return node;
}

struct bb_node *bb_node_upon(struct bb_parser *parser, enum bb_node_kind kind, const struct bb_token *token,
                             struct bb_node *first)
{
    struct bb_node *node = first != NULL ? bb_node_create(parser, kind, token) : NULL;
    if (node == NULL)
        return NULL;
    node->first = first;
    first->up = node;
    return node;
}

struct bb_node *bb_parser_fail(struct bb_parser *parser, const struct bb_token *token, const char *format, ...)
{
    char message[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    parser->work->place = token->begin;
    bb_raise(parser->work, "%s", message);
    return NULL;
}

bool bb_parser_enter(struct bb_parser *parser)
{
    if (parser->work->status != BOMBUS_OK)
        return false;
    if (parser->depth >= parser->work->limits.depth) {
        parser->work->place = parser->token->begin;
        bb_raise_status(parser->work, BOMBUS_ERROR_LIMIT, "the template is nested more than %d levels deep",
                        (int)parser->work->limits.depth);
        return false;
    }
    parser->depth++;
    return true;
}

void bb_parser_leave(struct bb_parser *parser)
{
    parser->depth--;
}

bool bb_token_is_name(const struct bb_parser *parser, const struct bb_token *token, const char *name)
{
    size_t length = strlen(name);
    return token->kind == BB_TOKEN_NAME && token->end - token->begin == length &&
           memcmp(parser->work->source + token->begin, name, length) == 0;
}

void bb_parser_advance(struct bb_parser *parser)
{
    if (parser->token->kind != BB_TOKEN_END)
        parser->token++;
}

bool bb_parser_skip_name(struct bb_parser *parser, const char *name)
{
    bool is_there = bb_token_is_name(parser, parser->token, name);
    if (is_there)
        bb_parser_advance(parser);
    return is_there;
}

bool bb_parser_skip(struct bb_parser *parser, enum bb_token_kind kind)
{
    bool is_there = parser->token->kind == kind;
    if (is_there)
        bb_parser_advance(parser);
    return is_there;
}

static bool fail_expected(struct bb_parser *parser, const char *expected)
{
    const struct bb_token *token = parser->token;
    if (token->kind == BB_TOKEN_END)
        bb_parser_fail(parser, token, "unexpected end of template, expected '%s'.", expected);
    else if (token->kind == BB_TOKEN_NAME)
        bb_parser_fail(parser, token, "expected token '%s', got '%.*s'", expected, (int)(token->end - token->begin),
                       parser->work->source + token->begin);
    else
        bb_parser_fail(parser, token, "expected token '%s', got '%s'", expected, bb_token_kind_name(token->kind));
    return false;
}

bool bb_parser_expect(struct bb_parser *parser, enum bb_token_kind kind)
{
    return parser->work->status == BOMBUS_OK &&
           (bb_parser_skip(parser, kind) || fail_expected(parser, bb_token_kind_name(kind)));
}

bool bb_parser_expect_name(struct bb_parser *parser, const char *name)
{
    return parser->work->status == BOMBUS_OK && (bb_parser_skip_name(parser, name) || fail_expected(parser, name));
}

struct bb_value bb_parser_token_text(struct bb_parser *parser, const struct bb_token *token)
{
    return bb_value_text(parser->work, parser->work->source + token->begin, token->end - token->begin);
}

static uint32_t name_number(struct bb_parser *parser, const char *name, size_t length)
{
    struct bb_syntax *syntax = parser->syntax;
    const uint64_t *found = bb_map_find(&parser->name_numbers, name, length);
    if (found != NULL)
        return (uint32_t)*found;
    if (syntax->name_count == parser->name_capacity) {
        uint32_t capacity = parser->name_capacity > 0 ? parser->name_capacity * 2 : 32;
        struct bb_value *names = bb_work_allocate(parser->work, capacity, sizeof *names);
        if (names == NULL)
            return 0;
        if (syntax->name_count > 0)
            memcpy(names, syntax->names, syntax->name_count * sizeof *names);
        syntax->names = names;
        parser->name_capacity = capacity;
    }
    struct bb_value text = bb_value_text(parser->work, name, length);
    if (text.kind != BB_VALUE_TEXT)
        return 0;
    if (!bb_map_set(&parser->name_numbers, text.text->bytes, length, syntax->name_count, NULL)) {
        if (parser->work->status == BOMBUS_OK)
            parser->work->status = bb_fail_memory(parser->work->error, sizeof(uint64_t), "a template's names");
        return 0;
    }
    syntax->names[syntax->name_count] = text;
    return syntax->name_count++;
}

uint32_t bb_parser_name_number(struct bb_parser *parser, const struct bb_token *token)
{
    return name_number(parser, parser->work->source + token->begin, token->end - token->begin);
}

struct bb_parser *bb_parser_create(struct bb_work *work, struct bb_syntax *syntax, bombus_error *late)
{
    static const char *const fixed_names[] = {"loop", "caller", "varargs", "kwargs"};
    struct bb_token *tokens = bb_template_tokenize(work, late);
    struct bb_parser *parser = tokens != NULL ? bb_work_allocate(work, 1, sizeof *parser) : NULL;
    *syntax = (struct bb_syntax){0};
    if (parser == NULL)
        return NULL;
    *parser = (struct bb_parser){.work = work, .token = tokens, .syntax = syntax};
    for (size_t i = 0; i < BB_COUNT(fixed_names); i++)
        name_number(parser, fixed_names[i], strlen(fixed_names[i]));
    return parser;
}

void bb_parser_free(struct bb_parser *parser)
{
    bb_map_clear(&parser->name_numbers);
}
