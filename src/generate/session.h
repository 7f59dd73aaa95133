/* A session: one timeline of tokens over a model, with its part of a key-value cache. Sessions that were made together share cache and scratch
 * memory, so that one step can carry a row of each. One thread at a time uses the sessions made together; groups are independent. */
#ifndef BB_SESSION_H
#define BB_SESSION_H

#include "model/adapter.h"
#include "model/decoder.h"

enum { BB_MAX_TRY_ROWS = 65 }; /* rows of one bb_session_try */

struct bb_session_group;

struct bb_session {
    struct bb_session_group *group;
    int32_t sequence;  /* in the group's cache */
    int32_t *tokens;   /* [context_size] */
    int32_t count;     /* tokens held */
    int32_t committed; /* of them, those that bb_session_accept has made lasting */
    /* f32 rows [row_count, vocab_size] of the last step's outputs, the last one that of the last token; valid while
     * `step` is the group's (bb_session_logits says). */
    const float *rows;
    int32_t row_count;
    uint64_t step;
    struct bb_adapter_choice *adapters; /* of its rows from now on; NULL: none */
    uint64_t content; /* which adapters the cache's content was computed with: their fingerprint, or a hash of several in turn */
};

/* `count` sessions of one group. The options are checked, each error names its option. Group and model: the backend and
 * the model are borrowed and must outlive the sessions. On failure all sessions are NULL. */
BB_RESULT bombus_status bb_sessions_create(struct bb_session **sessions, size_t count, const struct bb_model *model,
                                           struct bb_backend *backend, const bombus_session_options *options,
                                           bool is_exact, bombus_error *error);
void bb_session_free(struct bb_session *session); /* NULL is allowed; the group goes with its last session */

const struct bb_model *bb_session_model(const struct bb_session *session);
int32_t bb_session_context_size(const struct bb_session *session);
/* Logits of the last token, NULL where they are not there (any more). */
const float *bb_session_logits(const struct bb_session *session);

/* Scratch memory for steps of `rows` rows, `outputs` of which give logits; steps of prompt chunks and of one row have it. */
BB_RESULT bombus_status bb_session_reserve(struct bb_session *session, int32_t rows, int32_t outputs,
                                           bombus_error *error);

/* Are these ids of the vocabulary (ARGUMENT), and is there room for them (CONTEXT_FULL)? The functions below ask it. */
BB_RESULT bombus_status bb_session_check(const struct bb_session *session, const int32_t *tokens, size_t count,
                                         bombus_error *error);

/* See bombus_session_step, bombus_sessions_step. After a failure other than ARGUMENT and CONTEXT_FULL the session holds
 * the chunks of tokens that were computed. */
BB_RESULT bombus_status bb_session_step(struct bb_session *session, const int32_t *tokens, size_t count,
                                        bombus_error *error);
BB_RESULT bombus_status bb_sessions_step(struct bb_session *const *sessions, const int32_t *tokens, size_t count,
                                         bombus_error *error);

/* Feeds at most BB_MAX_TRY_ROWS tokens on trial and gives the logits of all of them in session->rows. Then accept says
 * how many of the session's tokens stay (at least those accepted before): nothing that a window drops is lost until then. */
BB_RESULT bombus_status bb_session_try(struct bb_session *session, const int32_t *tokens, int32_t count,
                                       bombus_error *error);
void bb_session_accept(struct bb_session *session, int32_t count);

/* See bombus_session_set_adapters. On failure the session keeps those it had. */
BB_RESULT bombus_status bb_session_set_adapters(struct bb_session *session, struct bb_adapter *const *adapters,
                                                const float *weights, size_t count, bombus_error *error);

/* See bombus_session_truncate. */
BB_RESULT bombus_status bb_session_truncate(struct bb_session *session, size_t length, bombus_error *error);

/* Makes the session hold exactly `prompt`, with logits: keeps the prefix that it holds already (*reused tokens) if the
 * cache allows and the adapters are those it was computed with, computes the rest. `progress` (may be NULL) is called before each chunk; BOMBUS_ERROR_CANCELLED if it
 * returns false. */
BB_RESULT bombus_status bb_session_prepare(struct bb_session *session, const int32_t *prompt, size_t count,
                                           bombus_prompt_progress progress, void *context, size_t *reused,
                                           bombus_error *error);

/* For prompt cache files: what must agree between the session that was written and the one that reads. */
struct bb_session_identity {
    uint64_t fingerprint; /* of the model */
    uint64_t adapters;    /* of rows from now on; 0: none */
    uint64_t content;     /* adapters that the content was computed with */
    int32_t vocab_size, kv_type, max_kv_size, context_size;
    int32_t kv_group_size; /* 0: the usual one, bb_kv_cache_usual_group_size */
    bool is_exact;
};
struct bb_session_identity bb_session_identify(const struct bb_session *session);

/* The cache's content as bytes; and the session replaced by tokens, cache bytes and logits (NULL: none). On failure the
 * session is as before, or empty where the cache cannot hold both. */
BB_RESULT bombus_status bb_session_write(const struct bb_session *session, struct bb_buffer *bytes,
                                         bombus_error *error);
BB_RESULT bombus_status bb_session_replace(struct bb_session *session, const int32_t *tokens, int32_t count,
                                           const void *bytes, size_t size, const float *logits, bombus_error *error);

#endif
