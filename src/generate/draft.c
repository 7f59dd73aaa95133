/* Speculation.
 *
 * A token is always drawn from the model's own logits with the random numbers of its position (sampler.h), and a guess is right if it is that very token.
 * So the output is token for token that of plain generation with the same seed, greedy or sampled; speculation changes the speed alone. The draft
 * model draws its guesses with the same random numbers, which makes both draw the same token more often than independent draws would. */
#include "generate/draft.h"

#include <string.h>

/* The tokens that followed the latest earlier occurrence of the last n. */
static int32_t look_up(const int32_t *tokens, size_t count, size_t size, int32_t *guesses, int32_t limit)
{
    if (count <= size)
        return 0;
    const int32_t *last = tokens + (count - size);
    for (size_t place = count - size; place-- > 0;) {
        if (tokens[place] != last[0] || memcmp(tokens + place, last, size * sizeof *last) != 0)
            continue;
        size_t found = count - (place + size);
        found = found < (size_t)limit ? found : (size_t)limit;
        memcpy(guesses, tokens + place + size, found * sizeof *guesses);
        return (int32_t)found;
    }
    return 0;
}

/* Each guess is fed on trial, but the last. */
static bombus_status run_model(struct bb_draft *draft, const int32_t *tokens, size_t count, int32_t *guesses,
                               int32_t limit, int32_t *guess_count, bombus_error *error)
{
    struct bb_session *session = draft->session;
    size_t reused;
    int32_t room = bb_session_context_size(session) - (int32_t)count;
    *guess_count = 0;
    if (count > (size_t)bb_session_context_size(session))
        return BOMBUS_OK; /* past the draft's context: go on without */
    bombus_status status = bb_session_prepare(session, tokens, count, NULL, NULL, &reused, error);
    for (int32_t i = 0; i < limit && i <= room && status == BOMBUS_OK; i++) {
        if (i > 0)
            status = bb_session_try(session, &guesses[i - 1], 1, error);
        if (status == BOMBUS_OK)
            status = bb_sampler_draw(draft->sampler, bb_session_logits(session), session->tokens,
                                     (size_t)session->count, &guesses[i], error);
        *guess_count = i + 1;
    }
    return status;
}

bombus_status bb_draft_propose(struct bb_draft *draft, const int32_t *tokens, size_t count, int32_t *guesses,
                               int32_t limit, int32_t *guess_count, bombus_error *error)
{
    *guess_count = 0;
    if (limit <= 0)
        return BOMBUS_OK;
    if (draft->session != NULL)
        return run_model(draft, tokens, count, guesses, limit, guess_count, error);
    if (draft->ngram_size > 0)
        *guess_count = look_up(tokens, count, (size_t)draft->ngram_size, guesses, limit);
    return BOMBUS_OK;
}

void bb_draft_settle(struct bb_draft *draft, int32_t right)
{
    struct bb_session *session = draft->session;
    if (session == NULL)
        return;
    int32_t tried = session->count - session->committed;
    bb_session_accept(session, session->committed + (right < tried ? right : tried));
}
