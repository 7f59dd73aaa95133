/* A request of an engine, from submission to its end: what was asked, what was generated, and its place in the cache. */
#ifndef BB_REQUEST_H
#define BB_REQUEST_H

#include "generate/completion.h"
#include "generate/prefix_tree.h"
#include "model/adapter.h"

#include <stdatomic.h>

/* What a request needs to know of its engine. */
struct bb_request_limits {
    int32_t vocab_size, context_size, page_limit;
};

struct bb_request {
    struct bb_request *next; /* in a list */
    uint64_t id;
    struct bb_completion completion;
    bombus_prompt_progress progress;
    void *progress_context;
    bombus_request_finished finished;
    void *context;
    struct bb_adapter_choice *adapters; /* its own; NULL: the model as it is. Prefixes are shared among equals */
    int32_t priority;
    int32_t overtaken; /* requests that came later and began earlier */
    int32_t *timeline; /* prompt and generated tokens */
    int32_t prompt_count, count;
    int32_t fed;                    /* tokens whose keys and values are in the cache */
    int32_t pages;                  /* those of its own that it has or may still take */
    struct bb_prefix *prefix;       /* where it stands in the tree of prefixes; NULL: nowhere */
    int32_t depth;                  /* pages from the root to there */
    bool shares;                    /* it goes on taking pages from the tree, and leaving its own */
    int32_t reused;                 /* prompt tokens that others had computed */
    double deadline;                /* seconds of the monotonic clock; 0: none */
    double submitted, began, drawn; /* likewise; 0: not yet */
    atomic_bool is_cancelled;
};

/* Checks and copies a request. Everything that it will need but the cache and the adapters is taken here. On failure *request is NULL. */
BB_RESULT bombus_status bb_request_create(struct bb_request **request, const bombus_request *given,
                                          const struct bb_tokenizer *tokenizer, const struct bb_request_limits *limits,
                                          bombus_error *error);
void bb_request_free(struct bb_request *request); /* NULL is allowed */

/* Pages that it fills at most; the last token is never fed. */
int32_t bb_request_page_limit(const struct bb_request *request);
/* Draws the next token and appends it. */
BB_RESULT bombus_status bb_request_draw(struct bb_request *request, const float *logits, bombus_error *error);
/* Whether it is cancelled, or overdue at `now` (bb_clock_seconds); its finish_reason then says which. */
bool bb_request_is_unwanted(struct bb_request *request, double now);
/* Calls its last callback; `error` is NULL where it went well. */
void bb_request_report(struct bb_request *request, const bombus_error *error);

#endif
