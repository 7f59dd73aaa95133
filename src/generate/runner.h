/* The running requests of an engine, stepped as the rows of one batch: cache, scratch memory, shared prefixes. One thread uses it; it knows of no
 * other, and of no queue. */
#ifndef BB_RUNNER_H
#define BB_RUNNER_H

#include "generate/request.h"
#include "model/decoder.h"

struct bb_runner;

struct bb_runner_options {
    int32_t max_batch, context_size;
    int32_t chunk_size; /* prompt tokens a step, of all requests together; at least BB_KV_PAGE_SIZE */
    int32_t page_limit; /* of the cache */
    enum bb_kv_type kv_type;
    int32_t kv_group_size; /* as in bb_kv_cache_options */
    bool is_exact, shares_prefixes;
};

/* Takes back a request that has ended; `error` is NULL where it went well. It may add and end others only by way of flags that the next step reads. */
typedef void (*bb_runner_end)(void *context, struct bb_request *request, const bombus_error *error);

struct bb_runner_counts {
    uint64_t steps, prompt_tokens, reused_tokens, generated_tokens;
    uint64_t used_bytes, kept_bytes,
        evicted_bytes; /* of the cache: at work or kept; in the tree of prefixes; given up for room */
};

BB_RESULT bombus_status bb_runner_create(struct bb_runner **runner, const struct bb_model *model,
                                         struct bb_backend *backend, const struct bb_runner_options *options,
                                         bb_runner_end end, void *context, bombus_error *error);
void bb_runner_free(struct bb_runner *runner); /* NULL is allowed; nothing may be running */

/* Is there a place for it, and memory for all that it may need? */
bool bb_runner_fits(const struct bb_runner *runner, const struct bb_request *request);
/* Begins a request that fits. */
void bb_runner_add(struct bb_runner *runner, struct bb_request *request);
/* Ends what is cancelled or overdue; then a row of every running generation, chunks of prompts, and a token from each row that is a last one. */
void bb_runner_step(struct bb_runner *runner);
/* The first half of a step alone. */
void bb_runner_end_unwanted(struct bb_runner *runner);

struct bb_runner_counts bb_runner_count(const struct bb_runner *runner);

#endif
