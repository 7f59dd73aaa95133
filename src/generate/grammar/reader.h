/* What the readers of grammars and regular expressions share: a place in valid UTF-8, and escapes. */
#ifndef BB_GRAMMAR_READER_H
#define BB_GRAMMAR_READER_H

#include "generate/grammar/rules.h"

struct bb_reader {
    const char *what; /* "grammar", "regex" */
    const char *source;
    size_t length, position;
    int32_t depth; /* of groups */
    struct bb_rules *rules;
    bombus_error *error;
};

/* `status` at a place of the source, with line and column. Stays in reader->rules->status. */
bombus_status bb_reader_fail(struct bb_reader *reader, size_t position, bombus_status status, const char *message);

static inline bool bb_reader_is_at_end(const struct bb_reader *reader)
{
    return reader->position >= reader->length;
}
static inline char bb_reader_peek(const struct bb_reader *reader)
{
    return reader->position < reader->length ? reader->source[reader->position] : '\0';
}
bool bb_reader_take(struct bb_reader *reader, const char *text);
uint32_t bb_reader_next(struct bb_reader *reader); /* a character; not at the end */
/* `count` hexadecimal digits as a character; false if they are not there or none. */
bool bb_reader_hex(struct bb_reader *reader, int32_t count, uint32_t *character);
/* Digits, at most `limit`; false if none or more. */
bool bb_reader_number(struct bb_reader *reader, uint32_t limit, uint32_t *value);
/* {m}, {m,} and {m,n} behind the brace; false (place unchanged) if it is none of them. */
bool bb_reader_bounds(struct bb_reader *reader, uint32_t *least, uint32_t *most);

#endif
