/* The engine: a queue of requests and the thread that runs them as one batch. Any thread may call these functions but free, which no callback may. */
#ifndef BB_ENGINE_H
#define BB_ENGINE_H

#include "generate/runner.h"

struct bb_engine;

/* See bombus_engine_create. Model, backend and tokenizer (may be NULL) are borrowed and must outlive the engine. */
BB_RESULT bombus_status bb_engine_create(struct bb_engine **engine, const struct bb_model *model,
                                         struct bb_backend *backend, const struct bb_tokenizer *tokenizer,
                                         const bombus_engine_options *options, bool is_exact, bombus_error *error);
void bb_engine_free(struct bb_engine *engine); /* NULL is allowed */

/* See bombus_engine_submit; the engine takes the adapters that were chosen for its model (NULL: none), also on failure. */
BB_RESULT bombus_status bb_engine_submit(struct bb_engine *engine, const bombus_request *request,
                                         struct bb_adapter_choice *adapters, uint64_t *id, bombus_error *error);
bool bb_engine_cancel(struct bb_engine *engine, uint64_t id);
void bb_engine_get_stats(struct bb_engine *engine, bombus_engine_stats *stats);

#endif
