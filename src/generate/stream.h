/* Tokens to text as it becomes certain: whole characters, and nothing that may be the beginning of a stop string. */
#ifndef BB_STREAM_H
#define BB_STREAM_H

#include "text/tokenizer.h"

struct bb_text_stream;

/* The tokenizer is borrowed; stop strings are checked (each error names its option) and copied. */
BB_RESULT bombus_status bb_text_stream_create(struct bb_text_stream **stream, const struct bb_tokenizer *tokenizer,
                                              const char *const *stop, size_t stop_count, bombus_error *error);
void bb_text_stream_free(struct bb_text_stream *stream); /* NULL is allowed */

/* Adds a token; special ones have no text. *text (valid until the next call) is what became certain. *is_stopped: a stop
 * string is complete, and *text ends before it. */
BB_RESULT bombus_status bb_text_stream_add(struct bb_text_stream *stream, int32_t id, const char **text, size_t *length,
                                           bool *is_stopped, bombus_error *error);
/* The same for the last token; `id` -1 adds none: nothing is held back any more. */
BB_RESULT bombus_status bb_text_stream_finish(struct bb_text_stream *stream, int32_t id, const char **text,
                                              size_t *length, bool *is_stopped, bombus_error *error);

#endif
