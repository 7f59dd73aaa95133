/* What the sources of the JSON Schema reader share. */
#ifndef BB_SCHEMA_PARTS_H
#define BB_SCHEMA_PARTS_H

#include "generate/grammar/constraint.h"

#include "base/buffer.h"
#include "base/map.h"

#include <jansson.h>

enum bb_schema_terminal { BB_TERMINAL_CHARACTER, BB_TERMINAL_INTEGER, BB_TERMINAL_NUMBER, BB_TERMINAL_COUNT };

struct bb_schema {
    struct bb_rules *rules;
    bombus_error *error;
    json_t *root;
    json_t *kept;          /* array: merged schemas live as long as the reader */
    struct bb_buffer path; /* the JSON pointer of what is being read */
    struct bb_map refs;    /* pointer to rule */
    int32_t depth;
    uint32_t any;                          /* the rule of any value + 1; 0: not made yet */
    uint32_t terminals[BB_TERMINAL_COUNT]; /* rules + 1 */
};

/* The error about a keyword (NULL: the schema itself) at the path. Stays in rules->status. */
bombus_status bb_schema_fail(struct bb_schema *schema, bombus_status status, const char *keyword, const char *message);
size_t bb_schema_enter(struct bb_schema *schema, const char *key); /* onto the path; returns what leave wants */
void bb_schema_leave(struct bb_schema *schema, size_t length);
bool bb_schema_is_in(const char *word, const char *const *words); /* NULL behind the last */
bool bb_schema_is_annotation(const char *keyword);
/* schema_merge.c: puts new JSON among what lives as long as the reader and gives it back; NULL, and an error, if it is
 * NULL or memory is out. */
json_t *bb_schema_keep(struct bb_schema *schema, json_t *json);
/* What a $ref points at, NULL after a failure. */
json_t *bb_schema_resolve(struct bb_schema *schema, const char *reference);

/* schema_merge.c: what satisfies both (borrowed, lives in `kept`), NULL after a failure. */
json_t *bb_schema_merge(struct bb_schema *schema, json_t *a, json_t *b);

/* schema_patterns.c: is a pattern found in any of the keys of an object? */
bool bb_schema_matches_any(struct bb_schema *schema, const char *pattern, json_t *keys);
/* Refuses patternProperties of which a key may belong to two, or to one and to a name of `properties`, and schemas of
 * other keys beside them. */
void bb_schema_check_patterns(struct bb_schema *schema, json_t *json);

/* schema_numbers.c: nodes. */
uint32_t bb_schema_integer(struct bb_schema *schema, json_t *json);
uint32_t bb_schema_number(struct bb_schema *schema, json_t *json);

/* schema_values.c: nodes. */
uint32_t bb_schema_terminal(struct bb_schema *schema, enum bb_schema_terminal terminal);
uint32_t bb_schema_literal(struct bb_schema *schema, json_t *value);
uint32_t bb_schema_string(struct bb_schema *schema, json_t *json);
/* The content of a string in which the keyword's pattern is found. */
uint32_t bb_schema_pattern(struct bb_schema *schema, const char *keyword, const char *pattern, size_t length);
uint32_t bb_schema_count(struct bb_schema *schema, json_t *json, const char *keyword, uint32_t fallback);
/* A JSON string without escapes that is none of the keys of an object. */
uint32_t bb_schema_other_key(struct bb_schema *schema, json_t *keys);

#endif
