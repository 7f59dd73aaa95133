/* Walks through JSON text without building a tree: for the two large values of tokenizer.json. The rest of a file
 * goes to jansson. */
#ifndef BB_JSON_TEXT_H
#define BB_JSON_TEXT_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A place in JSON text that is valid UTF-8. All functions return false where the text is not what they expect, and
 * then leave the place at the fault. */
struct bb_json_cursor {
    const char *next, *end;
};

void bb_json_skip_space(struct bb_json_cursor *cursor);
/* Skips space and, if it comes next, `letter`. */
bool bb_json_take(struct bb_json_cursor *cursor, char letter);
/* Appends the content of a string. */
bool bb_json_read_string(struct bb_json_cursor *cursor, struct bb_buffer *content);
/* An integer of at most `limit`, not negative. */
bool bb_json_read_integer(struct bb_json_cursor *cursor, uint32_t limit, uint32_t *value);
bool bb_json_read_number(struct bb_json_cursor *cursor, double *value);
/* Skips a value of any kind. Strings and brackets are followed; what else stands between is not judged. */
bool bb_json_skip_value(struct bb_json_cursor *cursor);
/* Skips a string; *begin and *length are what is between the quotes, escapes as they are. */
bool bb_json_skip_string(struct bb_json_cursor *cursor, const char **begin, size_t *length);

#endif
