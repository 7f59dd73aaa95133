/* The parser's place among the tokens, and what its halves (statements, expressions) share: nodes, names, errors. */
#ifndef BB_TEMPLATE_PARSER_H
#define BB_TEMPLATE_PARSER_H

#include "base/map.h"
#include "text/template/ast.h"
#include "text/template/lexer.h"
#include "text/template/work.h"

enum { PARSER_MAX_OPEN_TAGS = 256 };

/* A macro or call block around what is parsed: it learns which special names its body uses. */
struct bb_macro_frame {
    struct bb_node *node;
    struct bb_macro_frame *outer;
};

struct bb_parser {
    struct bb_work *work;
    const struct bb_token *token; /* the current one; BB_TOKEN_END is the last and never passed */
    struct bb_syntax *syntax;
    struct bb_map name_numbers;
    uint32_t name_capacity;
    struct bb_macro_frame *macro;
    int32_t depth;
    int32_t loop_count;            /* for loops around, within the innermost macro */
    bool is_soft;                  /* in a branch: an unknown filter is an error only when reached */
    const struct bb_node *unknown; /* the first unknown filter or test of this statement that stands in no branch */
    const char *const *end_tags[PARSER_MAX_OPEN_TAGS]; /* what each open body waits for */
    const struct bb_token *open_tags[PARSER_MAX_OPEN_TAGS];
    int32_t open_count;
};

/* At the first token of work->source, the fixed names numbered; NULL after an error. *late as of bb_template_tokenize. */
struct bb_parser *bb_parser_create(struct bb_work *work, struct bb_syntax *syntax, bombus_error *late);
void bb_parser_free(struct bb_parser *parser); /* what is not in the work's memory */

/* A list of sibling nodes under construction. */
struct bb_node_list {
    struct bb_node *first, *last;
};
void bb_node_append(struct bb_node_list *list, struct bb_node *node); /* node may be NULL */

/* Parsing functions return NULL after an error; it is in parser->work. */
struct bb_node *bb_node_create(struct bb_parser *parser, enum bb_node_kind kind, const struct bb_token *token);
/* One whose first operand is `first`. */
struct bb_node *bb_node_upon(struct bb_parser *parser, enum bb_node_kind kind, const struct bb_token *token,
                             struct bb_node *first);
struct bb_node *bb_parser_fail(struct bb_parser *parser, const struct bb_token *token, const char *format, ...)
    BB_PRINTF(3, 4);
bool bb_parser_enter(struct bb_parser *parser);
void bb_parser_leave(struct bb_parser *parser);

bool bb_token_is_name(const struct bb_parser *parser, const struct bb_token *token, const char *name);
bool bb_parser_skip_name(struct bb_parser *parser, const char *name);     /* if it stands there */
bool bb_parser_skip(struct bb_parser *parser, enum bb_token_kind kind);   /* if it stands there */
bool bb_parser_expect(struct bb_parser *parser, enum bb_token_kind kind); /* else an error */
bool bb_parser_expect_name(struct bb_parser *parser, const char *name);
void bb_parser_advance(struct bb_parser *parser);
uint32_t bb_parser_name_number(struct bb_parser *parser, const struct bb_token *token);
struct bb_value bb_parser_token_text(struct bb_parser *parser, const struct bb_token *token);

#endif
