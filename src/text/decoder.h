/* Decoders of tokenizer.json: from tokens back to text. */
#ifndef BB_DECODER_H
#define BB_DECODER_H

#include "text/component.h"
#include "text/pieces.h"

struct bb_decoder; /* a list of steps; immutable after create */

/* *decoder is NULL for a JSON null. */
BB_RESULT bombus_status bb_decoder_create(struct bb_decoder **decoder, const struct bb_component *component);
void bb_decoder_free(struct bb_decoder *decoder); /* NULL is allowed */

/* Is it Metaspace alone: a character for spaces, which come out but in the first token? *keeps_first: in that one too. */
bool bb_decoder_is_metaspace(const struct bb_decoder *decoder, bool *keeps_first);

/* Tokens under way, and room for the next step. Zeroed struct = empty. One thread at a time. */
struct bb_decoding {
    struct bb_buffer text, next_text;
    struct bb_pieces tokens, next_tokens; /* places in the text; ids are of no use here */
    struct bb_matcher matcher;
};
void bb_decoding_clear(struct bb_decoding *decoding);
/* Forgets the tokens, keeps the room. */
void bb_decoding_reset(struct bb_decoding *decoding);
void bb_decoding_add(struct bb_decoding *decoding, const char *token, size_t length);

/* Appends the text of the tokens to `text`, valid UTF-8. Without a decoder they are joined by spaces. */
BB_RESULT bombus_status bb_decoder_apply(const struct bb_decoder *decoder, struct bb_decoding *decoding,
                                         struct bb_buffer *text, bombus_error *error);

#endif
