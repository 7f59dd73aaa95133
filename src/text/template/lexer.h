/* Source text to tokens. */
#ifndef BB_TEMPLATE_LEXER_H
#define BB_TEMPLATE_LEXER_H

#include "text/template/value.h"

enum bb_token_kind {
    BB_TOKEN_END,
    BB_TOKEN_DATA,
    BB_TOKEN_BLOCK_BEGIN,
    BB_TOKEN_BLOCK_END,
    BB_TOKEN_VARIABLE_BEGIN,
    BB_TOKEN_VARIABLE_END,
    BB_TOKEN_NAME,
    BB_TOKEN_STRING,
    BB_TOKEN_INTEGER,
    BB_TOKEN_FLOAT, /* value */
    /* Operators, in the order of the table in lexer.c. */
    BB_TOKEN_POWER,
    BB_TOKEN_FLOOR_DIVIDE,
    BB_TOKEN_EQUAL,
    BB_TOKEN_NOT_EQUAL,
    BB_TOKEN_GREATER_EQUAL,
    BB_TOKEN_LESS_EQUAL,
    BB_TOKEN_ADD,
    BB_TOKEN_SUBTRACT,
    BB_TOKEN_DIVIDE,
    BB_TOKEN_MULTIPLY,
    BB_TOKEN_REMAINDER,
    BB_TOKEN_TILDE,
    BB_TOKEN_LEFT_BRACKET,
    BB_TOKEN_RIGHT_BRACKET,
    BB_TOKEN_LEFT_PAREN,
    BB_TOKEN_RIGHT_PAREN,
    BB_TOKEN_LEFT_BRACE,
    BB_TOKEN_RIGHT_BRACE,
    BB_TOKEN_GREATER,
    BB_TOKEN_LESS,
    BB_TOKEN_ASSIGN,
    BB_TOKEN_DOT,
    BB_TOKEN_COLON,
    BB_TOKEN_PIPE,
    BB_TOKEN_COMMA,
    BB_TOKEN_SEMICOLON
};

struct bb_token {
    enum bb_token_kind kind;
    uint32_t begin, end; /* bytes of the source; of DATA what is left after whitespace control */
    struct bb_value value;
};

/* All tokens of work->source, BB_TOKEN_END last; NULL after an error. In the work's memory. Source that makes no token is no
 * error yet: the tokens end before it and *late (its status is not BOMBUS_OK then) has the error for a parser that comes so far. */
struct bb_token *bb_template_tokenize(struct bb_work *work, bombus_error *late);

/* "end of statement block", "'+'" ...: for messages. */
const char *bb_token_kind_name(enum bb_token_kind kind);

#endif
