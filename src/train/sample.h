/* What the model, as training has made it so far, answers to a prompt: the likeliest tokens, for people who watch. */
#ifndef BB_SAMPLE_H
#define BB_SAMPLE_H

#include "base/buffer.h"
#include "model/trainable.h"
#include "text/tokenizer.h"

#include <stdatomic.h>

struct bb_sample_options {
    const int32_t *prompt; /* [count] */
    size_t count;
    int32_t max_tokens;
    bool is_exact;
    const atomic_bool *is_cancelled; /* once it is set, no further token comes */
};

/* Appends the text, without special tokens. */
BB_RESULT bombus_status bb_sample_text(struct bb_buffer *text, const struct bb_trainable *trainable,
                                       struct bb_backend *backend, const struct bb_tokenizer *tokenizer,
                                       const struct bb_sample_options *options, bombus_error *error);

#endif
