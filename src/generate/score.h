/* How likely given tokens are. */
#ifndef BB_SCORE_H
#define BB_SCORE_H

#include "generate/session.h"

/* See bombus_session_score. */
BB_RESULT bombus_status bb_session_score(struct bb_session *session, const int32_t *tokens, size_t count,
                                         double *logprobs, bombus_logits_callback callback, void *context,
                                         bombus_error *error);

#endif
