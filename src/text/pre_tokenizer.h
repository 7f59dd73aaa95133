/* Pre-tokenizers of tokenizer.json: they cut a text into the pieces that the model encodes one by one. */
#ifndef BB_PRE_TOKENIZER_H
#define BB_PRE_TOKENIZER_H

#include "text/component.h"
#include "text/pieces.h"

struct bb_pre_tokenizer; /* a list of steps; immutable after create */

/* *pre_tokenizer is NULL for a JSON null. */
BB_RESULT bombus_status bb_pre_tokenizer_create(struct bb_pre_tokenizer **pre_tokenizer,
                                                const struct bb_component *component);
void bb_pre_tokenizer_free(struct bb_pre_tokenizer *pre_tokenizer); /* NULL is allowed */

/* A text and its pieces; the same again as room for the next step. Zeroed struct = empty. One thread at a time. */
struct bb_pre_tokenized {
    struct bb_buffer text, next_text; /* valid UTF-8 */
    struct bb_pieces pieces, next_pieces;
    struct bb_matcher matcher;
};
void bb_pre_tokenized_clear(struct bb_pre_tokenized *state);

/* Cuts the pieces that are text further; pieces with an id stay. */
BB_RESULT bombus_status bb_pre_tokenizer_apply(const struct bb_pre_tokenizer *pre_tokenizer,
                                               struct bb_pre_tokenized *state, bombus_error *error);

#endif
