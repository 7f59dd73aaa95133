/* Log-probabilities of given tokens, in steps small enough that the logits of all their rows fit into a bounded memory. */
#include "generate/score.h"

#include "generate/logits.h"

#include <math.h>

enum { LOGITS_BYTES = 32 << 20 };

static double logprob_of(const float *logits, int32_t vocab_size, int32_t id)
{
    return (double)logits[id] - bb_logits_log_sum_exp_exact(logits, vocab_size);
}

bombus_status bb_session_score(struct bb_session *session, const int32_t *tokens, size_t count, double *logprobs,
                               bombus_logits_callback callback, void *context, bombus_error *error)
{
    int32_t vocab_size = bb_session_model(session)->recipe.vocab_size,
            rows = LOGITS_BYTES / (int32_t)sizeof(float) / vocab_size;
    rows = rows < 1 ? 1 : rows >= BB_MAX_TRY_ROWS ? BB_MAX_TRY_ROWS - 1 : rows;
    bombus_status status = bb_session_check(session, tokens, count, error);
    if (status != BOMBUS_OK || count == 0)
        return status;
    /* The first token's logits are those of the token before it, where the session has them. */
    const float *last = bb_session_logits(session);
    logprobs[0] = last != NULL ? logprob_of(last, vocab_size, tokens[0]) : (double)NAN;
    status = bb_session_reserve(session, rows, rows, error);
    for (size_t first = 0; first < count && status == BOMBUS_OK; first += (size_t)rows) {
        int32_t fed = count - first < (size_t)rows ? (int32_t)(count - first) : rows;
        status = bb_session_try(session, tokens + first, fed, error);
        if (status != BOMBUS_OK)
            break;
        bb_session_accept(session, session->count);
        for (int32_t i = 0; i < fed && first + (size_t)i + 1 < count; i++)
            logprobs[first + (size_t)i + 1] =
                logprob_of(session->rows + (size_t)i * (size_t)vocab_size, vocab_size, tokens[first + (size_t)i + 1]);
        if (callback != NULL && !callback(context, first, (size_t)fed, session->rows, vocab_size))
            status = bb_fail(error, BOMBUS_ERROR_CANCELLED, "scoring was stopped by its callback");
    }
    return status;
}
