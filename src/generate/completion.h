/* One request's output: draws token after token from logits that somebody computes, gives text, log-probabilities and events, and knows when it ends.
 * It does not know where the logits come from: a session's step, a trial of several tokens, a row of a batch. */
#ifndef BB_COMPLETION_H
#define BB_COMPLETION_H

#include "generate/grammar/matcher.h"
#include "generate/sampler.h"
#include "generate/stream.h"

enum { BB_MAX_TOP_LOGPROBS = 1024 };

struct bb_completion {
    struct bb_sampler *sampler;
    struct bb_text_stream *stream; /* NULL without a tokenizer */
    struct bb_selection selection; /* for the alternatives */
    bombus_token_logprob *top;
    int32_t top_count, vocab_size;
    bool wants_logprobs;
    int32_t *eos_ids; /* [eos_count]: the tokenizer's or the constraint's, unless they are ignored, and the request's */
    size_t eos_count;
    struct bb_grammar_matcher matcher; /* without constraint: zeroed */
    float *masked;                     /* [vocab_size], with a constraint: the logits of tokens that may follow */
    bombus_token_callback callback;
    void *context;
    int32_t *ids; /* [limit] */
    size_t count, limit;
    struct bb_buffer text;
    bool is_done;
    bombus_finish_reason finish_reason;
};

/* Is it a prompt of a model with that vocabulary, and is there room for it? */
BB_RESULT bombus_status bb_completion_check_prompt(const int32_t *prompt, size_t count, int32_t vocab_size,
                                                   int32_t context_size, bombus_error *error);
/* The most tokens that can follow a prompt: max_tokens, or what the context has room for. */
size_t bb_completion_limit(const bombus_generate_options *options, size_t prompt_count, int32_t context_size);

/* `limit`: the most tokens there can be. The tokenizer (NULL: no text) is borrowed. Clearing a zeroed or half-made one is allowed. */
BB_RESULT bombus_status bb_completion_init(struct bb_completion *completion, const struct bb_tokenizer *tokenizer,
                                           const bombus_generate_options *options, int32_t vocab_size, size_t limit,
                                           bombus_error *error);
void bb_completion_clear(struct bb_completion *completion);

/* Draws the token at position `count`, after `tokens`, and reports it; sets is_done with the last. *id is drawn. */
BB_RESULT bombus_status bb_completion_next(struct bb_completion *completion, const float *logits, const int32_t *tokens,
                                           size_t count, int32_t *id, bombus_error *error);

#endif
