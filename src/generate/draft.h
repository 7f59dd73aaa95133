/* Speculation: guesses of the next tokens, from a smaller model or from the text so far, that one step of the model then verifies. */
#ifndef BB_DRAFT_H
#define BB_DRAFT_H

#include "generate/sampler.h"
#include "generate/session.h"

/* Where guesses come from: a draft session, an n-gram size, or (both absent) nowhere. */
struct bb_draft {
    struct bb_session *session; /* NULL: none */
    struct bb_sampler
        *sampler;       /* the request's: guesses are drawn as the tokens will be, with the same random numbers */
    int32_t ngram_size; /* 0: none */
};

/* Guesses up to `limit` tokens that follow `tokens` [count]; the number of them, 0 where there is no idea. */
BB_RESULT bombus_status bb_draft_propose(struct bb_draft *draft, const int32_t *tokens, size_t count, int32_t *guesses,
                                         int32_t limit, int32_t *guess_count, bombus_error *error);
/* Of the last guesses the first `right` were accepted. */
void bb_draft_settle(struct bb_draft *draft, int32_t right);

#endif
